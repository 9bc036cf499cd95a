"""Request bodies: bounded, and JSON that means one thing only."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from api import strict_json
from api.problems import HttpProblem

MAX_BODY = 16 * 1024 * 1024
MAX_FILES = 64 * 1024 * 1024
LARGE = 1024 * 1024
"""Bytes beyond which a body is parsed in a thread, so that other requests go on."""
DEADLINE = 60
"""Seconds for a body to arrive. The server closes slow headers itself, but not slow bodies."""


async def read_body(request: Request) -> bytes:
    """The body; 413 beyond 16 MiB, without reading the rest, and 408 when it does not arrive in time."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY:
        raise _too_large()
    chunks, size = [], 0
    try:
        async with asyncio.timeout(DEADLINE):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY:
                    raise _too_large()
                chunks.append(chunk)
    except TimeoutError as problem:
        raise _too_slow() from problem
    except (ClientDisconnect, OSError, RuntimeError) as problem:  # the client hung up, or its chunks are no chunks
        raise HttpProblem(
            400, "body-cut-short", "The request cannot be read", "The body ended before it was whole.", {"Connection": "close"}
        ) from problem
    if bucket := request.scope.get("bucket"):
        bucket.weigh(size)
    return b"".join(chunks)


def _too_slow() -> HttpProblem:
    detail = f"A body arrives within {DEADLINE} seconds."
    return HttpProblem(408, "body-too-slow", "The body did not arrive in time", detail, {"Connection": "close"})


def _too_large() -> HttpProblem:
    return HttpProblem(
        413, "body-too-large", "The body is too large", "A body has at most 16 MiB. Send it in parts.", {"Connection": "close"}
    )


async def read_files(request: Request) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
    """The text fields and the files of multipart/form-data, at most 64 MiB: a register is larger than a batch."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "multipart/form-data":
        raise HttpProblem(
            415,
            "media-type",
            "The media type is not supported",
            "Send multipart/form-data.",
            {"Accept-Post": "multipart/form-data"},
        )
    declared = request.headers.get("content-length", "")
    if not declared.isdigit() or int(declared) > MAX_FILES:
        raise HttpProblem(
            413,
            "body-too-large",
            "The body is too large",
            "The files have at most 64 MiB, and a Content-Length says so.",
            {"Connection": "close"},
        )
    fields: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    try:
        async with asyncio.timeout(DEADLINE), request.form(max_files=10, max_fields=10) as form:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    fields[name] = value
                else:
                    files.append((value.filename or name, await value.read()))
    except TimeoutError as problem:
        raise _too_slow() from problem
    except (HTTPException, ClientDisconnect, ValueError) as problem:
        raise HttpProblem(
            400, "form-malformed", "The request cannot be read", "The multipart body is not well formed."
        ) from problem
    return fields, files


async def read_json(request: Request, kinds: tuple[str, ...] = ("application/json",)) -> tuple[object, bytes]:
    """The strict JSON of a body of one of these media types, and its bytes."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in kinds:
        header, send = f"Accept-{request.method.title()}", f"Send {' or '.join(kinds)}."
        raise HttpProblem(415, "media-type", "The media type is not supported", send, {header: ", ".join(kinds)})
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpProblem(
            415,
            "content-encoding",
            "The content coding is not supported",
            "Send the body uncompressed.",
            {"Accept-Encoding": "identity"},
        )
    body = await read_body(request)
    if len(body) > LARGE:
        return await asyncio.to_thread(strict_json.parse, body), body
    return strict_json.parse(body), body
