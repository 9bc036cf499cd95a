"""Handlers of the URLs that are neither a resource's nor a command's: aggregates, receipts, me and the import of the register."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.http.answer import Answer, Headers, count_read, respond_conditionally
from api.http.auth import authenticate
from api.http.body import read_files
from api.http.context import get_context
from api.http.response import JSON, JsonResponse
from api.http.target import read_path
from api.rest import aggregate_csv, csv
from api.rest.aggregate_formats import FORMATS, SVG, SVG_HEADERS, choose_format, find_picture_issues
from api.rest.aggregate_pictures import MAX_ROWS_DRAWN, draw
from api.rest.headers import make_next_link, refuse_if_match, refuse_if_none_match
from api.rest.query_string import check_parameters
from domain import COMMANDS
from domain.access.caller import Caller
from domain.aggregates import aggregates
from domain.aggregates.explanation_query import read_explanation_query
from domain.aggregates.explanations import read_explanation
from domain.aggregates.query import AggregateQuery, read_query
from domain.aggregates.readiness import read_readiness
from domain.aggregates.transition_query import read_transition_query
from domain.aggregates.transitions import read_transitions
from domain.clients.me import read_me
from domain.declare.errors import BadRequest, Issue, PartlyRead
from domain.declare.scopes import Scope
from domain.declare.value_types import ValueType
from domain.publishing.read_preview import read_preview
from domain.read.checks import FUNCTION_VALUES
from domain.read.groups_read import GroupsRead
from domain.read.prepared import REACH_VERSION
from domain.roster.gias.command import import_gias, require_import_scope
from domain.support.slices import run_in_slices
from domain.write.idempotency import check_key
from domain.write.stored_answers import read_stored_answers


async def get_aggregates(request: Request) -> Response:
    """GET /v1/aggregates. The response depends on all data within the caller's reach, so the version of the whole reach decides whether a cached
    body is still the same."""
    caller = await authenticate(request)
    get_context(request.scope).charge(values=FUNCTION_VALUES["aggregates"])
    preferred = choose_format(request)
    run = partial(_write_aggregates, request, caller)
    return await respond_conditionally(request, caller, (), REACH_VERSION, preferred, _respond_with_aggregates, run)


async def _respond_with_aggregates(answer: Answer) -> JsonResponse:
    return JsonResponse(answer.body, *answer.headers[1:], kind=answer.headers[0])


async def _write_aggregates(request: Request, caller: Caller) -> tuple[bytes, Headers, GroupsRead | None]:
    """The body, its header fields, the first of which is the media type, and the groups that it pools."""
    state = request.app.state
    if choose_format(request) is SVG:
        return await _draw_aggregates(request, caller)
    as_csv, shape, issues = csv.read_format(request, FORMATS)
    query = await _read_question(request, caller, issues)
    page = await aggregates.read_aggregates(
        state.database, caller, state.cursors, aggregate_csv.make_whole_query(query) if shape == "wide" else query
    )
    end = page.page.end_cursor if page.page.has_more else None
    link = ((b"link", make_next_link(request, end).encode()),) if end else ()
    if as_csv:
        write = aggregate_csv.write_wide_table if shape == "wide" else aggregate_csv.write_long_table
        mark = csv.BYTE_ORDER_MARK if csv.wants_mark(request) else b""
        return mark + await run_in_slices(write(page, query)), (csv.CSV, *csv.make_file_headers("aggregates"), *link), page.groups
    return msgspec.json.encode(page), (JSON, *link), page.groups


async def _read_question(request: Request, caller: Caller, issues: Sequence[Issue]) -> AggregateQuery:
    """The question of a request. Raises BadRequest with these issues, what cannot be read, and what the rest names and is not within reach."""
    try:
        return read_query((pair for pair in request.query_params.multi_items() if pair[0] not in csv.PARAMETERS), issues)
    except PartlyRead as problem:
        raise await aggregates.add_unknown_names(request.app.state.database, caller, problem) from None


async def _draw_aggregates(request: Request, caller: Caller) -> tuple[bytes, Headers, GroupsRead | None]:
    """The picture of every row, with a link to its table."""
    state = request.app.state
    query = await _read_question(request, caller, find_picture_issues(request))
    page = await aggregates.read_aggregates(state.database, caller, state.cursors, replace(query, first=MAX_ROWS_DRAWN))
    picture = draw(page, query, str(request.url.path) + "?" + request.url.query)
    table = request.url.include_query_params(format="csv")
    link = (b"link", f'<{table.path}?{table.query}>; rel="alternate"; type="text/csv"; title="The table of this picture"'.encode())
    return picture, (SVG, *SVG_HEADERS, link), page.groups


async def get_stored_answers(request: Request) -> Response:
    """GET /v1/idempotency-keys/{key}: the stored responses to the requests with this Idempotency-Key."""
    state, caller = request.app.state, await authenticate(request)
    check_parameters(request.query_params)
    get_context(request.scope).charge(values=FUNCTION_VALUES["receipt"])
    answers = await read_stored_answers(state.database, caller, check_key(read_path(request, "key")), COMMANDS.values())
    return _make_private_response(answers)


async def get_readiness(request: Request) -> Response:
    """GET /v1/trusts/{id}/readiness: what stops each school of the trust from being aggregated."""
    state, caller = request.app.state, await authenticate(request)
    check_parameters(request.query_params)
    get_context(request.scope).charge(values=FUNCTION_VALUES["readiness"])
    return _make_private_response(await read_readiness(state.database, caller, read_path(request, "id")))


async def get_publication_preview(request: Request) -> Response:
    """GET /v1/windows/{id}/publication-preview: what an edition would hide and why. As CSV a row for each group."""
    state, caller = request.app.state, await authenticate(request)
    caller.require_scope(Scope.AGGREGATES_INTERNAL, "publicationPreview")
    check_parameters(request.query_params, "format", "bom")
    get_context(request.scope).charge(values=FUNCTION_VALUES["publicationPreview"])
    as_csv, _, issues = csv.read_format(request)
    if issues:
        raise BadRequest(issues[0].message, code="parameter-invalid", issues=tuple(issues))
    preview = await read_preview(state.database, caller, read_path(request, "id"))
    if not as_csv:
        return _make_private_response(preview)
    mark = csv.BYTE_ORDER_MARK if csv.wants_mark(request) else b""
    body = mark + await run_in_slices(csv.write_preview(preview))
    response = JsonResponse(body, *csv.make_file_headers("publication-preview"), kind=csv.CSV)
    response.headers["Cache-Control"] = "no-store"
    return response


async def get_transitions(request: Request) -> Response:
    """GET /v1/aggregates/transitions: how the pupils of two windows moved between the places of their grades."""
    state, caller = request.app.state, await authenticate(request)
    caller.require_scope(Scope.AGGREGATES_INTERNAL, "transitions")
    get_context(request.scope).charge(values=FUNCTION_VALUES["transitions"])
    pairs = [pair for pair in request.query_params.multi_items() if pair[0] not in csv.PARAMETERS or pair[0] == "shape"]
    as_csv, _, issues = csv.read_format(request)
    page = await read_transitions(state.database, caller, state.cursors, read_transition_query(pairs, issues))
    response = _make_private_response(page)
    if page.groups_read is not None:
        count_read(request, caller, page.groups_read)
    if as_csv:
        mark = csv.BYTE_ORDER_MARK if csv.wants_mark(request) else b""
        response = JsonResponse(
            mark + await run_in_slices(csv.write_transitions(page)), *csv.make_file_headers("transitions"), kind=csv.CSV
        )
        response.headers["Cache-Control"] = "no-store"
    if page.page.has_more and page.page.end_cursor:
        response.headers["Link"] = make_next_link(request, page.page.end_cursor)
    return response


async def get_explanation(request: Request) -> Response:
    """GET /v1/aggregates/explain: which schools, schemes, crosswalks and pupils one figure came from."""
    state, caller = request.app.state, await authenticate(request)
    caller.require_scope(Scope.AGGREGATES_INTERNAL, "explain")
    get_context(request.scope).charge(values=FUNCTION_VALUES["aggregateExplanation"])
    query = read_explanation_query(request.query_params.multi_items())
    explanation = await read_explanation(state.database, caller, state.cursors, query)
    response = _make_private_response(explanation)
    if explanation.groups_read is not None:
        count_read(request, caller, explanation.groups_read)
    if explanation.page.has_more and explanation.page.end_cursor:
        response.headers["Link"] = make_next_link(request, explanation.page.end_cursor)
    return response


async def get_me(request: Request) -> Response:
    """GET /v1/me: the client's grants and limits."""
    state, caller = request.app.state, await authenticate(request)
    check_parameters(request.query_params)
    get_context(request.scope).charge(values=FUNCTION_VALUES["me"])
    return _make_private_response(await read_me(state.database, caller, state.limits))


async def import_register(request: Request) -> Response:
    """POST /v1/imports/gias: the DfE's register of schools (GIAS) as multipart/form-data, with `asOf` and each file under any name."""
    state, caller = request.app.state, await authenticate(request)
    require_import_scope(caller)
    check_parameters(request.query_params)
    refuse_if_none_match(request)
    refuse_if_match(request, "An import changes many rows: leave If-Match out.")
    fields, files = await read_files(request)
    try:
        as_of = ValueType.DATE.parse(fields.get("asOf"))
    except ValueError as problem:
        issue = Issue("/asOf", "required", "asOf is the day of the extract, such as 2022-04-20.")
        raise BadRequest(issue.message, code="parameter-invalid", issues=(issue,)) from problem
    force = fields.get("force", "false")
    if force not in ("true", "false"):
        issue = Issue("/force", "wrong-value", "force is true or false: whether an extract older than the last is imported.")
        raise BadRequest(issue.message, code="parameter-invalid", issues=(issue,))
    if not files:
        issue = Issue("/files", "required", "Send at least one of establishments, groups and group links as a file.")
        raise BadRequest(issue.message, code="parameter-invalid", issues=(issue,))
    return _make_private_response(await import_gias(state.database, caller, files, as_of, force == "true"))


def _make_private_response(answer: object) -> Response:
    return Response(msgspec.json.encode(answer), headers={"Cache-Control": "no-store"}, media_type="application/json")
