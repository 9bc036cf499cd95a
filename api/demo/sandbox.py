"""The sandbox: what the demonstration serves beside the API, for those who integrate with it. `serve` has none of it.

Markonce-Fault      a header field of a request that makes it fail as a server under load does
GET /sandbox        the clock, the day on which the dates of the trust go, and the faults that there are
POST /sandbox/renew makes the trust new
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, get_args

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.app import Extras
from api.demo.files import DemoSecrets
from api.http.auth import authenticate
from api.http.context import get_context
from api.http.field_values import join_lines
from api.http.middleware import Router
from api.http.problems import TooMany
from api.oauth.errors import TokenError
from api.oauth.errors import respond as respond_with_token_error
from domain.access.caller import Need
from domain.declare.errors import BadRequest, Busy, Issue
from domain.declare.scopes import Scope as AccessScope
from domain.support import clock

Fault = Literal["503", "429", "timeout", "slow"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
HEADER = b"markonce-fault"
SLOW_SECONDS, TIMEOUT_SECONDS = 5.0, 30.0
"""How long a slow answer is held back, and how long a request without an answer waits before it is refused."""
MAX_WAITING = 50
"""Requests that may be held back at once. One more is refused at once, as by a busy server."""
RETRY_SECONDS = 3
ISSUING_PATH = "/oauth/token"
PATHS = ("/v1/", "/graphql", ISSUING_PATH)
"""Where faults are injected: not in the sandbox itself, the documentation or the checks of health."""


class FaultyRouter(Router):
    """Leaves requests with a fault to Starlette, whose middleware injects it."""

    def find(self, scope: Scope) -> Callable[[Request], Awaitable[Response]] | None:
        return super().find(scope) if _find_fault(scope) is None else None


def _find_fault(scope: Scope) -> str | None:
    """Returns the value of Markonce-Fault where it has an effect, with commas where there are several lines."""
    if not scope["path"].startswith(PATHS):
        return None
    return join_lines(scope, HEADER)


class FaultInjection:
    """ASGI middleware that lets a request fail as its Markonce-Fault says. Nothing of such a request is written, but of a slow one.
    It holds no connection to the database while it waits."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = _find_fault(scope) if scope["type"] == "http" else None
        if fault is None or scope["method"] == "OPTIONS":
            return await self.app(scope, receive, send)
        if fault not in FAULTS:
            message = f"Markonce-Fault is one of {', '.join(FAULTS)}."
            raise BadRequest(message, code="parameter-invalid", issues=(Issue("Markonce-Fault", "parameter-invalid", message),))
        if fault == "503":
            raise Busy("The sandbox was told to be busy; nothing of this request was written.", retry_after=RETRY_SECONDS)
        if fault == "429" and scope["path"] == ISSUING_PATH:
            error = TokenError(
                "temporarily_unavailable",
                "This is a fault of the sandbox.",
                HTTPStatus.TOO_MANY_REQUESTS,
                retry_after=RETRY_SECONDS,
            )
            return await respond_with_token_error(error)(scope, receive, send)
        if fault == "429":
            await authenticate(Request(scope, receive))  # so that the answer has the fields of the client's quota
            raise TooMany(RETRY_SECONDS)
        await self._wait(SLOW_SECONDS if fault == "slow" else TIMEOUT_SECONDS)
        if fault == "timeout":
            raise Busy("The request took too long and was stopped; nothing of this request was written.")
        await self.app(scope, receive, send)

    async def _wait(self, seconds: float) -> None:
        if self._waiting >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} requests are held back already; nothing of this request was written.")
        self._waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._waiting -= 1


class Sandbox:
    """The routes of the sandbox, for the demonstration in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._renewal = asyncio.Lock()

    async def show(self, request: Request) -> Response:
        """GET /sandbox: what there is, to whoever asks: nothing of it is a school's."""
        now, kept = clock.read_now(), DemoSecrets.read(self._folder / "secrets.json")
        return JSONResponse(
            {
                "now": now.isoformat().replace("+00:00", "Z"),
                "today": str(clock.find_day(now)),
                "datesGoOn": str(kept.day),
                "isRenewing": self._renewal.locked(),
                "faults": list(FAULTS),
                "heldBackSeconds": {"slow": SLOW_SECONDS, "timeout": TIMEOUT_SECONDS},
            }
        )

    async def renew(self, request: Request) -> Response:
        """POST /sandbox/renew: removes the trust's data, gives its clients their access and secrets again, and records the
        demonstration's story as of today. Answers what it did. A client needs pupils:write at a school of the trust."""
        caller = await authenticate(request)
        caller.require({"POST /sandbox/renew": Need(AccessScope.PUPILS_WRITE)})
        if self._renewal.locked():
            raise Busy("The trust is being made new.", retry_after=10)
        async with self._renewal:
            get_context(request.scope).extend()
            return JSONResponse(await _run_renewal(self._folder))


async def _run_renewal(folder: Path) -> Any:
    """Runs the renewal in a process of its own, so that requests are answered meanwhile; it ends with the request that waits for it,
    and the next renewal or start completes it."""
    ahead = clock.read_ahead().total_seconds()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api.demo.renewal", str(folder), str(ahead)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Busy("The trust was not made new. Try again; the start of the demonstration completes it too.")
    return json.loads(output)


def make_extras(folder: Path) -> Extras:
    """Returns the routes and middleware of the sandbox."""
    sandbox = Sandbox(folder)
    return Extras(
        routes=(
            Route("/sandbox", sandbox.show, methods=["GET"]),
            Route("/sandbox/renew", sandbox.renew, methods=["POST"]),
        ),
        middleware=(Middleware(FaultInjection),),
        router=FaultyRouter,
    )
