"""Handlers of GET lists, linked lists and rows, and of POST lookups."""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import Response

from api.http.answer import Answer, count_read, respond_conditionally
from api.http.auth import allow_replicas, authenticate
from api.http.body import Handler, read_json
from api.http.context import get_context
from api.http.response import JSON, HeaderField, JsonResponse
from api.http.target import read_path
from api.rest import csv
from api.rest.headers import make_next_link
from api.rest.list_query import read_linked_list, read_list, read_lookup, read_row
from api.rest.query_string import Parameters, check_parameters, split_template
from domain import COMMANDS
from domain.access.caller import Caller
from domain.access.standing import check_standing
from domain.declare.errors import BadRequest, NotFound, PartlyRead
from domain.declare.resource import Resource
from domain.read.checks import check_cost, check_scopes
from domain.read.natural_keys import find_row_id
from domain.read.partly_read import add_unknown_codes
from domain.read.prepared import PreparedQuery
from domain.read.query import FieldValue, ListQuery, NestedObject, ParameterText, Query, RowQuery, decode_key
from domain.roster.merged_pupils import PupilIdsOfRead, list_pupil_ids, refuse_merged
from domain.support.slices import run_in_slices

LIST_NAME = "page"
"""The name under which the query of a linked list nests the list in its row. The response is the list alone."""
_LIST_PREFIX = f'{{"{LIST_NAME}":'.encode()
MAX_PAGE_BYTES = 4000
"""Bytes of the member `page`, which is the last one of a list."""
_PAGE = re.compile(rb'"page":\{(?:"totalCount":\d+,)?"hasMore":(true|false),"endCursor":(?:"([^"]*)"|null)\}\}$')
_VERSIONED_ROW = re.compile(rb'\{"version":(\d+),"row":(.*)\}', re.DOTALL)


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """The compiled query of a request template, and how many values it asks for. `list_query` is the list's, if it is a list."""

    prepared: PreparedQuery
    values: int
    list_query: ListQuery | None
    media_type: HeaderField = JSON
    pupil_ids: tuple[PupilIdsOfRead, ...] = ()


PlanMaker = Callable[[Request, Parameters, str, Caller], ReadPlan]
"""Makes the plan of a request from its parameters and the id in its path. Raises what is wrong with them."""
Responder = Callable[[Request, ReadPlan, Answer], Awaitable[JsonResponse]]
"""Makes the response from the answer of the query."""


def read_handler(make_plan: PlanMaker, make_response: Responder, resource: Resource | None = None) -> Handler:
    """The handler of a GET. Requests with the same template share one plan. `resource` is that of the row in the path."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        template, parameters = split_template(request.scope["query_string"].decode("latin-1"))
        texts = [value for _, value in parameters if isinstance(value, ParameterText)]
        name = read_path(request, "id")
        if resource is not None:
            name = await find_row_id(state.database, caller, state.cursors, resource, resource.scope, name)
        id_ = ParameterText(name, len(texts))
        texts.append(id_)
        key = (handle, template, caller.scopes, caller.without_school, caller.of_installation, csv.accepts_csv(request))

        async def respond(plan: ReadPlan) -> Response:
            get_context(request.scope).charge(values=plan.values)

            async def respond_with(answer: Answer) -> JsonResponse:
                await refuse_merged(state.database, caller, plan.pupil_ids, texts, [answer.body])
                return await make_response(request, plan, answer)

            try:
                return await respond_conditionally(request, caller, texts, plan.prepared, plan.media_type, respond_with)
            except NotFound:
                await refuse_merged(state.database, caller, plan.pupil_ids, texts, [None])
                raise

        plan = state.plan_cache.get(key)
        if plan is not None:
            with suppress(ValueError, BadRequest):  # the parameters are read again below, which raises every issue
                return await respond(plan)
        try:
            plan = make_plan(request, ImmutableMultiDict(parameters), id_, caller)
        except PartlyRead as problem:
            raise await add_unknown_codes(problem, state.database, caller, state.cursors) from None
        except NotFound:  # an id that cannot be one: no statement has asked whether the client may still read
            await check_standing(state.database, caller.client_id, {})
            raise
        response = await respond(plan)
        state.plan_cache.put(key, plan)
        return response

    return handle


def list_handler(resource: Resource) -> Handler:
    """The handler of `GET /v1/{plural}`."""

    def make_plan(request: Request, parameters: Parameters, id_: str, caller: Caller) -> ReadPlan:
        as_csv = csv.is_csv_wanted(request)
        query = read_list(parameters, resource, caller, request.app.state.cursors, as_csv=as_csv)
        return _plan_list(query, query, caller, as_csv)

    return read_handler(make_plan, _respond_with_list)


def link_handler(resource: Resource, name: str) -> Handler:
    """The handler of `GET /v1/{plural}/{id}/{link}`, for a link to many rows."""

    def make_plan(request: Request, parameters: Parameters, id_: str, caller: Caller) -> ReadPlan:
        as_csv = csv.is_csv_wanted(request)
        linked = read_linked_list(parameters, resource, name, caller, request.app.state.cursors, as_csv=as_csv)
        row_key = decode_key(resource, id_)
        plan = _plan_list(RowQuery(resource, row_key or (), ((LIST_NAME, linked),)), linked.query, caller, as_csv)
        if row_key is None:
            raise NotFound()
        return plan

    return read_handler(make_plan, _respond_with_list, resource)


def _plan_list(root: Query, query: ListQuery, caller: Caller, as_csv: bool) -> ReadPlan:
    check_scopes([root], caller)
    if as_csv:
        csv.list_columns(query)
    values = check_cost([query])
    return ReadPlan(PreparedQuery([root], caller.scopes), values, query, csv.CSV if as_csv else JSON, list_pupil_ids([root]))


def lookup_handler(resource: Resource) -> Handler:
    """The handler of `POST /v1/{plural}/lookup`."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        check_parameters(request.query_params)
        document, _ = await read_json(request)
        try:
            query = read_lookup(document, resource, caller, state.cursors)
        except PartlyRead as problem:
            raise await add_unknown_codes(problem, state.database, caller, state.cursors) from None
        plan = _plan_list(query, query, caller, False)
        get_context(request.scope).charge(values=plan.values)
        allow_replicas(request)
        (body,), _, groups = await plan.prepared.read(state.database, caller.client_id, state.cursors, caller.snapshot)
        await refuse_merged(state.database, caller, plan.pupil_ids, (), [body])
        response = await _respond_with_list(request, plan, Answer(body or b""))
        if groups is not None:
            count_read(request, caller, groups)
        return response

    return handle


async def _respond_with_list(request: Request, plan: ReadPlan, answer: Answer) -> JsonResponse:
    assert plan.list_query is not None
    body = answer.body
    if body.startswith(_LIST_PREFIX):
        body = body[len(_LIST_PREFIX) : -1]
    page = _PAGE.search(body, max(len(body) - MAX_PAGE_BYTES, 0))
    has_next = page is not None and page[1] == b"true" and request.method != "POST"
    link = [(b"link", make_next_link(request, page[2].decode()).encode())] if page is not None and has_next else []
    if plan.media_type is JSON:
        return JsonResponse(body, *link)
    mark = csv.BYTE_ORDER_MARK if csv.wants_mark(request) else b""
    return JsonResponse(
        mark + await run_in_slices(csv.write_list(plan.list_query, body)),
        *csv.make_file_headers(plan.list_query.resource.plural),
        *link,
        kind=plan.media_type,
    )


def row_handler(resource: Resource) -> Handler:
    """The handler of `GET /v1/{plural}/{id}`.

    The ETag of a row that can be changed begins with the row's version, unless linked rows are included: the version says nothing of those.
    """
    is_changeable = f"update_{resource.name}" in COMMANDS

    def make_plan(request: Request, parameters: Parameters, id_: str, caller: Caller) -> ReadPlan:
        row = read_row(parameters, resource, caller)
        if is_changeable and all(isinstance(field, FieldValue) for _, field in row):
            row = (("version", FieldValue(resource.fields["version"])), ("row", NestedObject(row)))
        row_key = decode_key(resource, id_)
        root = RowQuery(resource, row_key or (), row)
        check_scopes([root], caller)
        values = check_cost([root])
        if row_key is None:
            raise NotFound()
        return ReadPlan(PreparedQuery([root], caller.scopes), values, None, pupil_ids=list_pupil_ids([root]))

    return read_handler(make_plan, _respond_with_row, resource)


async def _respond_with_row(request: Request, plan: ReadPlan, answer: Answer) -> JsonResponse:
    if versioned := _VERSIONED_ROW.fullmatch(answer.body):
        return JsonResponse(versioned[2], version=versioned[1].decode())
    return JsonResponse(answer.body)
