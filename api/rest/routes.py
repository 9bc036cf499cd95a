"""One page of URLs. Each line is one hop from a URL to a domain function; the handlers below only translate."""

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.http.auth import authenticate
from api.http.body import MAX_BODY, MAX_OTHER_BODY, read_body, read_files, read_json, release_body_after
from api.http.response import JSON, JsonResponse, make_not_modified
from api.http.response_cache import is_known_by, make_etag, make_key
from api.rest import csv
from api.rest import query_string as read
from api.rest.query_string import Parameters
from domain import COMMANDS, RESOURCES
from domain.access.caller import Caller
from domain.aggregates.aggregates import read_aggregates
from domain.aggregates.query import read_query
from domain.clients.me import read_me
from domain.declare.errors import BadRequest, Issue, NotFound
from domain.declare.ids import parse_id
from domain.declare.resource import Resource
from domain.declare.scopes import Scope
from domain.declare.value_types import ValueType
from domain.read.checks import check_cost, check_scopes
from domain.read.prepared import REACH_VERSION, PreparedQuery
from domain.read.query import FieldValue, ListQuery, NestedObject, ParameterText, Query, RowQuery, decode_key
from domain.roster.gias.command import IMPORT, import_gias
from domain.support.slices import run_in_slices
from domain.write.batch import Batch
from domain.write.command import Command
from domain.write.idempotency import check_key
from domain.write.run import perform
from domain.write.stored_answers import read_stored_answers

Handler = Callable[[Request], Awaitable[Response]]

WHOLE = "page"
"""Under what name a list stands in the row that it belongs to, until it is taken out."""
_WHOLE = f'{{"{WHOLE}":'.encode()
LONGEST_PAGE = 4000
"""Bytes of a list's `page`, which comes last."""
PAGE = re.compile(rb'"page":\{"hasMore":(true|false),"endCursor":(?:"([^"]*)"|null)\}\}$')
VERSIONED = re.compile(rb'\{"version":(\d+),"row":(.*)\}', re.DOTALL)
MERGE_PATCH = ("application/merge-patch+json", "application/json")


def routes() -> list[Route]:
    """GET lists and items of every resource and what an item's links lead to, lookups by what may not stand in a URL, the commands (place_of), the
    aggregates, and where a client stands."""
    table: dict[str, dict[str, Handler]] = {}
    for resource in RESOURCES.values():
        table[f"/v1/{resource.plural}"] = {"GET": list_handler(resource)}
        if resource.has_id:
            table[f"/v1/{resource.plural}/{{id}}"] = {"GET": item_handler(resource)}
            for name in (name for name, link in resource.links.items() if link.many):
                table[f"/v1/{resource.plural}/{{id}}/{name}"] = {"GET": linked_handler(resource, name)}
    for command in COMMANDS.values():
        method, path = url_of(command)
        table.setdefault(path, {})[method] = command_handler(command)
    table["/v1/aggregates"] = {"GET": answer_aggregates}
    table["/v1/receipts/{key:path}"] = {"GET": answer_stored}
    table["/v1/me"] = {"GET": answer_me}
    table["/v1/imports/gias"] = {"POST": import_register}
    lookups = {
        f"/v1/{resource.plural}/lookup": {"POST": lookup_handler(resource)}
        for resource in RESOURCES.values()
        if resource.has_lookup
    }
    table = {**lookups, **table}  # before the URLs with an id
    return [Route(path, _dispatch(handlers), methods=list(handlers)) for path, handlers in table.items()]


def url_of(command: Command) -> tuple[str, str]:
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


def success_status(command: Command) -> int:
    """The status of a command that was carried out."""
    return {"create": 201, "delete": 204}.get(command.name.split("_")[0], 200)


def _dispatch(handlers: dict[str, Handler]) -> Handler:
    """One route a path, so that a 405 names every method the path has."""

    async def handle(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return handle


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """What a form was read as. `selection` is the list's, where there is one, and `as_csv` whether it is wanted as a sheet."""

    prepared: PreparedQuery
    selection: ListQuery | None
    as_csv: bool = False


Read = Callable[[Request, Parameters, str, Caller], ReadPlan]
"""What is asked for by a request's parameters, lifted, and the lifted id of its path."""
ReadHandler = Callable[[Request, ReadPlan, bytes], Awaitable[JsonResponse]]


def read_handler(read_form: Read, answer: ReadHandler) -> Handler:
    """GETs: each form is read once, and its requests are answered from then on by the values that differ."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        form, parameters = read.split_template(request.scope["query_string"].decode("latin-1"))
        texts = [value for _, value in parameters if isinstance(value, ParameterText)]
        id_ = ParameterText(request.path_params.get("id", ""), len(texts))
        texts.append(id_)
        key = (handle, form, caller.scopes, csv.accepts_csv(request))
        asked = state.forms.get(key)
        if asked is not None:
            with suppress(ValueError, BadRequest):  # what is wrong is said when the request is read
                return await _respond(request, asked, caller, texts, answer)
        asked = read_form(request, ImmutableMultiDict(parameters), id_, caller)
        response = await _respond(request, asked, caller, texts, answer)
        state.forms.put(key, asked)
        return response

    return handle


def _make_key(request: Request, caller: Caller, as_csv: bool) -> bytes:
    """What tells the answers of one state apart."""
    path, query = request.scope["path"].encode(errors="surrogatepass"), request.scope["query_string"]
    return make_key(caller.cache_key, path, b"csv" if as_csv else b"json", query)


async def _respond(request: Request, asked: ReadPlan, caller: Caller, texts: Sequence[str], answer: ReadHandler) -> Response:
    """The answer, or that it is the one which the client has. Of what can be told by its state, the body is kept for the next who asks."""
    state, snapshot = request.app.state, caller.snapshot
    known = next((value.decode("latin-1") for name, value in request.scope["headers"] if name == b"if-none-match"), None)
    key = _make_key(request, caller, asked.as_csv)
    was = state.kept.state_of(key)
    if snapshot is not None and (known is not None or was is not None):
        now = await asked.prepared.read_version(state.database, caller.client_id, state.cursors, snapshot, texts, was)
        if now is not None:
            digest = make_etag(now, key)
            if known is not None and (tag := is_known_by(digest, known)) is not None:
                return make_not_modified(tag)
            if (body := state.kept.body(key, now)) is not None:
                return or_not_modified((await answer(request, asked, body)).tagged(digest), known)
    (body,), told = await asked.prepared.read(state.database, caller.client_id, state.cursors, snapshot, texts)
    if body is None:
        raise NotFound()
    response = await answer(request, asked, body)
    if told is not None:
        state.kept.keep(key, told, body)
        response.tagged(make_etag(told, key))
    elif response.version:  # so that it can be named in If-Match
        response.tagged(make_etag(body, key))
    return or_not_modified(response, known)


def or_not_modified(answer: JsonResponse, known: str | None) -> Response:
    """The answer, or 304 where If-None-Match says that the client has it (`*`: any)."""
    if known is None or not answer.tag or not (known.strip() == "*" or is_known_by(answer.digest, known)):
        return answer
    return make_not_modified(answer.tag)


def list_handler(resource: Resource) -> Handler:
    def read_form(request: Request, given: Parameters, id_: str, caller: Caller) -> ReadPlan:
        sheet = csv.is_csv_wanted(request)
        selection = read.read_list(given, resource, caller, request.app.state.cursors, sheet=sheet)
        return _make_plan(selection, selection, caller, sheet)

    return read_handler(read_form, _respond_page)


def linked_handler(resource: Resource, name: str) -> Handler:
    """What a to-many link of one row leads to, as a list."""

    def read_form(request: Request, given: Parameters, id_: str, caller: Caller) -> ReadPlan:
        sheet = csv.is_csv_wanted(request)
        many = read.read_linked(given, resource, name, caller, request.app.state.cursors, sheet=sheet)
        picked = decode_key(resource, id_)
        asked = _make_plan(RowQuery(resource, picked or (), ((WHOLE, many),)), many.query, caller, sheet)
        if picked is None:
            raise NotFound()
        return asked

    return read_handler(read_form, _respond_page)


def _make_plan(root: Query, selection: ListQuery, caller: Caller, as_csv: bool) -> ReadPlan:
    check_scopes([root], caller)
    check_cost([selection])
    return ReadPlan(PreparedQuery([root]), selection, as_csv)


def lookup_handler(resource: Resource) -> Handler:
    @release_body_after
    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        _check_no_parameters(request, ())
        body, _ = await read_json(request)
        selection = read.read_lookup(body, resource, caller, state.cursors)
        asked = _make_plan(selection, selection, caller, False)
        (found,), _ = await asked.prepared.read(state.database, caller.client_id, state.cursors, caller.snapshot)
        return await _respond_page(request, asked, found or b"")

    return handle


async def _respond_page(request: Request, asked: ReadPlan, body: bytes) -> JsonResponse:
    """The answer of a list, which may stand in a row."""
    assert asked.selection is not None
    if body.startswith(_WHOLE):
        body = body[len(_WHOLE) : -1]
    page = PAGE.search(body, max(len(body) - LONGEST_PAGE, 0))
    has_next = page is not None and page[1] == b"true" and request.method == "GET"
    link = [(b"link", _link_next(request, page[2].decode()).encode())] if page is not None and has_next else []
    if not asked.as_csv:
        return JsonResponse(body, *link)
    return JsonResponse(
        await run_in_slices(csv.write_list(asked.selection, body)),
        *csv.name_file(asked.selection.resource.plural),
        *link,
        kind=csv.KIND,
    )


def _link_next(request: Request, after: str) -> str:
    """The Link header of the page after a cursor."""
    raw = request.scope["query_string"].decode("latin-1").replace("<", "%3C").replace(">", "%3E")
    others = "&".join(part for part in raw.split("&") if part and not part.startswith("after="))
    return f'<{quote(request.scope["path"])}?{others}{"&" if others else ""}after={after}>; rel="next"'


def item_handler(resource: Resource) -> Handler:
    """One row. The ETag of one that can be changed begins with its version, unless others are included: it says nothing of those."""

    def read_form(request: Request, given: Parameters, id_: str, caller: Caller) -> ReadPlan:
        row = read.read_item(given, resource, caller)
        if is_changeable(resource) and all(isinstance(item, FieldValue) for _, item in row):
            row = (("version", FieldValue(resource.fields["version"])), ("row", NestedObject(row)))
        picked = decode_key(resource, id_)
        root = RowQuery(resource, picked or (), row)
        check_scopes([root], caller)
        check_cost([root])
        if picked is None:
            raise NotFound()
        return ReadPlan(PreparedQuery([root]), None)

    return read_handler(read_form, _respond_item)


async def _respond_item(request: Request, asked: ReadPlan, body: bytes) -> JsonResponse:
    if versioned := VERSIONED.fullmatch(body):
        return JsonResponse(versioned[2], version=versioned[1].decode())
    return JsonResponse(body)


def command_handler(command: Command) -> Handler:
    """A command. Preferences, the idempotency key and dryRun mean the same for all of them."""

    @release_body_after
    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        dry_run = _check_no_parameters(request, ("dryRun",)).get("dryRun", "false")
        if dry_run not in ("true", "false"):
            message = "dryRun is true or false."
            raise BadRequest(message, code="parameter-invalid", issues=(Issue("dryRun", "parameter-invalid", message),))
        caller.require_scope(command.scope, command.operation)
        preferences = read.read_preferences(request)
        given, body = await _read_input(request, command, preferences)
        key = request.headers.get("idempotency-key")
        options = repr((preferences.lenient, preferences.with_results)).encode() if isinstance(given, Batch) else b""
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
        status = success_status(command) if dry_run == "false" else 200
        if status == 204:
            return Response(status_code=status, headers=headers)
        if command.is_single_row and dry_run == "false":
            headers["ETag"] = read.read_tag(msgspec.json.decode(done.answer)["version"])
        return Response(done.answer, status, headers, "application/json")

    return handle


async def _read_input(request: Request, command: Command, preferences: read.Preferences) -> tuple[Any, bytes]:
    """What a command is given, and the bytes that tell one request from another under the same Idempotency-Key."""
    if "id" not in request.path_params:
        document, body = await read_json(request, most=MAX_OTHER_BODY if command.entries is None else MAX_BODY)
        steps = command.parse_in_steps(document, lenient=preferences.lenient, with_results=preferences.with_results)
        return await run_in_slices(steps), body
    row_id = request.path_params["id"]
    versions = read.read_versions(request) if command.is_single_row else None
    if request.method == "PATCH":
        document, body = await read_json(request, MERGE_PATCH)
    else:
        document, body = {}, await read_body(request)
        if body.strip() not in (b"", b"{}"):
            raise BadRequest("This command takes no body.", code="body-unexpected")
    if command.is_single_row:
        asked = f"{row_id} {'*' if versions is None else sorted(versions)} ".encode()
        return command.parse_patch(row_id, versions, document), asked + body
    if "if-match" in request.headers:
        message = "This command looks at the row's state, not at its version: leave If-Match out."
        raise BadRequest(message, code="if-match-unused", issues=(Issue("If-Match", "if-match-unused", message),))
    if parse_id(row_id) is None:
        raise NotFound()
    return command.parse({"id": row_id}), row_id.encode()


def _check_no_parameters(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    asked = read.ParameterIssues()
    single = read.read_single_values(asked, request.query_params, known)
    asked.done()
    return single


async def answer_aggregates(request: Request) -> Response:
    """Aggregates, which are made of everything within reach; what took long to make is kept until anything of that changes."""
    state, caller = request.app.state, await authenticate(request)
    known = request.headers.get("if-none-match")
    key = _make_key(request, caller, csv.accepts_csv(request))
    digest = now = None
    if caller.snapshot is not None:
        now = await REACH_VERSION.read_version(state.database, caller.client_id, state.cursors, caller.snapshot)
    if now is not None:
        digest = make_etag(now, key)
        if known is not None and (tag := is_known_by(digest, known)) is not None:
            return make_not_modified(tag)
    if now is None or (made := state.kept.whole(key, now)) is None:
        made = await _aggregates(request, caller)
        if now is not None:
            state.kept.keep(key, now, *made)
    body, fields = made
    response = JsonResponse(body, *fields[1:], kind=fields[0])
    return or_not_modified(response if digest is None else response.tagged(digest), known)


async def _aggregates(request: Request, caller: Caller) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """The body, and its header fields, of which the first is the media type."""
    state = request.app.state
    as_csv, shape, wrong = csv.read_shape(request)
    question = read_query((pair for pair in request.query_params.multi_items() if pair[0] not in csv.PARAMETERS), wrong)
    page = await read_aggregates(
        state.database, caller, state.cursors, csv.make_whole_query(question) if shape == "wide" else question
    )
    link = ((b"link", _link_next(request, page.page.end_cursor).encode()),) if page.page.has_more and page.page.end_cursor else ()
    if as_csv:
        write = csv.write_wide_table if shape == "wide" else csv.write_long_table
        return await run_in_slices(write(page, question)), (csv.KIND, *csv.name_file("aggregates"), *link)
    return msgspec.json.encode(page), (JSON, *link)


async def answer_stored(request: Request) -> Response:
    """What became of the request with this Idempotency-Key."""
    state, caller = request.app.state, await authenticate(request)
    _check_no_parameters(request, ())
    answers = await read_stored_answers(state.database, caller, check_key(request.path_params["key"]), COMMANDS.values())
    return Response(msgspec.json.encode(answers), headers={"Cache-Control": "no-store"}, media_type="application/json")


async def answer_me(request: Request) -> Response:
    state, caller = request.app.state, await authenticate(request)
    _check_no_parameters(request, ())
    standing = await read_me(state.database, caller, state.limits)
    return Response(msgspec.json.encode(standing), headers={"Cache-Control": "no-store"}, media_type="application/json")


@release_body_after
async def import_register(request: Request) -> Response:
    """The GIAS files as multipart/form-data: `asOf`, and each file under any name."""
    state, caller = request.app.state, await authenticate(request)
    caller.require_scope(Scope.IMPORTS_WRITE, IMPORT)
    _check_no_parameters(request, ())
    fields, files = await read_files(request)
    try:
        as_of = ValueType.DATE.parse(fields.get("asOf"))
    except ValueError as problem:
        issue = Issue("/asOf", "required", "asOf is the day of the extract, such as 2022-04-20.")
        raise BadRequest(issue.message, code="parameter-invalid", issues=(issue,)) from problem
    if not files:
        issue = Issue("/files", "required", "Send at least one of establishments, groups and group links as a file.")
        raise BadRequest(issue.message, code="parameter-invalid", issues=(issue,))
    report = await import_gias(state.database, caller, files, as_of)
    return Response(msgspec.json.encode(report), headers={"Cache-Control": "no-store"}, media_type="application/json")
