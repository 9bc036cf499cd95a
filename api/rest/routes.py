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
from domain.engine import query
from domain.engine.access import Caller, Scope
from domain.engine.command import REST, Batch, Command, check_key, perform
from domain.engine.errors import BadRequest, Issue, NotFound
from domain.engine.ids import parse_id
from domain.engine.resource import Kind, Resource
from domain.engine.selection import Many, Nested, Selection, Single, Value, check_cost, permit
from domain.insight import aggregates
from domain.roster.imports import import_gias

Handler = Callable[[Request], Awaitable[Response]]

PAGE = re.compile(rb'"page":\{"hasMore":(true|false),"endCursor":(?:"([^"]*)"|null)\}\}$')
VERSIONED = re.compile(rb'\{"version":(\d+),"row":(.*)\}', re.DOTALL)
MERGE_PATCH = ("application/merge-patch+json", "application/json")


def routes() -> list[Route]:
    """GET lists and items of every resource, a lookup of pupils by what may not stand in a URL, the commands (place_of), the aggregates."""
    table: dict[str, dict[str, Handler]] = {}
    for resource in RESOURCES.values():
        table[f"/v1/{resource.plural}"] = {"GET": list_of(resource)}
        if resource.has_id:
            table[f"/v1/{resource.plural}/{{id}}"] = {"GET": item_of(resource)}
    for command in COMMANDS.values():
        if REST in command.doors:
            method, path = place_of(command)
            table.setdefault(path, {})[method] = does(command)
    table["/v1/aggregates"] = {"GET": aggregate}
    table["/v1/imports/gias"] = {"POST": import_register}
    lookup = Route("/v1/pupils/lookup", lookup_of(RESOURCES["pupil"]), methods=["POST"])
    return [lookup, *(Route(path, _by_method(handlers), methods=list(handlers)) for path, handlers in table.items())]


def place_of(command: Command) -> tuple[str, str]:
    """The method and URL of a command, by its name: record_pupils and create_window POST to the noun's list, update_pupil and delete_window PATCH and
    DELETE one row of it, and any other verb, as open_window, is POSTed to that row."""
    verb, noun = command.name.split("_", 1)
    plural = next(resource.plural for resource in RESOURCES.values() if noun in (resource.name, resource.plural))
    match verb:
        case "record" | "create":
            return "POST", f"/v1/{plural}"
        case "update":
            return "PATCH", f"/v1/{plural}/{{id}}"
        case "delete":
            return "DELETE", f"/v1/{plural}/{{id}}"
    return "POST", f"/v1/{plural}/{{id}}/{verb}"


def is_changeable(resource: Resource) -> bool:
    """Whether a row of it can be changed by itself."""
    return f"update_{resource.name}" in COMMANDS


def success_of(command: Command) -> int:
    """The status of a command that was carried out."""
    return {"create": 201, "delete": 204}.get(command.name.split("_")[0], 200)


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
    """One row. A row that can be changed has its version for an ETag, unless others are included: it says nothing of those."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        row = read.read_item(request, resource, caller)
        if is_changeable(resource) and all(isinstance(item, Value) for _, item in row):
            row = (("version", Value(resource.fields["version"])), ("row", Nested(row)))
        picked = resource.identify(request.path_params["id"])
        root = Single(resource, picked or (), row)
        permit([root], caller)
        check_cost([root])
        (body,) = (None,) if picked is None else await query.read([root], state.database, caller.client_id, state.cursors)
        if body is None:
            raise NotFound()
        headers = {"Cache-Control": "private, no-store", "Vary": "Accept, Authorization"}
        if versioned := VERSIONED.fullmatch(body):
            headers["ETag"], body = read.tag_of(int(versioned[1])), versioned[2]
        return Response(body, headers=headers, media_type="application/json")

    return handle


def does(command: Command) -> Handler:
    """A command. Preferences, the idempotency key and dryRun mean the same for all of them."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        dry_run = _no_parameters(request, ("dryRun",)).get("dryRun", "false")
        if dry_run not in ("true", "false"):
            message = "dryRun is true or false."
            raise BadRequest(message, code="parameter-invalid", issues=(Issue("dryRun", "parameter-invalid", message),))
        caller.needs(command.scope, command.operation)
        preferences = read.read_preferences(request)
        given, body = await _given(request, command, preferences)
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
        status = success_of(command) if dry_run == "false" else 200
        if status == 204:
            return Response(status_code=status, headers=headers)
        if command.changes and dry_run == "false":
            headers["ETag"] = read.tag_of(msgspec.json.decode(done.answer)["version"])
        return Response(done.answer, status, headers, "application/json")

    return handle


async def _given(request: Request, command: Command, preferences: read.Preferences) -> tuple[Any, bytes]:
    """What a command is given, and the bytes that tell one request from another under the same Idempotency-Key."""
    if "id" not in request.path_params:
        document, body = await read_json(request)
        return command.read(document, lenient=preferences.lenient, represent=preferences.represent), body
    row_id = request.path_params["id"]
    versions = read.read_versions(request) if command.changes else None
    if request.method == "PATCH":
        document, body = await read_json(request, MERGE_PATCH)
    else:
        document, body = {}, await read_body(request)
        if body.strip() not in (b"", b"{}"):
            raise BadRequest("This command takes no body.", code="body-unexpected")
    if command.changes:
        asked = f"{row_id} {'*' if versions is None else sorted(versions)} ".encode()
        return command.read_change(row_id, versions, document), asked + body
    if parse_id(row_id) is None:
        raise NotFound()
    return command.read({"id": row_id}), row_id.encode()


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


async def import_register(request: Request) -> Response:
    """The GIAS files as multipart/form-data: `asOf`, and each file under any name."""
    state, caller = request.app.state, await authenticate(request)
    caller.needs(Scope.IMPORTS_WRITE, "Importing the register")
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
