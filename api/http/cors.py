"""Which browser apps may read an answer: cross-origin resource sharing (the Fetch standard, section 3.2).

An origin is registered with the client whose app it serves. A preflight carries no token, so it is answered where any client lists the origin;
the answer itself may be read only from an origin that the calling client lists. An answer to nobody (a 401, a URL that is not there) holds
nothing of anybody's and follows the rule of the preflight, so that an app can tell an expired token from a broken network. There are no
cookies here, hence no credentials mode. The token endpoint takes no part: a client's secret does not belong in a browser, whose app gets its
token from a server of its own.
"""

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problems import HttpProblem
from domain.clients.clients import list_origins

LISTED_FOR = 5.0
MAX_AGE = 600
TOKENS = "/oauth/token"
VARY = (b"vary", b"Origin")
PUBLIC = ("/openapi.json",)
"""What anybody may read, from anywhere."""

METHODS = "GET, HEAD, POST, PATCH, DELETE"
ALLOWED = "Authorization, Content-Type, Idempotency-Key, Prefer, If-Match, If-None-Match"
EXPOSED = (
    "Link, ETag, RateLimit, RateLimit-Policy, Retry-After, Idempotency-Replayed, Preference-Applied, X-Request-Id, Markonce-Version"
)


class Cors:
    """Answers preflights, and notes whether any client lists the origin of a request. What it remembers is as much as clients registered."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._listed: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if (origin := headers.get("origin")) is None or scope["path"] in PUBLIC:
            return await self.app(scope, receive, send)
        scope["origin_listed"] = scope["path"] != TOKENS and await self._is_listed(scope, origin)
        if scope["method"] != "OPTIONS" or "access-control-request-method" not in headers:
            return await self.app(scope, receive, send)
        if not scope["origin_listed"]:
            raise _refuse(scope["path"])
        allowed = {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ALLOWED,
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        await Response(status_code=204, headers=allowed)(scope, receive, send)

    async def _is_listed(self, scope: Scope, origin: str) -> bool:
        if time.monotonic() - self._read_at > LISTED_FOR:
            async with scope["app"].state.database.without_caller() as connection:
                self._listed = await list_origins(connection)
            self._read_at = time.monotonic()
        return origin in self._listed


def _refuse(path: str) -> HttpProblem:
    detail = "No client lists this origin. Its operator adds it: client origins NAME ORIGIN."
    if path == TOKENS:
        detail = "Tokens are for servers: a client's secret does not belong in a browser."
    return HttpProblem(403, "origin-unknown", "The origin is not known here", detail)


def set_headers(scope: Scope, headers: MutableHeaders) -> None:
    """Adds to the headers of an answer who may read it."""
    if scope["path"] in PUBLIC:
        headers["Access-Control-Allow-Origin"] = "*"
    elif scope["path"] != TOKENS:
        headers.add_vary_header("Origin")
        origin, standing = Headers(scope=scope).get("origin"), scope.get("standing")
        if origin is not None and (scope.get("origin_listed", False) if standing is None else origin in standing.origins):
            headers["Access-Control-Allow-Origin"] = origin
    if "access-control-allow-origin" in headers:
        headers["Access-Control-Expose-Headers"] = EXPOSED
