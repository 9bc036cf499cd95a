"""What one GraphQL document may ask for: its size, its shape and the work of validating it.

A few hundred bytes of GraphQL can ask for more than any server has, because fields nest, fragments double and validation compares
fields in pairs. So a document passes three checks, and each is cheap for what the one before may let through:

    parse        bytes, tokens, nesting of brackets      one regular expression, before graphql-core's recursive parser
    check_shape  depth, aliases, fields, introspection   one visit to each selection in the source, however often it is spread
    validate     the specification's rules (§5)          graphql-core, on a budget

"Operation", "selection", "response name" and "fragment spread" are terms of the GraphQL specification.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import graphql
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)
from graphql.validation import ASTValidationRule
from graphql.validation.rules import overlapping_fields_can_be_merged
from graphql.validation.validate import ValidationAbortedError

from domain.declare.errors import BadRequest, Issue, make_invalid
from domain.read.query import MAX_VALUES_PER_REQUEST
from domain.write.command import MAX_ENTRIES, make_size_issue

MAX_NESTING = 64
"""Levels of nested brackets of any kind: more than any allowed shape needs, fewer than Python's recursion limit."""
MAX_ERRORS = 20
"""Validation errors listed for one document."""
MAX_SUGGESTIONS = 3
"""Errors of those that have suggestions: comparing a name with all of a schema takes milliseconds."""
MAX_OPERATIONS = 50
"""Operations in one document. Validation visits the fragments of each."""
MAX_INTROSPECTIONS = 5
"""Selections of `__schema` and `__type` in one operation; common tools send one to three."""
MAX_COUNT = 1_000_000_000
"""The highest count. Fragments that double at each level would otherwise make numbers of any length."""

# Comparisons of fields and fragments that validation may make before it gives up (graphql-core documents assigning this attribute).
# One takes 1 to 2 µs, and the default of 500,000 lets 2,000 tokens of one repeated field keep a core busy for 0.7 s. A page of forty
# components that each ask for the same connection takes 14,000.
overlapping_fields_can_be_merged.MAX_COMPLEXITY_BUDGET = 20_000


@dataclass(frozen=True)
class DocumentLimits:
    """The limits of one document. Counts are of one operation with its fragments expanded."""

    bytes: int = 100_000
    """Of the source, in UTF-8."""
    tokens: int = 2_000
    """Of the source, comments included."""
    depth: int = 12
    """Fields inside one another. A connection takes three (itself, `edges`, `node`), or two with `nodes`."""
    aliases: int = 60
    """Fields under another name than their own."""
    fields: int = 500
    """Selections: a spread and an inline fragment count as a field does, since each must be expanded."""


# Below `__schema` and `__type`. A standard introspection query is deeper than data may be, but has no alias.
_INTROSPECTION = DocumentLimits(depth=20, aliases=0, fields=400)
# Lists of the introspection schema through which a type leads to further types. The standard query never puts one inside another.
_TYPE_LISTS = frozenset({"fields", "inputFields", "interfaces", "possibleTypes"})


class LimitExceeded(BadRequest):
    """A document is over a limit. The message has the limit and the measured value, and quotes nothing of the document.

    Codes: `graphql-too-long`, `graphql-too-many-tokens`, `graphql-too-deep`, `graphql-too-many-aliases`,
    `graphql-too-many-fields`, `graphql-too-many-operations`, `graphql-too-much-introspection`, `graphql-too-complex`.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail, code=code)


# Every alternative of `token` matches at least what graphql-core's lexer would, and `end` matches where that lexer would stop. So a
# source that it accepts has exactly these tokens, and of any other source it never reads further than this expression does. (Groups are not possessive:
# early releases of Python 3.11 match those wrongly.)
_LEXEME = re.compile(
    r"""[\ufeff\t\n\r ,]*+(?:
        (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<token>
            [_A-Za-z][_0-9A-Za-z]*+
          | \.\.\. | [!$&:=@|]
          | -?[0-9]++(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?
          | \"{3}(?:[^"\\]|\\"{3}|\\(?!"{3})|"(?!""))*\"{3}
          | "(?!"")(?:[^"\\\n\r]|\\.)*"
          | \#[^\n\r]*+
        )
      | (?P<end>.|\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)


def parse_document(source: str, limits: DocumentLimits) -> DocumentNode:
    """The document of a source. Raises LimitExceeded for its bytes, tokens or nesting, and GraphQLSyntaxError for anything else."""
    size = len(source.encode(errors="surrogatepass"))
    if size > limits.bytes:
        raise LimitExceeded("graphql-too-long", f"The document has {size:,} bytes; the limit is {limits.bytes:,}.")
    # graphql-core has a limit of its own, but says "too many tokens" and "nested too deeply" with the class of any syntax error.
    nesting = 0
    for tokens, lexeme in enumerate(_LEXEME.finditer(source), start=1):
        kind = lexeme.lastgroup
        if kind == "end":
            break
        if tokens > limits.tokens:
            raise LimitExceeded(
                "graphql-too-many-tokens", f"The document has {tokens:,} tokens or more; the limit is {limits.tokens:,}."
            )
        if kind == "open":
            nesting += 1
            if nesting > MAX_NESTING:
                raise LimitExceeded("graphql-too-deep", f"Brackets are nested {nesting} deep or more; the limit is {MAX_NESTING}.")
        elif kind == "close":
            nesting -= 1
    return graphql.parse(source)


def check_shape(document: DocumentNode, limits: DocumentLimits) -> None:
    """Raises LimitExceeded for a parsed document, not yet validated, in which an operation is over a limit.

    What `__schema` and `__type` select is not counted with the data but has limits of its own. Spreads of unknown fragments and of
    fragments in a cycle count for nothing: `validate` reports them.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    shapes: dict[str, _Shape] = {}
    for name, fragment in _sort_fragments(fragments):
        shapes[name] = _measure(fragment.selection_set, shapes)
    operations = [definition for definition in document.definitions if isinstance(definition, OperationDefinitionNode)]
    if len(operations) > MAX_OPERATIONS:
        detail = f"The document has {len(operations)} operations; the limit is {MAX_OPERATIONS}."
        raise LimitExceeded("graphql-too-many-operations", detail)
    for definition in operations:
        _check_limits(_measure(definition.selection_set, shapes), limits, "The operation")


def validate(
    schema: GraphQLSchema, document: DocumentNode, *, suggestions: bool, rules: Collection[type[ASTValidationRule]] | None = None
) -> list[GraphQLError]:
    """The errors of a document by the rules of the specification, or by some of them: at most MAX_ERRORS, then one that says there are more.

    `suggestions` adds "Did you mean ...?" to the first of them, which discloses names of the schema. Raises LimitExceeded where validation takes too many
    comparisons of repeated fields and fragments before it finds an error.
    """
    errors = graphql.validate(schema, document, rules, max_errors=MAX_ERRORS, hide_suggestions=True)
    if len(errors) == 1 and isinstance(errors[0], ValidationAbortedError):
        raise LimitExceeded("graphql-too-complex", "The document repeats fields, or nests fragments, too often to be validated.")
    if errors and suggestions:
        first = graphql.validate(schema, document, rules, max_errors=MAX_SUGGESTIONS)[:MAX_SUGGESTIONS]
        errors[: len(first)] = first
    return errors


def pick_declared(operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that an operation declares. Others are ignored."""
    names = [definition.variable.name.value for definition in operation.variable_definitions or ()]
    return {name: variables[name] for name in names if name in variables}


def has_more_values(variables: Mapping[str, Any], than: int) -> bool:
    """Whether lists and objects in the variables hold more than so many values. Stops counting there."""
    count, remaining = 0, [*variables.values()]
    while remaining:
        value = remaining.pop()
        if isinstance(value, list | dict):
            count += len(value)
            if count > than:
                return True
            remaining += value if isinstance(value, list) else value.values()
    return False


def check_values(variables: Mapping[str, Any]) -> None:
    """Raises BadRequest for more values than the filters of an operation may have."""
    if has_more_values(variables, MAX_VALUES_PER_REQUEST):
        message = f"The variables of an operation that reads hold at most {MAX_VALUES_PER_REQUEST:,} values."
        issue = Issue("variables", "filter-too-long", message)
        raise BadRequest("The variables hold too many values.", code="argument-invalid", issues=(issue,))


def check_entries(variables: Mapping[str, Any]) -> None:
    """Raises Invalid for a list that is longer than a batch may be, before its rows are read."""
    inputs = [variables, *(value for value in variables.values() if isinstance(value, dict))]
    lists = ((name, value) for members in inputs for name, value in members.items() if isinstance(value, list))
    issues = [make_size_issue(name, len(value)) for name, value in lists if len(value) > MAX_ENTRIES]
    if issues:
        raise make_invalid(issues)


def _format_count(count: int) -> str:
    return f"{count:,}" + (" or more" if count >= MAX_COUNT else "")


def _sort_fragments(fragments: Mapping[str, FragmentDefinitionNode]) -> Iterator[tuple[str, FragmentDefinitionNode]]:
    """Each fragment after all that it spreads, so that one visit to each is enough and a long chain needs no recursion.

    Fragments that spread themselves, directly or not, and fragments that spread those are left out.
    """
    sorter = TopologicalSorter({name: set(_list_spreads(node.selection_set)) for name, node in fragments.items()})
    with suppress(CycleError):
        sorter.prepare()
    while sorter.is_active():
        for name in sorter.get_ready():
            if name in fragments:
                yield name, fragments[name]
            sorter.done(name)


def _list_spreads(selection_set: SelectionSetNode | None) -> Iterator[str]:
    for selection in selection_set.selections if selection_set else ():
        if isinstance(selection, FragmentSpreadNode):
            yield selection.name.value
        elif isinstance(selection, FieldNode | InlineFragmentNode):
            yield from _list_spreads(selection.selection_set)


class _Shape(NamedTuple):
    """The counts of a selection set with its fragments expanded. `type_lists` is the depth of nested type lists."""

    depth: int = 0
    aliases: int = 0
    fields: int = 0
    type_lists: int = 0
    introspections: int = 0

    def merge(self, other: "_Shape") -> "_Shape":
        """The shape of a selection set that has the selections of both."""
        return _Shape(
            max(self.depth, other.depth),
            min(self.aliases + other.aliases, MAX_COUNT),
            min(self.fields + other.fields, MAX_COUNT),
            max(self.type_lists, other.type_lists),
            min(self.introspections + other.introspections, MAX_COUNT),
        )


def _measure(selection_set: SelectionSetNode | None, fragments: Mapping[str, _Shape]) -> _Shape:
    shape = _Shape()
    for selection in selection_set.selections if selection_set else ():
        if isinstance(selection, FragmentSpreadNode):
            inside = fragments.get(selection.name.value, _Shape())
            shape = shape.merge(inside._replace(fields=inside.fields + 1))
        elif isinstance(selection, InlineFragmentNode):
            inside = _measure(selection.selection_set, fragments)
            shape = shape.merge(inside._replace(fields=inside.fields + 1))
        elif isinstance(selection, FieldNode):
            shape = shape.merge(_measure_field(selection, _measure(selection.selection_set, fragments)))
    return shape


def _measure_field(field: FieldNode, below: _Shape) -> _Shape:
    aliases = 1 if field.alias else 0
    if field.name.value in ("__schema", "__type"):
        _check_limits(below, _INTROSPECTION, "The introspection")
        # Each level of type lists multiplies the answer by the size of the schema, which no count of fields shows.
        if below.type_lists > 1:
            names = ", ".join(sorted(_TYPE_LISTS))
            raise LimitExceeded(
                "graphql-too-much-introspection", f"Of {names}, {below.type_lists} are nested in one another; the limit is 1."
            )
        return _Shape(depth=1, aliases=aliases, fields=1, introspections=1)
    return _Shape(
        below.depth + 1,
        below.aliases + aliases,
        below.fields + 1,
        below.type_lists + (field.name.value in _TYPE_LISTS),
        below.introspections,
    )


def _check_limits(shape: _Shape, limits: DocumentLimits, subject: str) -> None:
    for measured, limit, code, finding in (
        (shape.depth, limits.depth, "graphql-too-deep", "nests fields {} deep"),
        (shape.aliases, limits.aliases, "graphql-too-many-aliases", "has {} aliases"),
        (shape.fields, limits.fields, "graphql-too-many-fields", "selects {} fields and fragments, all spreads expanded"),
        (shape.introspections, MAX_INTROSPECTIONS, "graphql-too-much-introspection", "selects __schema or __type {} times"),
    ):
        if measured > limit:
            raise LimitExceeded(code, f"{subject} {finding.format(_format_count(measured))}; the limit is {limit:,}.")
