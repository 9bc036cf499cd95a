"""What every request passes first and every answer last."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http import cors
from api.http.problems import as_domain_error, respond
from domain.declare.errors import Busy, DomainError
from domain.store.database import DatabaseUse, database_use
from domain.store.outages import OutcomeUnknown

log = structlog.get_logger()

SWEEP = 0.5
"""Seconds by which a request may run over its limit."""


class Router:
    """Where the API's own URLs lead. Starlette tries its routes one after another, with an expression each, which is slow for a hundred; what it
    would do besides (another method, an unknown URL, a browser) is left to it."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._static: dict[str, Route] = {}
        self._of_row: dict[tuple[str, str], Route] = {}
        for route in routes:
            parts = route.path.split("/")
            if "{" not in route.path:
                self._static[route.path] = route
            elif parts[1] == "v1" and parts[3:4] == ["{id}"] and len(parts) < 6:
                self._of_row[parts[2], parts[4] if len(parts) == 5 else ""] = route

    def find(self, scope: Scope) -> Callable[[Request], Awaitable[Response]] | None:
        """The endpoint of a request, noted in the scope as Starlette does."""
        route, params = self._static.get(scope["path"]), {}
        if route is None:
            parts = scope["path"].split("/")
            if len(parts) not in (4, 5) or parts[1] != "v1" or not parts[3]:
                return None
            route = self._of_row.get((parts[2], parts[4] if len(parts) == 5 else ""))
            params = {"id": parts[3]}
        if route is None or scope["method"] not in ("GET", "POST") or scope["method"] not in (route.methods or ()):
            return None
        if any(name == b"origin" for name, _ in scope["headers"]):
            return None
        scope.update(endpoint=route.endpoint, path_params=params)
        endpoint: Callable[[Request], Awaitable[Response]] = route.endpoint
        return endpoint


class TimeLimits:
    """Stops requests that run too long. One timer looks at all of them, since one each costs as much as a small read."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Task[object], float] = {}
        self._stopped: set[asyncio.Task[object]] = set()
        self._sweeping = False

    def begin(self, task: "asyncio.Task[object]") -> None:
        self._until[task] = time.monotonic() + self._seconds
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def end(self, task: "asyncio.Task[object]") -> bool:
        """Whether it was stopped here."""
        self._until.pop(task, None)
        if task not in self._stopped:
            return False
        self._stopped.discard(task)
        return True

    def _sweep(self) -> None:
        now = time.monotonic()
        for task in [task for task, until in self._until.items() if until < now]:
            del self._until[task]
            self._stopped.add(task)
            task.cancel()
        self._sweeping = bool(self._until)
        if self._sweeping:
            asyncio.get_running_loop().call_later(SWEEP, self._sweep)


class RequestMiddleware:
    """Gives each request its id and its time limit, turns what was raised into a problem, tells what is told with every answer, good or bad, and
    writes one access line: method, path and status, never a query or a body."""

    def __init__(self, app: ASGIApp, base_url: str, limit: int, paths: Router) -> None:
        self.app = app
        self.base_url = base_url
        self.deadlines = TimeLimits(limit)
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id, begun, status = os.urandom(16).hex(), time.perf_counter(), 0
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        use = DatabaseUse()
        watched = database_use.set(use)
        endpoint = self.paths.find(scope)
        task = asyncio.current_task()
        assert task is not None

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                timing = f"db;dur={_milliseconds(use.seconds)}, app;dur={_milliseconds(time.perf_counter() - begun)}"
                raw = message["headers"]
                raw += ((b"x-request-id", request_id.encode()), (b"server-timing", timing.encode()))
                if bucket := scope.get("bucket"):
                    raw += bucket.fields()
                if endpoint is not None:
                    raw.append(cors.VARY)
                else:
                    cors.set_headers(scope, MutableHeaders(scope=message))
            await send(message)

        self.deadlines.begin(task)
        try:
            if endpoint is None:
                await self.app(scope, receive, send_noted)
            else:
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, send_noted)
        except asyncio.CancelledError:
            reason = _TOO_LONG if self.deadlines.end(task) else _STOPPING
            if status:
                raise
            task.uncancel()
            await respond(_describe_stop(reason, use), self.base_url)(scope, receive, send_noted)
        except Exception as error:
            problem = as_domain_error(error)  # which notes what is unforeseen
            if status:
                raise
            await respond(problem, self.base_url)(scope, receive, send_noted)
        finally:
            self.deadlines.end(task)
            database_use.reset(watched)
            ms = _milliseconds(time.perf_counter() - begun)
            log.info("request", method=scope["method"], path=_find_template(scope), status=status, ms=ms)
            structlog.contextvars.reset_contextvars(**bound)


_TOO_LONG, _STOPPING = "The request took too long and was stopped", "The server is stopping"


def _describe_stop(reason: str, use: DatabaseUse) -> DomainError:
    """What is told of a request that was stopped: that nothing was written only where no COMMIT was sent."""
    if use.is_committing:
        return OutcomeUnknown()
    return Busy(f"{reason}; {use.describe_loss()}. A write sent again with the same Idempotency-Key is done once.")


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _find_template(scope: Scope) -> str:
    """The path with the names of its parameters for their values, as it may be logged: somebody may have put a name or a UPN there."""
    if "endpoint" not in scope:
        return f"(unknown, {len(scope['path'])} characters)"
    values = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(values.get(part, part) for part in scope["path"].split("/"))
