"""Handlers of calendars: those of a trust and of a school as JSON or iCalendar, and iCalendar by a secret link, without a token."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.http.accept import choose_media_type
from api.http.auth import authenticate
from api.http.body import Handler
from api.http.etag import make_etag, or_not_modified
from api.http.field_values import join_lines
from api.http.response import JSON as JSON_TYPE
from api.http.response import JsonResponse
from api.http.target import read_path
from api.rest.query_string import check_parameters
from domain.assessment.calendar import make_calendar, read_calendar, write_icalendar
from domain.assessment.calendar_links import read_linked_calendar
from domain.declare.errors import BadRequest, Issue
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope

ICALENDAR, JSON = "text/calendar", "application/json"
FORMATS = {"json": JSON, "ics": ICALENDAR}


def get_calendar(noun: str) -> Handler:
    """The handler of GET /v1/trusts/{id}/calendar, or of that of a school."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        caller.require_scope(Scope.WINDOWS_READ, "calendar", at_school=False)
        media_type = _choose_format(request)
        of, rows = await read_calendar(state.database, caller.client_id, noun, parse_id(read_path(request, "id")))
        if media_type == ICALENDAR:
            return _respond(request, write_icalendar(of, rows), ICALENDAR)
        return _respond(request, msgspec.json.encode(make_calendar(rows)), JSON)

    return handle


async def get_linked_calendar(request: Request) -> Response:
    """GET /v1/calendars/{secret}: who has the link needs no token. The path stands in no log (RequestMiddleware)."""
    check_parameters(request.query_params)
    of, rows = await read_linked_calendar(request.app.state.database, read_path(request, "secret"))
    return _respond(request, write_icalendar(of, rows), ICALENDAR)


def _choose_format(request: Request) -> str:
    """The media type that `format` or the Accept header asks for."""
    asked_for = check_parameters(request.query_params, "format").get("format")
    if asked_for is None:
        return choose_media_type(join_lines(request.scope, b"accept") or "*/*", (JSON, ICALENDAR)) or JSON
    if asked_for not in FORMATS:
        message = f"format is one of {', '.join(FORMATS)}."
        raise BadRequest(message, code="parameter-invalid", issues=(Issue("format", "parameter-invalid", message),))
    return FORMATS[asked_for]


def _respond(request: Request, content: bytes, kind: str) -> Response:
    """The calendar with its ETag, or a 304: programs ask again every few minutes, whether anything has changed or not."""
    is_icalendar = kind == ICALENDAR
    fields = ((b"content-disposition", b'inline; filename="calendar.ics"'),) if is_icalendar else ()
    media_type = (b"content-type", b"text/calendar; charset=utf-8") if is_icalendar else JSON_TYPE
    response = JsonResponse(content, *fields, kind=media_type).set_etag(make_etag(content))
    if_none_match = join_lines(request.scope, b"if-none-match")
    return response if if_none_match is None else or_not_modified(response, if_none_match)
