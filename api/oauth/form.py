"""The parameters of a request to an endpoint that clients call (RFC 6749 section 3.2): a small form in the body."""

import asyncio
from typing import TypeAlias
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from api.oauth.errors import TokenError

MAX_BODY, MAX_PARAMETERS = 16_384, 32
DEADLINE = 10
"""Seconds in which the body arrives."""

Form: TypeAlias = dict[str, str]


async def read_form(request: Request) -> Form:
    """The parameters of the body. One without a value counts as left out. Raises TokenError, also where one is given twice."""
    if request.scope["query_string"]:
        raise TokenError("invalid_request", "Parameters stand in the body, never in the URL.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise TokenError("invalid_request", "The body is application/x-www-form-urlencoded.")
    try:
        pairs = parse_qsl((await _read_body(request)).decode("ascii"), True, True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as problem:
        raise TokenError("invalid_request", "The body cannot be read as application/x-www-form-urlencoded.") from problem
    if len(dict(pairs)) < len(pairs):
        raise TokenError("invalid_request", "A parameter is given twice.")
    return {name: value for name, value in pairs if value}


async def _read_body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(DEADLINE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise TokenError("invalid_request", f"The body has at most {MAX_BODY} bytes.", 413)
    except TimeoutError as problem:
        raise TokenError("invalid_request", f"The body arrives within {DEADLINE} seconds.", 408) from problem
    except (ClientDisconnect, OSError, RuntimeError) as problem:
        raise TokenError("invalid_request", "The body ended before it was whole.") from problem
    return body
