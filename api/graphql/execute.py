"""Answers one GraphQL operation: reads as one SQL statement, commands and FUNCTIONS by the domain's, introspection by graphql-core.

Documents are parsed and validated once and found again by their text.
"""

import sys
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLObjectType,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    Token,
    execute_sync,
)
from graphql.execution.values import VariableValues, get_variable_values

from api.graphql.form import lift, lift_variables, shaping_variables
from api.graphql.limits import (
    MAX_ERRORS,
    LimitExceeded,
    check_entries,
    check_shape,
    check_values,
    has_more_values,
    parse,
    used,
    validate,
)
from api.graphql.limits import Limits as DocumentLimits
from api.graphql.mutations import mutate
from api.graphql.response import Answer, failed, refused, told
from api.graphql.schema import schema
from api.graphql.selection import Collected, Reader
from api.kept import Kept, key_of
from api.problems import as_domain_error
from domain import COMMANDS, RESOURCES
from domain.consent.me import Limits, read_me
from domain.engine.access import Caller
from domain.engine.answers import kept_answers
from domain.engine.cursor import Cursors
from domain.engine.database import Database
from domain.engine.errors import BadRequest, DomainError, Forbidden, Issue, NotFound
from domain.engine.idempotency import check_key
from domain.engine.lru import Lru, size_of
from domain.engine.prepared import EVERYTHING, Prepared, read
from domain.engine.selection import Root, check_cost, permit
from domain.engine.slices import run_in_slices, run_in_thread
from domain.insight import aggregates
from domain.insight.question import read_question

LIMITS = DocumentLimits()
FUNCTION_COST = 20_000
MANY_VALUES = 5_000
"""Values of variables beyond which they are coerced beside the event loop."""
_BETWEEN = b"\x00"
"""Stands in no JSON text."""


@dataclass(frozen=True)
class Asker:
    """Who asks, and what an answer is made with."""

    caller: Caller
    database: Database
    cursors: Cursors
    base_url: str
    introspection: bool
    limits: Limits
    forms: Lru[Hashable, "Asked"]
    kept: Kept


_numbers = count(1)


@dataclass(frozen=True)
class Operation:
    """One operation of a valid document, the variables that are a part of its form, and a number that no other has."""

    definition: OperationDefinitionNode
    shaping: frozenset[str]
    number: int = field(default_factory=_numbers.__next__)


@dataclass(frozen=True)
class Document:
    """A parsed and validated document, or what is wrong with it, as it is answered."""

    operations: Mapping[str | None, Operation]
    fragments: dict[str, FragmentDefinitionNode]
    errors: tuple[dict[str, Any], ...] = ()

    def operation(self, name: str | None) -> Operation | None:
        """The one that is named, or the only one."""
        return (
            self.operations.get(name)
            if name is not None or len(self.operations) > 1
            else next(iter(self.operations.values()), None)
        )


TOKEN = 450
"""Bytes that a document takes for each token of its source, with the nodes made of them."""


def _weight(key: tuple[str, bool], found: Document) -> int:
    """About how many bytes a document takes. The values of its tokens are its source once more."""
    source = sys.getsizeof(key[0])
    located = next((operation.definition.loc for operation in found.operations.values()), None)
    if located is None:
        return source + size_of(found)
    token: Token | None = located.start_token
    while token is not None and token.prev is not None:
        token = token.prev
    tokens = 0
    while token is not None:
        tokens, token = tokens + 1, token.next
    return 1000 + 2 * source + TOKEN * tokens


documents: Lru[tuple[str, bool], Document] = Lru("GraphQL documents", 8_000_000, weigh=_weight)
introspections: Lru[bytes, dict[str, bytes]] = Lru("introspection", 4_000_000, share=2)
"""What the schema tells of itself, by document, operation and variables: always the same."""


def document(source: str, suggestions: bool) -> Document:
    """The document of a text."""
    key = source, suggestions
    return documents.get(key) or documents.put(key, _read_document(source, suggestions))


def _read_document(source: str, suggestions: bool) -> Document:
    """Limits come before validation, which is quadratic where they are not."""
    try:
        parsed: DocumentNode = parse(source, LIMITS)
        check_shape(parsed, LIMITS)
        errors = validate(schema(), parsed, suggestions=suggestions)
    except LimitExceeded as problem:
        return Document({}, {}, (told(GraphQLError(problem.detail, extensions={"code": problem.code})),))
    except GraphQLError as problem:
        return Document({}, {}, (told(problem),))
    if errors:
        return Document({}, {}, tuple(map(told, errors)))
    operations = [d for d in parsed.definitions if isinstance(d, OperationDefinitionNode)]
    fragments = {d.name.value: d for d in parsed.definitions if isinstance(d, FragmentDefinitionNode)}
    return Document({(d.name.value if d.name else None): Operation(d, shaping_variables(d)) for d in operations}, fragments)


@dataclass(frozen=True)
class Asked:
    """What a form was read as: the roots, and the bytes between their texts."""

    prepared: Prepared
    between: tuple[bytes, ...]


def reads(source: str, name: object, suggestions: bool) -> bool:
    """Whether the operation of this name in a document is a query."""
    wanted = document(source, suggestions).operation(name if isinstance(name, str) and name else None)
    return wanted is not None and wanted.definition.operation is OperationType.QUERY


async def execute(asker: Asker, source: str, operation_name: str | None, variables: dict[str, Any]) -> Answer:
    """The answer to one operation of a document: by what its form was read as, else read now."""
    if len(source.encode()) > LIMITS.bytes:
        return refused([{"message": f"A document has at most {LIMITS.bytes:,} bytes.", "extensions": {"code": "graphql-too-long"}}])
    form, texts = lift(source)
    found = document(form, asker.introspection)
    operation = found.operation(operation_name)
    try:
        if operation is not None and operation.definition.operation is OperationType.QUERY:
            variables = used(operation.definition, variables)
            check_values(variables)
            answer = await _by_form(asker, found, operation, source, variables, texts)
            if answer is not None:
                return answer
        return await _execute(asker, source, operation_name, variables)
    except Exception as error:  # every error has an answer; what is unforeseen is logged and told as nothing more
        return failed(as_domain_error(error), asker.base_url)


async def _by_form(
    asker: Asker, found: Document, operation: Operation, source: str, variables: dict[str, Any], texts: list[str]
) -> Answer | None:
    """The answer by what the form of the request was or can be read as; None where it must be read as it stands, if only to say what is wrong."""
    of_variables, lifted = lift_variables(variables, operation.shaping, texts)
    key = (operation.number, of_variables, asker.caller.scopes)
    with suppress(ValueError, GraphQLError, BadRequest, Forbidden):
        if (asked := asker.forms.get(key)) is None:
            asked = _form(asker, found, operation, lifted, texts)
            if asked is None:
                return None
            asker.forms.put(key, asked)
        bodies = await _bodies(asker, asked.prepared, texts, _key(asker.caller.told, source, operation.definition, variables))
        pieces = [piece for before, body in zip(asked.between, bodies, strict=False) for piece in (before, body or b"null")]
        return Answer(b"".join([*pieces, asked.between[-1]]))
    return None


def _key(told: bytes, source: str, operation: OperationDefinitionNode, variables: dict[str, Any]) -> bytes:
    """The key of the answer to a query, which the schema gives to all alike or to a caller (Caller.told)."""
    name = operation.name.value if operation.name else ""
    return key_of(told, b"graphql", name.encode(), source.encode(errors="surrogatepass"), msgspec.json.encode(variables))


async def _bodies(asker: Asker, prepared: Prepared, texts: list[str], key: bytes) -> list[bytes | None]:
    """The roots' texts: those kept, where they still are what would be read."""
    caller, database, cursors = asker.caller, asker.database, asker.cursors
    if caller.uniform is not None and (was := asker.kept.state_of(key)) is not None:
        now = await prepared.state(database, caller.client_id, cursors, caller.uniform, texts, was)
        if now is not None and (kept := asker.kept.body(key, now)) is not None:
            return [body or None for body in kept.split(_BETWEEN)]
    bodies, state = await prepared.read(database, caller.client_id, cursors, caller.uniform, texts)
    if state is not None:
        asker.kept.keep(key, state, _BETWEEN.join(body or b"" for body in bodies))
    return bodies


def _form(asker: Asker, found: Document, operation: Operation, variables: dict[str, Any], texts: Sequence[str]) -> Asked | None:
    """What a form is read as; None where its answer is no matter of rows alone, or nothing but of these texts. Raises what is wrong with it."""
    root_type = schema().query_type
    assert root_type is not None
    definitions = operation.definition.variable_definitions or ()
    coerced = get_variable_values(schema(), definitions, variables, max_errors=1, hide_suggestions=True)
    if isinstance(coerced, list):
        return None
    reader = Reader(schema(), found.fragments, coerced, asker.caller, asker.cursors, texts)
    roots: list[Root] = []
    between, text = [], b'{"data":{'
    for i, (key, nodes) in enumerate(reader.collect([operation.definition.selection_set], root_type).items()):
        text += b'%s"%s":' % (b"," if i else b"", key.encode())
        if (name := nodes[0].name.value) == "__typename":
            text += b'"Query"'
            continue
        root = _root(reader, root_type, name, nodes) if name not in ("__schema", "__type", *FUNCTIONS) else None
        if root is None:
            return None
        roots.append(root)
        between.append(text)
        text = b""
    if reader.issues or reader.particular or not roots:
        return None
    permit(roots, asker.caller)
    between.append(b'%s},"extensions":{"cost":%d}}' % (text, check_cost(roots)))
    return Asked(Prepared(roots), tuple(between))


async def _execute(asker: Asker, source: str, operation_name: str | None, variables: dict[str, Any]) -> Answer:
    """The answer to an operation as it stands."""
    found = document(source, asker.introspection)
    if found.errors:
        return refused(list(found.errors))
    wanted = found.operation(operation_name)
    if wanted is None:
        return refused([{"message": "Name one of the document's operations in operationName."}])
    operation = wanted.definition
    if operation.operation is OperationType.SUBSCRIPTION:
        return refused([{"message": "There are no subscriptions here."}])
    coerced = await _coerced(operation, used(operation, variables))
    if isinstance(coerced, list):
        return refused([told(error) for error in coerced])
    reader = Reader(schema(), found.fragments, coerced, asker.caller, asker.cursors)
    try:
        if operation.operation is OperationType.MUTATION:
            return await mutate(asker, reader, operation)
        return await _read(asker, reader, operation, found, source, variables)
    except GraphQLError as error:
        return refused([told(error)])


async def _coerced(operation: OperationDefinitionNode, variables: dict[str, Any]) -> VariableValues | list[GraphQLError]:
    """The variables as values of their types, or what is wrong with them, without suggestions: `told` leaves out what follows "invalid value"."""
    if operation.operation is OperationType.MUTATION:
        check_entries(variables)
    else:
        check_values(variables)
    given = schema(), operation.variable_definitions or (), variables, MAX_ERRORS, True
    if has_more_values(variables, MANY_VALUES):
        return await run_in_thread(get_variable_values, *given)
    return get_variable_values(*given)


async def _read(
    asker: Asker, reader: Reader, operation: OperationDefinitionNode, found: Document, source: str, variables: dict[str, Any]
) -> Answer:
    root_type = schema().query_type
    assert root_type is not None
    collected = reader.collect([operation.selection_set], root_type)
    pieces: dict[str, bytes] = {}
    roots: dict[str, Root | None] = {}
    for key, nodes in collected.items():
        name = nodes[0].name.value
        if name == "__typename":
            pieces[key] = b'"Query"'
        elif name not in ("__schema", "__type", *FUNCTIONS):
            roots[key] = _root(reader, root_type, name, nodes)
    if reader.issues:
        raise BadRequest("Some arguments cannot be used.", code="argument-invalid", issues=tuple(reader.issues))
    asked = {key: root for key, root in roots.items() if root is not None}
    permit(list(asked.values()), asker.caller)
    only_aggregates = not asked and {nodes[0].name.value for nodes in collected.values()} == {"aggregates"}
    functions = {key: nodes for key, nodes in collected.items() if nodes[0].name.value in FUNCTIONS}
    price = check_cost(list(asked.values()), FUNCTION_COST * len(functions))
    if asked:
        bodies = await read(list(asked.values()), asker.database, asker.caller.client_id, asker.cursors, asker.caller.uniform)
        pieces |= {key: body or b"null" for key, body in zip(asked, bodies, strict=True)}
    kept: tuple[bytes, bytes] | None = None
    if only_aggregates and asker.caller.uniform is not None:
        state = await EVERYTHING.state(asker.database, asker.caller.client_id, asker.cursors, asker.caller.uniform)
        if state is not None:
            kept = _key(asker.caller.told, source, operation, variables), state
            if (body := asker.kept.body(*kept)) is not None:
                return Answer(body)
    for key, nodes in functions.items():
        try:
            answer = await FUNCTIONS[nodes[0].name.value](asker, reader.arguments(root_type, nodes[0]))
        except DomainError as error:
            return failed(error, asker.base_url, [key])
        below = [node.selection_set for node in nodes if node.selection_set is not None]
        shown = await run_in_slices(reader.project(answer, reader.type_of(root_type, nodes[0]), below))
        pieces[key] = msgspec.json.encode(shown)
    pieces |= _introspected(asker, collected, operation, found, reader, source)
    data = b",".join(b'"%s":%s' % (key.encode(), pieces.get(key, b"null")) for key in collected)
    answered = b'{"data":{%s},"extensions":{"cost":%d}}' % (data, price)
    if kept is not None:
        asker.kept.keep(*kept, answered)
    return Answer(answered)


def _root(reader: Reader, root_type: GraphQLObjectType, name: str, nodes: list[FieldNode]) -> Root | None:
    if name == "node":
        return reader.node(reader.arguments(root_type, nodes[0])["id"], nodes)
    for resource in RESOURCES.values():
        if name == resource.name:
            return reader.single(resource, reader.arguments(root_type, nodes[0])["id"], nodes)
        if name == resource.plural:
            return reader.page(resource, root_type, nodes)
    raise AssertionError(name)


async def _aggregates(asker: Asker, given: dict[str, Any]) -> dict[str, Any]:
    pairs = [
        (name, str(each))
        for name, value in given.items()
        if value is not None
        for each in (value if isinstance(value, list) else [value])
    ]
    page = await aggregates.aggregate(asker.database, asker.caller, asker.cursors, read_question(pairs))
    rows = msgspec.to_builtins(page.data)
    ends = {"startCursor": page.cursors[0] if page.cursors else None, "endCursor": page.page.end_cursor}
    return {
        "nodes": rows,
        "edges": [{"cursor": cursor, "node": row} for cursor, row in zip(page.cursors, rows, strict=True)],
        "pageInfo": {"hasNextPage": page.page.has_more, "hasPreviousPage": given.get("after") is not None, **ends},
        "excluded": msgspec.to_builtins(page.excluded),
        "coverage": msgspec.to_builtins(page.coverage),
    }


async def _me(asker: Asker, given: dict[str, Any]) -> Any:
    return msgspec.to_builtins(await read_me(asker.database, asker.caller, asker.limits))


async def _kept(asker: Asker, given: dict[str, Any]) -> Any:
    try:
        kept = await kept_answers(asker.database, asker.caller, check_key(given["key"]), COMMANDS.values())
    except NotFound:
        return None
    return msgspec.json.decode(msgspec.json.encode(kept.data))


FUNCTIONS: Mapping[str, Callable[[Asker, dict[str, Any]], Awaitable[Any]]] = {
    "aggregates": _aggregates,
    "me": _me,
    "receipt": _kept,
}
"""Roots that a function of the domain answers: from who asks and the arguments to plain values, of which what is selected is shown."""


def _introspected(
    asker: Asker, collected: Collected, operation: OperationDefinitionNode, found: Document, reader: Reader, source: str
) -> dict[str, bytes]:
    """The answers of __schema and __type, by graphql-core's executor over just these fields."""
    wanted = {key: nodes for key, nodes in collected.items() if nodes[0].name.value in ("__schema", "__type")}
    if not wanted:
        return {}
    if not asker.introspection:
        raise BadRequest(
            "Introspection is switched off here.",
            code="introspection-off",
            issues=(Issue("__schema", "introspection-off", "It is switched off."),),
        )
    key = _key(b"", source, operation, dict(reader.variables.coerced))
    if (answered := introspections.get(key)) is not None:
        return answered
    selections = tuple(node for nodes in wanted.values() for node in nodes)
    alone = OperationDefinitionNode(
        operation=OperationType.QUERY,
        variable_definitions=operation.variable_definitions,
        directives=(),
        selection_set=SelectionSetNode(selections=selections),
    )
    result = execute_sync(
        schema(), DocumentNode(definitions=(alone, *found.fragments.values())), variable_values=dict(reader.variables.coerced)
    )
    if result.errors:
        raise result.errors[0]
    return introspections.put(key, {root: msgspec.json.encode((result.data or {}).get(root)) for root in wanted})
