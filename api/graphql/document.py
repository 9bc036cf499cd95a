"""Parses and validates GraphQL documents within the limits, and caches them by their text."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLEnumType,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLSchema,
    ObjectFieldNode,
    OperationDefinitionNode,
    OperationType,
    Token,
    ValueNode,
    type_from_ast,
)
from graphql.type import get_named_type
from graphql.validation import ValuesOfCorrectTypeRule, specified_rules

from api.graphql.errors import strip_error
from api.graphql.limits import DocumentLimits, LimitExceeded, check_shape, parse_document, validate
from api.graphql.literals import InputLiteral, find_places, replace_inputs
from domain.support.lru import Lru, measure_size

LIMITS = DocumentLimits()
TOKEN_BYTES = 450
"""Bytes that a document takes for each token of its source, with the nodes made of them."""

_OTHER_RULES = tuple(rule for rule in specified_rules if rule is not ValuesOfCorrectTypeRule)
_numbers = count(1)


@dataclass(frozen=True)
class Operation:
    """One operation of a valid document, and a number that no other has."""

    definition: OperationDefinitionNode
    executable: DocumentNode
    """The operation and the fragments. It declares no variables: they are coerced before it is executed."""
    shaping: frozenset[str]
    """The variables whose values belong to the request's template (`find_shaping_variables`)."""
    is_query: bool
    literals: Mapping[str, InputLiteral]
    """The literals that are inputs of commands and have faults, by the variables in their place."""
    number: int = field(default_factory=_numbers.__next__)


@dataclass(frozen=True)
class Document:
    """A parsed and validated document, or its errors."""

    operations: Mapping[str | None, Operation]
    fragments: dict[str, FragmentDefinitionNode]
    errors: tuple[GraphQLError, ...] = ()

    def find_operation(self, name: str | None) -> Operation | None:
        """The operation of this name, or without a name the only one."""
        return (
            self.operations.get(name)
            if name is not None or len(self.operations) > 1
            else next(iter(self.operations.values()), None)
        )


def _weigh(key: tuple[str, bool], document: Document) -> int:
    """The approximate memory of a document. The values of its tokens are a second copy of its source."""
    source = sys.getsizeof(key[0])
    located = next((operation.definition.loc for operation in document.operations.values()), None)
    if located is None:
        return source + measure_size([error.formatted for error in document.errors])
    token: Token | None = located.start_token
    while token is not None and token.prev is not None:
        token = token.prev
    tokens = 0
    while token is not None:
        tokens, token = tokens + 1, token.next
    return 1000 + 2 * source + TOKEN_BYTES * tokens


documents: Lru[tuple[str, bool], Document] = Lru("GraphQL documents", 8_000_000, weigh=_weigh)


def read_document(schema: GraphQLSchema, source: str, suggestions: bool) -> Document:
    """The cached or newly parsed document. `suggestions` adds names of the schema to errors."""
    key = source, suggestions
    return documents.get(key) or documents.put(key, _read(schema, source, suggestions))


def _read(schema: GraphQLSchema, source: str, suggestions: bool) -> Document:
    """Checks the limits before validation, which takes quadratic time without them."""
    try:
        parsed = parse_document(source, LIMITS)
        check_shape(parsed, LIMITS)
        errors = validate(schema, parsed, suggestions=suggestions)
        literals: Mapping[str, InputLiteral] = {}
        if errors and not validate(schema, parsed, suggestions=False, rules=_OTHER_RULES):
            parsed, literals = replace_inputs(schema, parsed)
            errors = validate(schema, parsed, suggestions=suggestions, rules=[ValuesOfCorrectTypeRule])
    except LimitExceeded as problem:
        return Document({}, {}, (GraphQLError(problem.detail, extensions={"code": problem.code}),))
    except GraphQLError as problem:
        return Document({}, {}, (strip_error(problem),))
    if errors:
        places = find_places(parsed, {id(error.nodes[0]) for error in errors if error.nodes})
        return Document({}, {}, tuple(strip_error(error, _find_place(error, places)) for error in errors))
    definitions = [d for d in parsed.definitions if isinstance(d, OperationDefinitionNode)]
    fragments = {d.name.value: d for d in parsed.definitions if isinstance(d, FragmentDefinitionNode)}
    operations = (_make_operation(schema, definition, fragments, literals) for definition in definitions)
    return Document({(o.definition.name.value if o.definition.name else None): o for o in operations}, fragments)


def _make_operation(
    schema: GraphQLSchema,
    definition: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    literals: Mapping[str, InputLiteral],
) -> Operation:
    alone = OperationDefinitionNode(
        operation=definition.operation,
        name=definition.name,
        variable_definitions=(),
        directives=definition.directives,
        selection_set=definition.selection_set,
    )
    executable = DocumentNode(definitions=(alone, *fragments.values()))
    return Operation(
        definition,
        executable,
        find_shaping_variables(schema, definition),
        definition.operation is OperationType.QUERY,
        literals,
    )


def _find_place(error: GraphQLError, places: Mapping[int, str]) -> str:
    """The place of the literal that is wrong; empty for another error."""
    node = error.nodes[0] if error.nodes else None
    return places.get(id(node), "") if isinstance(node, ValueNode | ObjectFieldNode) else ""


def is_query(schema: GraphQLSchema, source: str, name: object, suggestions: bool) -> bool:
    """Whether the operation of this name in a document is a query."""
    operation = read_document(schema, source, suggestions).find_operation(name if isinstance(name, str) and name else None)
    return operation is not None and operation.is_query


def find_shaping_variables(schema: GraphQLSchema, operation: OperationDefinitionNode) -> frozenset[str]:
    """The variables whose types contain an enum, which may name an order. They change the SQL statement, so they cannot be its parameters."""
    return frozenset(
        definition.variable.name.value
        for definition in operation.variable_definitions or ()
        if (type_ := type_from_ast(schema, definition.type)) is None or _has_enum(type_, set())  # type: ignore[arg-type]
    )


def _has_enum(type_: GraphQLInputType, seen: set[str]) -> bool:
    named = get_named_type(type_)
    if isinstance(named, GraphQLEnumType):
        return True
    if not isinstance(named, GraphQLInputObjectType) or named.name in seen:
        return False
    seen.add(named.name)
    return any(_has_enum(member.type, seen) for member in named.fields.values())
