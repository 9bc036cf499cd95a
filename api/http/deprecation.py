"""Paths that have a successor: they answer as before, and say so in header fields."""

from datetime import UTC, datetime
from email.utils import format_datetime

from starlette.requests import Request
from starlette.responses import Response

from api.http.body import Handler
from api.http.context import get_context

DEPRECATED_AT = datetime(2026, 11, 27, tzinfo=UTC)
SUNSET_AT = datetime(2027, 11, 27, tzinfo=UTC)
"""A year later: a path that goes is announced a version before."""
FIELDS = (
    (b"deprecation", f"@{int(DEPRECATED_AT.timestamp())}".encode()),
    (b"sunset", format_datetime(SUNSET_AT, usegmt=True).encode()),
)
"""Deprecation (RFC 9745) and Sunset (RFC 8594)."""


def deprecate(handler: Handler, path: str, successor: str) -> Handler:
    """The same handler, whose responses and errors have Deprecation, Sunset and the URL of the successor.

    `path` and `successor` are the prefixes of the old URL and of the new one.
    """

    async def handle(request: Request) -> Response:
        url = successor + request.scope["raw_path"].decode("ascii").removeprefix(path)
        link = (b"link", f'<{url}>; rel="successor-version"'.encode())
        get_context(request.scope).deprecation = (*FIELDS, link)
        return await handler(request)

    return handle
