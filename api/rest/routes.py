"""One page of URLs. Each line is one hop from a URL to a domain function; the handlers below only translate."""

import csv
import io
import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.auth import authenticate
from api.body import read_body, read_files, read_json
from api.rest import request as read
from domain import COMMANDS, RESOURCES
from domain.consent.me import read_me
from domain.engine import query
from domain.engine.access import Caller, Scope
from domain.engine.command import Batch, Command, check_key, perform
from domain.engine.errors import BadRequest, Issue, NotFound
from domain.engine.ids import parse_id
from domain.engine.resource import Kind, Resource
from domain.engine.selection import Many, Selection, Single, check_cost, permit
from domain.insight import aggregates
from domain.roster.imports import IMPORT, import_gias

Handler = Callable[[Request], Awaitable[Response]]

PAGE = re.compile(rb'"page":\{"hasMore":(true|false),"endCursor":(?:"([^"]*)"|null)\}\}$')


def routes() -> list[Route]:
    """GET lists and items of every resource, a lookup of pupils by what may not stand in a URL, the commands, the aggregates, and where a client stands."""
    table: dict[str, dict[str, Handler]] = {}
    for resource in RESOURCES.values():
        table[f"/v1/{resource.plural}"] = {"GET": list_of(resource)}
        if resource.has_id:
            table[f"/v1/{resource.plural}/{{id}}"] = {"GET": item_of(resource)}
    table["/v1/pupils"]["POST"] = does(COMMANDS["record_pupils"])
    table["/v1/judgements"]["POST"] = does(COMMANDS["record_judgements"])
    table["/v1/targets"]["POST"] = does(COMMANDS["record_targets"])
    table["/v1/schemes"]["POST"] = does(COMMANDS["create_scheme"], 201)
    table["/v1/windows"]["POST"] = does(COMMANDS["create_window"], 201)
    table["/v1/windows/{id}/open"] = {"POST": does(COMMANDS["open_window"])}
    table["/v1/windows/{id}/close"] = {"POST": does(COMMANDS["close_window"])}
    table["/v1/windows/{id}/reopen"] = {"POST": does(COMMANDS["reopen_window"])}
    table["/v1/aggregates"] = {"GET": aggregate}
    table["/v1/me"] = {"GET": me}
    table["/v1/imports/gias"] = {"POST": import_register}
    lookup = Route("/v1/pupils/lookup", lookup_of(RESOURCES["pupil"]), methods=["POST"])
    return [lookup, *(Route(path, _by_method(handlers), methods=list(handlers)) for path, handlers in table.items())]


def _by_method(handlers: dict[str, Handler]) -> Handler:
    """One route a path, so that a 405 names every method the path has."""

    async def handle(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return handle


def list_of(resource: Resource) -> Handler:
    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        selection = read.read_list(request, resource, caller, state.cursors)
        return await _page(request, selection, caller, wants_csv(request))

    return handle


def lookup_of(resource: Resource) -> Handler:
    async def handle(request: Request) -> Response:
        caller = await authenticate(request)
        _no_parameters(request, ())
        body, _ = await read_json(request)
        return await _page(request, read.read_lookup(body, resource, caller, request.app.state.cursors), caller, False)

    return handle


async def _page(request: Request, selection: Selection, caller: Caller, as_csv: bool) -> Response:
    state = request.app.state
    permit([selection], caller)
    check_cost([selection])
    (body,) = await query.read([selection], state.database, caller.client_id, state.cursors)
    assert body is not None
    headers = {"Cache-Control": "private, no-store", "Vary": "Accept, Authorization"}
    page = PAGE.search(body)
    if page is not None and page[1] == b"true" and request.method == "GET":
        following = request.url.remove_query_params("after").include_query_params(after=page[2].decode())
        headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
    if as_csv:
        headers["Content-Disposition"] = f'attachment; filename="{selection.resource.plural}.csv"'
        return Response(to_csv(selection, body), headers=headers, media_type="text/csv; charset=utf-8; header=present")
    return Response(body, headers=headers, media_type="application/json")


def wants_csv(request: Request) -> bool:
    """`format=csv`, or `Accept: text/csv` before JSON."""
    asked = request.query_params.get("format")
    if asked is not None and asked not in ("json", "csv"):
        raise BadRequest(
            "format is json or csv.",
            code="parameter-invalid",
            issues=(Issue("format", "parameter-invalid", "format is json or csv."),),
        )
    return asked == "csv" or (asked is None and request.headers.get("accept", "").split(",")[0].split(";")[0].strip() == "text/csv")


def to_csv(selection: Selection, body: bytes) -> bytes:
    """The rows as RFC 4180 text with the JSON names as header; linked rows as dotted columns. Text that a spreadsheet would run is quoted with '."""
    (_, rows), *_ = selection.items
    columns = _columns(rows.row)  # type: ignore[union-attr]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(".".join(path) for path in columns)
    for row in msgspec.json.decode(body)["data"]:
        writer.writerow(_cell(row, path) for path in columns)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _columns(items: Any) -> list[tuple[str, ...]]:
    columns: list[tuple[str, ...]] = []
    for key, item in items:
        if isinstance(item, Many):
            message = f"A spreadsheet has one row each; leave {key} out of include, or ask for JSON."
            raise BadRequest(message, code="csv-not-flat", issues=(Issue("include", "csv-not-flat", message),))
        below = getattr(item, "row", None)
        columns += [(key, *path) for path in _columns(below)] if below is not None else [(key,)]
    return columns


def _cell(row: Any, path: tuple[str, ...]) -> str:
    for key in path:
        row = None if row is None else row[key]
    if row is None:
        return ""
    if isinstance(row, bool):
        return "true" if row else "false"
    text = " ".join(row) if isinstance(row, list) else str(row)
    return f"'{text}" if isinstance(row, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def item_of(resource: Resource) -> Handler:
    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        row = read.read_item(request, resource, caller)
        root = Single(resource, resource.identify(request.path_params["id"]) or (), row)
        permit([root], caller)
        check_cost([root])
        (body,) = await query.read([root], state.database, caller.client_id, state.cursors)
        if body is None:
            raise NotFound()
        return Response(
            body, headers={"Cache-Control": "private, no-store", "Vary": "Accept, Authorization"}, media_type="application/json"
        )

    return handle


def does(command: Command, status: int = 200) -> Handler:
    """A command by POST. Preferences, the idempotency key and dryRun mean the same for all of them."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        dry_run = _no_parameters(request, ("dryRun",)).get("dryRun", "false")
        if dry_run not in ("true", "false"):
            message = "dryRun is true or false."
            raise BadRequest(message, code="parameter-invalid", issues=(Issue("dryRun", "parameter-invalid", message),))
        caller.needs(command.scope, command.operation)
        preferences = read.read_preferences(request)
        if "id" in request.path_params:
            document: object = {"id": request.path_params["id"]}
            body = await read_body(request)
            if body.strip() not in (b"", b"{}"):
                raise BadRequest("This command takes no body.", code="body-unexpected")
            if parse_id(request.path_params["id"]) is None:
                raise NotFound()
            body = request.path_params["id"].encode()
        else:
            document, body = await read_json(request)
        given = command.read(document, lenient=preferences.lenient, represent=preferences.represent)
        key = request.headers.get("idempotency-key")
        options = repr((preferences.lenient, preferences.represent)).encode() if isinstance(given, Batch) else b""
        done = await perform(
            state.database,
            command,
            caller,
            given,
            dry_run=dry_run == "true",
            key=check_key(key) if key is not None else None,
            body=body + options,
        )
        headers = {"Cache-Control": "no-store"}
        if done.replayed:
            headers["Idempotency-Replayed"] = "true"
        if preferences.applied and isinstance(given, Batch):
            headers["Preference-Applied"] = preferences.applied
        return Response(done.answer, status if dry_run == "false" else 200, headers, "application/json")

    return handle


def _no_parameters(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    asked = read.Asked()
    single = read.single_values(asked, request.query_params, known)
    asked.done()
    return single


async def aggregate(request: Request) -> Response:
    state, caller = request.app.state, await authenticate(request)
    question = aggregates.read_question(request.query_params.multi_items())
    page = await aggregates.aggregate(state.database, caller, state.cursors, question)
    return Response(
        msgspec.json.encode(page),
        headers={"Cache-Control": "private, no-store", "Vary": "Accept, Authorization"},
        media_type="application/json",
    )


async def me(request: Request) -> Response:
    state, caller = request.app.state, await authenticate(request)
    _no_parameters(request, ())
    standing = await read_me(state.database, caller, state.limits)
    return Response(msgspec.json.encode(standing), headers={"Cache-Control": "no-store"}, media_type="application/json")


async def import_register(request: Request) -> Response:
    """The GIAS files as multipart/form-data: `asOf`, and each file under any name."""
    state, caller = request.app.state, await authenticate(request)
    caller.needs(Scope.IMPORTS_WRITE, IMPORT)
    _no_parameters(request, ())
    fields, files = await read_files(request)
    try:
        as_of = Kind.DATE.parse(fields.get("asOf"))
    except ValueError as problem:
        issue = Issue("/asOf", "required", "asOf is the day of the extract, such as 2022-04-20.")
        raise BadRequest(issue.message, code="parameter-invalid", issues=(issue,)) from problem
    if not files:
        issue = Issue("/files", "required", "Send at least one of establishments, groups and group links as a file.")
        raise BadRequest(issue.message, code="parameter-invalid", issues=(issue,))
    report = await import_gias(state.database, caller, files, as_of)
    return Response(msgspec.json.encode(report), headers={"Cache-Control": "no-store"}, media_type="application/json")
