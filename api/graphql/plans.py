"""Answers operations by cached plans. Operations that differ only in values have the same template (document and variables) and share one plan.

An operation that selects only rows has a plan: a compiled statement, and the bytes between its root fields. A request with a cached plan is not parsed,
validated or executed. Values in the document are treated as those in variables.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from graphql import GraphQLError, GraphQLSchema, OperationDefinitionNode
from graphql.execution.values import get_variable_values
from strawberry.types import ExecutionResult

from api.graphql.context import FUNCTIONS, OperationContext
from api.graphql.document import Document, Operation, read_document
from api.graphql.limits import check_values, pick_declared
from api.graphql.operation import INTROSPECTION
from api.graphql.query import Reader
from api.http.answer import SEPARATOR, Headers, answer, make_key
from domain.declare.errors import BadRequest, Forbidden
from domain.read.checks import FUNCTION_VALUES, check_cost, check_scopes
from domain.read.groups_read import GroupsRead, join_groups
from domain.read.prepared import REACH_VERSION, PreparedQuery
from domain.read.query import ParameterText, Query
from domain.roster.merged_pupils import PupilIdsOfRead, list_pupil_ids, refuse_merged
from domain.support.lru import Lru

# A string that is never closed matches up to its end, so that the rest is not searched again from each quote in it.
_STRINGS = re.compile(r'"""(?:\\"""|[^"]|"(?!""))*(?:"""|\Z)|#[^\n\r]*|"([^"\\\n\r]*)"|"(?:[^"\\\n\r]|\\.)*(?:"|$|(?=[\n\r\\]))')

introspections: Lru[bytes, bytes] = Lru("introspection", 4_000_000, share=2)
"""Results of introspection by document, operation and variables. They never change."""


@dataclass(frozen=True)
class OperationPlan:
    """The compiled statement of a template, the bytes of `data` between its root fields, the values that it asks for, and the pupils in the keys of its rows.

    `between` is empty where the operation is executed: for aggregates, whose statement reads only the version of what they are made from, and for
    introspection, which has no statement and never changes.
    """

    prepared: PreparedQuery | None
    between: tuple[bytes, ...]
    values: int
    pupil_ids: tuple[PupilIdsOfRead, ...] = ()


async def answer_by_plan(
    schema: GraphQLSchema,
    context: OperationContext,
    source: str,
    name: str | None,
    variables: Mapping[str, Any],
    execute: Callable[[], Awaitable[ExecutionResult]],
) -> ExecutionResult | None:
    """The result by the plan of the operation's template, made if there is none. `execute` executes the operation.

    None where it must be executed without a plan, also to find its errors.
    """
    template, texts = split_template(source)
    document = read_document(schema, template, context.introspection)
    operation = document.find_operation(name)
    if operation is None or not operation.is_query:
        return None
    variables = pick_declared(operation.definition, variables)
    check_values(variables)
    shape, parameters = split_variables(variables, operation.shaping, texts)
    key = (operation.number, shape, context.caller.scopes, context.caller.without_school, context.caller.of_installation)
    with suppress(ValueError, GraphQLError, BadRequest, Forbidden):
        if (plan := context.plans.get(key)) is None:
            plan = _make_plan(schema, context, document, operation, parameters, texts)
            if plan is None:
                return None
            context.plans.put(key, plan)
        context.charge(values=plan.values)
        caller_key = b"" if plan.prepared is None else context.caller.cache_key
        cache_key = _make_response_key(caller_key, source, operation.definition, variables)
        run = None if plan.between else partial(_encode_data, context, execute)
        try:
            if plan.prepared is None:
                body = introspections.get(cache_key) or introspections.put(cache_key, (await _encode_data(context, execute))[0])
                groups = None
            else:
                found = await answer(context, context.caller, cache_key, plan.prepared, texts, run)
                body, groups = found.body, found.groups
        except _OperationFailed as failure:
            return failure.result
        if plan.between:
            bodies = [text or None for text in body.split(SEPARATOR)]
            await refuse_merged(context.database, context.caller, plan.pupil_ids, texts, bodies)
            pieces = zip(plan.between, bodies, strict=False)
            body = b"".join([*(before + (text or b"null") for before, text in pieces), plan.between[-1]])
        if groups is not None:
            context.read_counts.count(context.caller.client_id, groups)
        data: Any = msgspec.Raw(body)
        return ExecutionResult(data, None, {"values": plan.values})
    return None


def _make_response_key(cache_key: bytes, source: str, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> bytes:
    """The key of a query in a cache of responses. `cache_key` is the caller's, or empty where the response is the same for all."""
    name = operation.name.value if operation.name else ""
    return make_key(cache_key, b"graphql", name.encode(), source.encode(errors="surrogatepass"), msgspec.json.encode(variables))


class _OperationFailed(Exception):
    """The executed operation has errors, which must not be cached."""

    def __init__(self, result: ExecutionResult) -> None:
        self.result = result


async def _encode_data(
    context: OperationContext, execute: Callable[[], Awaitable[ExecutionResult]]
) -> tuple[bytes, Headers, GroupsRead | None]:
    result = await execute()
    if result.errors or result.data is None:
        raise _OperationFailed(result)
    return msgspec.json.encode(result.data), (), join_groups(context.groups)


def _make_plan(
    schema: GraphQLSchema,
    context: OperationContext,
    document: Document,
    operation: Operation,
    variables: dict[str, Any],
    texts: Sequence[str],
) -> OperationPlan | None:
    """The plan of a template. None where the operation selects other things than rows, or the plan would hold for these texts alone.

    Raises GraphQLError and DomainError for an invalid operation.
    """
    root_type = schema.query_type
    assert root_type is not None
    definition = operation.definition
    coerced = get_variable_values(schema, definition.variable_definitions or (), variables, max_errors=1, hide_suggestions=True)
    if isinstance(coerced, list):
        return None
    reader = Reader(schema, document.fragments, coerced, context.caller, context.cursors, texts)
    collected = reader.collect([definition.selection_set], root_type)
    names = {nodes[0].name.value for nodes in collected.values()}
    if names == {"aggregates"}:
        return OperationPlan(REACH_VERSION, (), check_cost([], FUNCTION_VALUES["aggregates"] * len(collected)))
    if context.introspection and names & INTROSPECTION and names <= {"__typename"} | INTROSPECTION:
        return OperationPlan(None, (), check_cost([]))
    roots: list[Query] = []
    between, text = [], b"{"
    for i, (key, nodes) in enumerate(collected.items()):
        text += b'%s"%s":' % (b"," if i else b"", key.encode())
        if (name := nodes[0].name.value) == "__typename":
            text += b'"Query"'
            continue
        root = reader.make_query(root_type, nodes) if name not in INTROSPECTION | FUNCTIONS.keys() else None
        if root is None:
            return None
        roots.append(root)
        between.append(text)
        text = b""
    if reader.issues or reader.depends_on_texts or not roots:
        return None
    check_scopes(roots, context.caller)
    between.append(text + b"}")
    return OperationPlan(PreparedQuery(roots, context.caller.scopes), tuple(between), check_cost(roots), list_pupil_ids(roots))


def split_template(source: str) -> tuple[str, list[str]]:
    """The document with placeholders in place of its strings, and the strings. Block strings and strings with escapes are not replaced."""
    texts: list[str] = []

    def replace_string(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        texts.append(match[1])
        return f'"\\u0001{len(texts) - 1}"'

    return _STRINGS.sub(replace_string, source), texts


def split_variables(variables: Mapping[str, Any], shaping: Collection[str], texts: list[str]) -> tuple[Hashable, dict[str, Any]]:
    """The shape of the variables, and the variables with a ParameterText in place of each text, which is added to `texts`.

    The values of the `shaping` variables are a part of the shape.
    """

    def split(value: Any) -> tuple[Hashable, Any]:
        match value:
            case str():
                texts.append(value)
                return None, ParameterText(value, len(texts) - 1)
            case list():
                pairs = [split(element) for element in value]
                return ("[", *(shape for shape, _ in pairs)), [element for _, element in pairs]
            case dict():
                members = {name: split(member) for name, member in value.items()}
                return ("{", *((name, shape) for name, (shape, _) in members.items())), {
                    name: member for name, (_, member) in members.items()
                }
            case None:
                return ("null",), None
        return (type(value), value), value

    shapes: list[Hashable] = []
    parameters: dict[str, Any] = {}
    for name, value in variables.items():
        shape, parameters[name] = (_freeze(value), value) if name in shaping else split(value)
        shapes.append((name, shape))
    return tuple(shapes), parameters


def _freeze(value: Any) -> Hashable:
    match value:
        case list():
            return ("[", *map(_freeze, value))
        case dict():
            return ("{", *((name, _freeze(member)) for name, member in value.items()))
    return (type(value), value)
