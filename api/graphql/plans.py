"""Answers an operation by the plan of its template: the document and the variables without the texts that stand for values.

An operation that selects rows alone has a plan: a compiled statement, and the bytes between its roots. Nothing of a request that has one is parsed,
validated or executed again. A client whose documents hold its values is served as one that sends variables.
"""

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from graphql import GraphQLError, GraphQLSchema
from graphql.execution.values import get_variable_values
from strawberry.types import ExecutionResult

from api.graphql.context import FUNCTIONS, OperationContext
from api.graphql.document import Document, Operation, read_document
from api.graphql.limits import check_values, pick_declared
from api.graphql.operation import INTROSPECTION, make_response_key
from api.graphql.query import Reader
from domain.declare.errors import BadRequest, Forbidden
from domain.read.checks import check_cost, check_scopes
from domain.read.prepared import PreparedQuery
from domain.read.query import ParameterText, Query

# What is never closed is taken to its end, where it has one: from each quote in it, the rest would be looked through again.
_STRINGS = re.compile(r'"""(?:\\"""|[^"]|"(?!""))*(?:"""|\Z)|#[^\n\r]*|"([^"\\\n\r]*)"|"(?:[^"\\\n\r]|\\.)*(?:"|$|(?=[\n\r\\]))')
_BETWEEN = b"\x00"
"""Stands in no JSON text."""


@dataclass(frozen=True)
class OperationPlan:
    """The statement of a template, the bytes of `data` between its roots, and what it costs."""

    prepared: PreparedQuery
    between: tuple[bytes, ...]
    cost: int


async def answer_by_plan(
    schema: GraphQLSchema, context: OperationContext, source: str, name: str | None, variables: Mapping[str, Any]
) -> ExecutionResult | None:
    """The result by the plan that the template has or gets; None where the operation must be executed, if only to say what is wrong with it."""
    template, texts = split_template(source)
    document = read_document(schema, template, context.introspection)
    operation = document.operation(name)
    if operation is None or not operation.is_query:
        return None
    variables = pick_declared(operation.definition, variables)
    check_values(variables)
    shape, lifted = split_variables(variables, operation.shaping, texts)
    key = (operation.number, shape, context.caller.scopes)
    with suppress(ValueError, GraphQLError, BadRequest, Forbidden):
        if (plan := context.plans.get(key)) is None:
            plan = _make_plan(schema, context, document, operation, lifted, texts)
            if plan is None:
                return None
            context.plans.put(key, plan)
        cache_key = make_response_key(context.caller.cache_key, source, operation.definition, variables)
        bodies = await _read_bodies(context, plan.prepared, texts, cache_key)
        pieces = [piece for before, body in zip(plan.between, bodies, strict=False) for piece in (before, body or b"null")]
        data: Any = msgspec.Raw(b"".join([*pieces, plan.between[-1]]))
        return ExecutionResult(data, None, {"cost": plan.cost})
    return None


async def _read_bodies(context: OperationContext, prepared: PreparedQuery, texts: list[str], key: bytes) -> list[bytes | None]:
    """The roots' texts: those of the response cache, where they still are what would be read."""
    caller, database, cursors = context.caller, context.database, context.cursors
    if caller.snapshot is not None and (before := context.responses.find_version(key)) is not None:
        now = await prepared.read_version(database, caller.client_id, cursors, caller.snapshot, texts, before)
        if now is not None and (kept := context.responses.find_body(key, now)) is not None:
            return [body or None for body in kept.split(_BETWEEN)]
    bodies, version = await prepared.read(database, caller.client_id, cursors, caller.snapshot, texts)
    if version is not None:
        context.responses.put(key, version, _BETWEEN.join(body or b"" for body in bodies))
    return bodies


def _make_plan(
    schema: GraphQLSchema,
    context: OperationContext,
    document: Document,
    operation: Operation,
    variables: dict[str, Any],
    texts: Sequence[str],
) -> OperationPlan | None:
    """The plan of a template; None where the operation does not select rows alone, or is true of these texts alone. Raises what is wrong with it."""
    root_type = schema.query_type
    assert root_type is not None
    definition = operation.definition
    coerced = get_variable_values(schema, definition.variable_definitions or (), variables, max_errors=1, hide_suggestions=True)
    if isinstance(coerced, list):
        return None
    reader = Reader(schema, document.fragments, coerced, context.caller, context.cursors, texts)
    roots: list[Query] = []
    between, text = [], b"{"
    for i, (key, nodes) in enumerate(reader.collect([definition.selection_set], root_type).items()):
        text += b'%s"%s":' % (b"," if i else b"", key.encode())
        if (name := nodes[0].name.value) == "__typename":
            text += b'"Query"'
            continue
        root = reader.make_query(root_type, nodes) if name not in (*INTROSPECTION, *FUNCTIONS) else None
        if root is None:
            return None
        roots.append(root)
        between.append(text)
        text = b""
    if reader.issues or reader.particular or not roots:
        return None
    check_scopes(roots, context.caller)
    between.append(text + b"}")
    return OperationPlan(PreparedQuery(roots), tuple(between), check_cost(roots))


def split_template(source: str) -> tuple[str, list[str]]:
    """The document with its strings replaced by placeholders, and the strings. Those with escapes, and in blocks, stay."""
    texts: list[str] = []

    def replace_string(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        texts.append(match[1])
        return f'"\\u0001{len(texts) - 1}"'

    return _STRINGS.sub(replace_string, source), texts


def split_variables(variables: Mapping[str, Any], shaping: Collection[str], texts: list[str]) -> tuple[Hashable, dict[str, Any]]:
    """The shape of the variables, and they with their texts lifted (and added to `texts`). Those that are `shaping` are a part of the shape as they are."""

    def split(value: Any) -> tuple[Hashable, Any]:
        match value:
            case str():
                texts.append(value)
                return None, ParameterText(value, len(texts) - 1)
            case list():
                pairs = [split(one) for one in value]
                return ("[", *(shape for shape, _ in pairs)), [one for _, one in pairs]
            case dict():
                named = {name: split(one) for name, one in value.items()}
                return ("{", *((name, shape) for name, (shape, _) in named.items())), {
                    name: one for name, (_, one) in named.items()
                }
            case None:
                return ("null",), None
        return (type(value), value), value

    shapes: list[Hashable] = []
    lifted: dict[str, Any] = {}
    for name, value in variables.items():
        shape, lifted[name] = (_freeze(value), value) if name in shaping else split(value)
        shapes.append((name, shape))
    return tuple(shapes), lifted


def _freeze(value: Any) -> Hashable:
    match value:
        case list():
            return ("[", *map(_freeze, value))
        case dict():
            return ("{", *((name, _freeze(one)) for name, one in value.items()))
    return (type(value), value)
