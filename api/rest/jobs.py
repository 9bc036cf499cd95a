"""Streams of rows that are too long to be answered at once: they become a job, which the client asks for."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import authenticate
from api.http.context import get_context
from api.http.problems import HttpProblem
from api.http.streamed_body import StreamedBody
from api.http.target import read_path
from api.rest.headers import Preferences
from api.rest.query_string import ParameterIssues, check_parameters
from api.rest.streams import RowReader
from domain.access.caller import Caller
from domain.declare.errors import Busy, DomainError, Issue, make_invalid
from domain.jobs.job import MAX_ISSUES_PER_PAGE, read_job
from domain.jobs.staging import MAX_DECODED_BYTES, StagedRow, Staging
from domain.read.checks import FUNCTION_VALUES
from domain.write.command import Command
from domain.write.idempotency import check_key

RESUMABLE = ("body-cut-short", "body-too-slow", "busy", "database-unavailable", "idempotency-in-progress", "idempotency-key-reused")
"""Codes of errors after which a stream with an Idempotency-Key goes on when it is sent again; after any other it begins anew."""


async def receive_stream(
    request: Request,
    command: Command,
    caller: Caller,
    preferences: Preferences,
    kind: str,
    head: Mapping[str, Any],
    body: StreamedBody,
) -> Response:
    """Stages a stream and answers 202 with its job. Raises DomainError."""
    state, key = request.app.state, request.headers.get("idempotency-key")
    said = {"head": head, "kind": kind, "handling": "lenient" if preferences.lenient else "strict"}
    most = state.settings.staging_mb * 1_000_000
    staging = Staging(state.database, caller, command, said, None if key is None else check_key(key), most)
    await staging.open()
    try:
        replayed = await _stage(staging, RowReader(kind, command, head), body)
    except DomainError as error:
        if key is None or error.code not in RESUMABLE:
            with suppress(Busy):  # the client must get its own error; what is left is removed as what has expired
                await staging.abandon()
        raise
    if (worker := getattr(state, "worker", None)) is not None:
        worker.wake()
    job = await read_job(state.database, caller, str(staging.job.id))
    headers = {"Cache-Control": "no-store", "Location": f"/v1/jobs/{job.id}", "Retry-After": "2"}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if preferences.applied_to_jobs:
        headers["Preference-Applied"] = preferences.applied_to_jobs
    return Response(msgspec.json.encode(job), HTTPStatus.ACCEPTED, headers, "application/json")


async def _stage(staging: Staging, reader: RowReader, body: StreamedBody) -> bool:
    """Stages every row. Returns whether the same stream was received before."""
    digest, size = hashlib.sha256(), 0
    async for piece in body.iterate():
        digest.update(piece)
        size += len(piece)
        if size > MAX_DECODED_BYTES:
            detail = f"A stream has at most {MAX_DECODED_BYTES // 1000**3} GB as it is decoded. Send it in parts."
            raise HttpProblem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", detail, {"Connection": "close"})
        if not staging.is_received:
            for record, value in reader.read(piece):
                staging.header = reader.header
                await staging.add(StagedRow(record.line, record.text, record.fault, value))
    if not staging.is_received:
        for record, value in reader.finish():
            staging.header = reader.header
            await staging.add(StagedRow(record.line, record.text, record.fault, value))
    return await staging.finish(digest.digest(), size)


def refuse_long_dry_run(most: int) -> DomainError:
    """The error of a dry run of a stream that becomes a job."""
    message = f"A dry run has at most {most:,} rows. Send it in parts."
    return make_invalid([Issue("dryRun", "too-many-entries", message)])


async def get_job(request: Request) -> Response:
    """GET /v1/jobs/{id}: a job of the client's own, with a page of its issues."""
    state, caller = request.app.state, await authenticate(request)
    parameters = check_parameters(request.query_params, "first", "after")
    issues = ParameterIssues()
    first = issues.read_number(parameters.get("first"), "first", MAX_ISSUES_PER_PAGE, MAX_ISSUES_PER_PAGE)
    issues.raise_if_any()
    get_context(request.scope).charge(values=FUNCTION_VALUES["job"])
    job = await read_job(state.database, caller, read_path(request, "id"), first, parameters.get("after"))
    return Response(msgspec.json.encode(job), headers={"Cache-Control": "no-store"}, media_type="application/json")
