"""RequestMiddleware, which every request passes first and every response last, with its router and its time limits."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from uuid import UUID

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http import cors
from api.http.auth import Unauthorised, confirm_client
from api.http.context import get_context
from api.http.field_values import check_single
from api.http.problems import as_domain_error, respond
from api.http.target import check_query, keep_slashes
from domain.declare.errors import Busy, DomainError
from domain.store.database import DatabaseUse, database_use
from domain.store.outages import OutcomeUnknown

log = structlog.get_logger()

SWEEP_SECONDS = 0.5
"""Seconds between two checks of the time limits."""


class Router:
    """Finds the endpoint of most requests by two dictionaries. Starlette tries one regular expression per route, which is slow for a hundred.

    All other requests (other methods, unknown URLs, browsers) are left to Starlette.
    """

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
        """The endpoint of a request, or None. Sets `endpoint` and `path_params` in the scope, as Starlette does."""
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
    """Cancels requests that run too long. One timer checks all of them: one for each would cost as much as a small read."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float] = {}
        self._cancelled: set[asyncio.Task[object]] = set()
        self._sweeping = False

    def begin(self, task: "asyncio.Task[object]") -> None:
        """Sets the time limit of a task."""
        self._ends[task] = time.monotonic() + self._seconds
        if not self._sweeping:
            self._sweeping = True
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def end(self, task: "asyncio.Task[object]") -> bool:
        """Whether the task was cancelled here."""
        self._ends.pop(task, None)
        if task not in self._cancelled:
            return False
        self._cancelled.discard(task)
        return True

    def _sweep(self) -> None:
        now = time.monotonic()
        for task in [task for task, until in self._ends.items() if until < now]:
            del self._ends[task]
            self._cancelled.add(task)
            task.cancel()
        self._sweeping = bool(self._ends)
        if self._sweeping:
            asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)


class RequestMiddleware:
    """Gives each request an id and a time limit, turns exceptions into problems, adds the header fields of every response, and logs one line for each
    request: method, path, client and status, never a query string or a body."""

    def __init__(self, app: ASGIApp, base_url: str, limit: int, router: Router) -> None:
        self.app = app
        self.base_url = base_url
        self.time_limits = TimeLimits(limit)
        self.router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        context = get_context(scope)
        use = context.database_use
        bound = structlog.contextvars.bind_contextvars(request_id=context.id)
        use_token = database_use.set(use)
        keep_slashes(scope)
        endpoint = self.router.find(scope)
        task = asyncio.current_task()
        assert task is not None

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                if context.releases:
                    context.release_body()
                timing = f"db;dur={use.seconds * 1000:.1f}, app;dur={context.read_milliseconds()}"
                raw = message["headers"]
                raw += ((b"x-request-id", context.id.encode()), (b"server-timing", timing.encode()), *context.deprecation)
                if context.bucket is not None:
                    raw += context.bucket.make_headers()
                if endpoint is not None:
                    raw.append(cors.VARY)
                else:
                    cors.set_headers(scope, MutableHeaders(scope=message))
            else:
                context.sent += len(message.get("body", b""))
            await send(message)

        self.time_limits.begin(task)
        context.extend = partial(self.time_limits.begin, task)
        try:
            if scope["path"] != cors.ISSUING_PATH:  # which refuses them in the form of OAuth
                check_single(scope)
            check_query(scope)
            if endpoint is None:
                await self.app(scope, receive, send_with_headers)
            else:
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            reason = _TOO_LONG if self.time_limits.end(task) else _STOPPING
            if context.status:
                raise
            task.uncancel()
            await respond(_describe_stop(reason, use), self.base_url)(scope, receive, send_with_headers)
        except Exception as error:
            problem = as_domain_error(error)  # logs an unforeseen error
            if context.status:
                raise
            problem = await _confirm_refusal(scope, problem)
            await respond(problem, self.base_url)(scope, receive, send_with_headers)
        finally:
            self.time_limits.end(task)
            context.release_body()
            database_use.reset(use_token)
            path, client = _make_loggable_path(scope), str(use.client) if isinstance(use.client, UUID) else None
            figures = {"status": context.status, "bytes": context.sent, "ms": context.read_milliseconds()}
            log.info("request", method=scope["method"], path=path, client=client, **figures)
            structlog.contextvars.reset_contextvars(**bound)


async def _confirm_refusal(scope: Scope, problem: DomainError) -> DomainError:
    """The problem of a request, or that of its client where it is revoked: it learns nothing else."""
    try:
        await confirm_client(scope, [problem])
    except Unauthorised as error:
        return as_domain_error(error)
    except Exception:  # the database cannot be asked now: the request is refused as it was
        return problem
    return problem


_TOO_LONG, _STOPPING = "The request took too long and was stopped", "The server is stopping"


def _describe_stop(reason: str, use: DatabaseUse) -> DomainError:
    """The error of a request that was stopped. It says that nothing was written only where no COMMIT was sent."""
    if use.is_committing:
        return OutcomeUnknown()
    return Busy(f"{reason}; {use.describe_loss()}. A write sent again with the same Idempotency-Key is done once.")


def _make_loggable_path(scope: Scope) -> str:
    """The path with parameter names in place of values, which may be names or UPNs and must not be logged."""
    if "endpoint" not in scope:
        return f"(unknown, {len(scope['path'])} characters)"
    values = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(values.get(part, part) for part in scope["path"].split("/"))
