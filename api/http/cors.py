"""Cross-origin resource sharing: which browser apps may read a response (the Fetch standard, section 3.2).

An origin is registered with the client whose app it serves. A preflight carries no token, so it succeeds where any client lists the origin. The
response itself may be read only from an origin that the calling client lists. A response without an authenticated client (a 401, an unknown URL)
follows the rule of the preflight, so that an app can tell an expired token from a network error. There are no cookies, hence no credentials mode. The
token endpoint is excluded: a client's secret does not belong in a browser, whose app gets its token from a server of its own.
"""

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.context import get_context
from api.http.problems import HttpProblem
from domain.clients.clients import list_origins

ORIGINS_SECONDS = 5.0
"""Seconds for which the list of origins is cached."""
MAX_AGE = 600
"""Seconds for which a browser may cache a preflight."""
ISSUING_PATH = "/oauth/token"
VARY = (b"vary", b"Origin")
PUBLIC = ("/openapi.json",)
"""Paths that any origin may read."""

METHODS = "GET, HEAD, POST, PATCH, DELETE"
ALLOWED = "Authorization, Content-Type, Idempotency-Key, Prefer, If-Match, If-None-Match, Markonce-Min-Version, X-Request-Id"
EXPOSED = "Link, ETag, RateLimit, RateLimit-Policy, Retry-After, Idempotency-Replayed, Preference-Applied, Markonce-Version, X-Request-Id, Deprecation, Sunset"


class Cors:
    """ASGI middleware that answers preflights, and sets `is_origin_listed` in the RequestContext."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._origins: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if (origin := headers.get("origin")) is None or scope["path"] in PUBLIC:
            return await self.app(scope, receive, send)
        is_listed = scope["path"] != ISSUING_PATH and await self._is_listed(scope, origin)
        get_context(scope).is_origin_listed = is_listed
        if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
            return await self.app(scope, receive, send)
        if not is_listed:
            raise _refuse(scope["path"])
        allowed = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ALLOWED,
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        await Response(status_code=204, headers=allowed)(scope, receive, send)

    async def _is_listed(self, scope: Scope, origin: str) -> bool:
        if time.monotonic() - self._read_at > ORIGINS_SECONDS:
            async with scope["app"].state.database.without_caller() as connection:
                self._origins = await list_origins(connection)
            self._read_at = time.monotonic()
        return origin in self._origins


def _refuse(path: str) -> HttpProblem:
    detail = "No client lists this origin. Its operator adds it: client origins NAME ORIGIN."
    if path == ISSUING_PATH:
        detail = "Tokens are for servers: a client's secret does not belong in a browser."
    return HttpProblem(403, "origin-unknown", detail)


def set_headers(scope: Scope, headers: MutableHeaders) -> None:
    """Adds the header fields that allow the request's origin to read the response, where it may."""
    if scope["path"] in PUBLIC:
        headers["Access-Control-Allow-Origin"] = "*"
    elif scope["path"] != ISSUING_PATH:
        headers.add_vary_header("Origin")
        origin, context = Headers(scope=scope).get("origin"), get_context(scope)
        status = context.client_status
        if origin is not None and (context.is_origin_listed if status is None else origin in status.origins):
            headers["Access-Control-Allow-Origin"] = origin
    if "access-control-allow-origin" in headers:
        headers["Access-Control-Expose-Headers"] = EXPOSED
