"""Reads the parameters of a request to the token endpoint (RFC 6749 section 3.2): a small form in the body."""

import asyncio
from typing import TypeAlias
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from api.oauth.errors import TokenError

MAX_BODY, MAX_PARAMETERS = 16_384, 32
MAX_BODY_SECONDS = 10
"""Time in which the body must arrive."""

Form: TypeAlias = dict[str, str]


async def read_form(request: Request) -> Form:
    """Returns the parameters of the body. A parameter without a value is treated as omitted, and one that appears twice
    is an error.

    Raises TokenError.
    """
    if request.scope["query_string"]:
        raise TokenError("invalid_request", "Parameters are sent in the body, never in the URL.")
    if len(request.headers.getlist("content-type")) > 1:
        raise TokenError("invalid_request", "A request has one Content-Type field.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise TokenError("invalid_request", "The body must be application/x-www-form-urlencoded.")
    try:
        pairs = parse_qsl((await _read_body(request)).decode("ascii"), True, True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as problem:
        raise TokenError("invalid_request", "The body cannot be read as application/x-www-form-urlencoded.") from problem
    if len(dict(pairs)) < len(pairs):
        raise TokenError("invalid_request", "A parameter appears twice.")
    return {name: value for name, value in pairs if value}


async def _read_body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise TokenError("invalid_request", f"The body has at most {MAX_BODY} bytes.", 413)
    except TimeoutError as problem:
        raise TokenError("invalid_request", f"The body arrives within {MAX_BODY_SECONDS} seconds.", 408) from problem
    except (ClientDisconnect, OSError, RuntimeError) as problem:
        raise TokenError("invalid_request", "The body ended before it was complete.") from problem
    return body
