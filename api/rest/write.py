"""Handlers of commands. The Prefer header, the Idempotency-Key and dryRun mean the same for all of them."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import authenticate
from api.http.body import MAX_BODY, MAX_OTHER_BODY, Handler, postpone_collections, read_body
from api.http.command_body import CommandBody
from api.http.streamed_body import StreamedBody
from api.http.target import read_path
from api.rest.headers import (
    Preferences,
    make_row_etag,
    read_if_match,
    read_preferences,
    refuse_if_match,
    refuse_if_none_match,
)
from api.rest.jobs import receive_stream, refuse_long_dry_run
from api.rest.query_string import check_parameters
from api.rest.streams import (
    describe_head,
    find_stream_type,
    list_head_fields,
    list_media_types,
    raise_if_unread,
    read_head,
    read_rows,
)
from domain import RESOURCES
from domain.access.caller import Caller
from domain.declare.errors import BadRequest, DomainError, Issue, NotFound
from domain.declare.ids import parse_id
from domain.read.natural_keys import find_row_id
from domain.support.slices import run_in_slices, run_in_thread
from domain.write.batch import Batch
from domain.write.command import Command
from domain.write.idempotency import KeyedRequest, check_key, describe_preferences, hash_document, hash_text

MERGE_PATCH = ("application/merge-patch+json", "application/json")
"""Media types of a PATCH (RFC 7396)."""


def success_status(command: Command) -> int:
    """The status of a response to a command that was carried out."""
    return {"create": 201, "delete": 204}.get(command.name.split("_")[0], 200)


def command_handler(command: Command) -> Handler:
    """The handler of a command's method and URL."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        stream_type = find_stream_type(request, command)
        head_names = [each.encode_name for each in list_head_fields(command)] if stream_type else []
        parameters = check_parameters(request.query_params, "dryRun", *head_names)
        dry_run = parameters.pop("dryRun", "false")
        if dry_run not in ("true", "false"):
            message = "dryRun is true or false."
            raise BadRequest(message, code="parameter-invalid", issues=(Issue("dryRun", "parameter-invalid", message),))
        caller.require({command.operation: command.need})
        refuse_if_none_match(request)
        if "id" not in request.path_params:
            refuse_if_match(request, "Each row says which version it is for, in expectedVersion: leave If-Match out.")
        preferences = read_preferences(request)
        body = CommandBody()
        try:
            if stream_type is None:
                sent = await _read_input(request, command, caller, preferences, body)
            else:
                stream = StreamedBody(request)
                head = read_head(command, parameters)
                is_job = preferences.is_async and dry_run == "false"
                rows = None if is_job else await _read_rows(request, command, preferences, stream_type, head, stream)
                if rows is None and dry_run == "true":
                    raise refuse_long_dry_run(state.settings.stream_rows)
                if rows is None:
                    return await receive_stream(request, command, caller, preferences, stream_type, head, stream)
                sent = rows
            is_batch = isinstance(sent.command_input, Batch)
            keyed = await _read_key(request, sent, preferences if is_batch else None)
            performed = await state.writes.perform(command, caller, sent.command_input, dry_run=dry_run == "true", keyed=keyed)
        except DomainError as error:
            body.raise_if_malformed(error)
            if stream_type is not None:
                raise_if_unread(stream_type, error)
            raise
        headers = {"Cache-Control": "no-store"}
        if performed.replayed:
            headers["Idempotency-Replayed"] = "true"
        if preferences.applied and is_batch:
            headers["Preference-Applied"] = preferences.applied
        status = success_status(command) if dry_run == "false" else 200
        if status == 204:
            return Response(status_code=status, headers=headers)
        if command.is_single_row and dry_run == "false":
            headers["ETag"] = make_row_etag(msgspec.json.decode(performed.answer)["version"])
        return Response(performed.answer, status, headers, "application/json")

    return handle


_BY_PATH = {resource.path: resource for resource in RESOURCES.values()}


class _Sent(NamedTuple):
    """The input of a command as it was sent: typed, as a JSON document and as bytes. `row` is what names the row and its version in the URL and the
    header, by the names that clients have for them; `prefix` is the same as older programs compare it. `fingerprint` is that of a body which is
    compared by its bytes.
    """

    command_input: Any
    document: object
    body: bytes
    row: Mapping[str, str] = {}
    prefix: bytes = b""
    fingerprint: str = ""


async def _read_key(request: Request, sent: _Sent, preferences: Preferences | None) -> KeyedRequest | None:
    """What the Idempotency-Key of a request is used for, if it has one. `preferences` count for batches."""
    sent_key = request.headers.get("idempotency-key")
    if sent_key is None:
        return None
    fingerprint = sent.fingerprint or await run_in_slices(hash_document(sent.document))
    key, parts = check_key(sent_key), {"body": fingerprint, **sent.row}
    if preferences is None:
        return KeyedRequest(key, parts, sent.prefix + sent.body)
    done_so = preferences.lenient, preferences.with_results
    return KeyedRequest(key, parts | describe_preferences(*done_so), sent.prefix + sent.body + repr(done_so).encode())


async def _read_input(request: Request, command: Command, caller: Caller, preferences: Preferences, body_of: CommandBody) -> _Sent:
    """The input of a command. The URL names a row by its id or its code."""
    most = MAX_OTHER_BODY if command.entries is None else MAX_BODY
    if "id" not in request.path_params:
        document, body = await body_of.read(request, most=most, also=list_media_types(command)[1:])
        steps = command.parse_in_steps(document, lenient=preferences.lenient, with_results=preferences.with_results)
        return _Sent(await run_in_slices(steps), document, body)
    state, resource = request.app.state, _BY_PATH[request.scope["path"].split("/")[2]]
    name = read_path(request, "id")
    versions = read_if_match(request) if command.is_single_row else None
    if request.method == "PATCH":
        document, body = await body_of.read(request, MERGE_PATCH)
    elif command.is_action and (command.requires_fields or _has_body(request)):
        document, body = await body_of.read(request, most=most)
    else:
        document, body = {}, await read_body(request)
        if body.strip() not in (b"", b"{}"):
            raise BadRequest("This command takes no body.", code="body-unexpected")
    row_id = await find_row_id(state.database, caller, state.cursors, resource, command.scope, name)
    row = {"row": hash_text(row_id)}
    if command.is_single_row:
        expected = "*" if versions is None else str(sorted(versions))
        row["If-Match"] = expected
        return _Sent(command.parse_patch(row_id, versions, document), document, body, row, f"{row_id} {expected} ".encode())
    refuse_if_match(request, "This command depends on the row's state, not on its version: leave If-Match out.")
    if parse_id(row_id) is None:
        raise NotFound()
    if not command.is_action:
        return _Sent(command.parse({"id": row_id}), document, b"", row, row_id.encode())
    if command.entries is None:
        command_input: Any = command.parse_action(row_id, document)
    else:
        steps = command.parse_row_batch(row_id, document, lenient=preferences.lenient, with_results=preferences.with_results)
        command_input = await run_in_slices(steps)
    return _Sent(command_input, document, body, row, row_id.encode() + b" ")


async def _read_rows(
    request: Request, command: Command, preferences: Preferences, stream_type: str, head: Mapping[str, Any], stream: StreamedBody
) -> _Sent | None:
    """The input of a bulk command whose rows are sent as a stream; None where it is too long to be answered at once. An Idempotency-Key compares the
    bytes of its decoded body, and its parameters."""
    body = await stream.read(MAX_BODY)
    if body is None:
        return None
    if len(body) > MAX_OTHER_BODY:
        postpone_collections(request)
    rows = await run_in_slices(read_rows(stream_type, command, head, body, request.app.state.settings.stream_rows))
    if rows is None:
        return None
    document = {**head, "entries": rows.values}
    steps = command.parse_in_steps(document, lenient=preferences.lenient, with_results=preferences.with_results)
    batch = await run_in_slices(steps)
    batch.lines = rows.lines
    said = describe_head(head)
    digest = await run_in_thread(hashlib.sha256, body)
    return _Sent(batch, document, body, {"parameters": said}, f"{stream_type} {said} ".encode(), digest.hexdigest())


def _has_body(request: Request) -> bool:
    """Whether the head of the request announces a body (RFC 9112, section 6.3)."""
    return request.headers.get("content-length", "0").strip("0") != "" or "Transfer-Encoding" in request.headers
