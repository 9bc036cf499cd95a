"""RequestMiddleware, which every request passes first and every response last, with its router and its time limits."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http import cors
from api.http.auth import Unauthorised, confirm_client
from api.http.context import RequestContext, get_context
from api.http.field_values import check_single, join_lines
from api.http.problems import QUOTA_EXCEEDED, as_domain_error, find_status, respond
from api.http.proxies import Network, find_client
from api.http.target import check_query, keep_slashes
from api.http.versions import write_versions
from api.watch.figures import UNKNOWN_ROUTE
from api.watch.watch import Watch
from domain.declare.errors import Busy, DomainError
from domain.store.database import DatabaseUse, database_use
from domain.store.outages import OutcomeUnknown
from domain.store.statement_times import StatementTime

log = structlog.get_logger()

SWEEP_SECONDS = 0.5
"""Seconds between two checks of the time limits."""
MIN_FAILURE = 500
"""The lowest status that is a fault of the server, and an error in the log."""
ROUTE = "route"
"""The key of the scope at which Starlette puts the route of a request too."""


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
        scope.update(endpoint=route.endpoint, path_params=params, route=route)
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
    """Gives each request an id and a time limit, turns exceptions into problems, adds the header fields of every response, and counts and logs each
    request: method, route, client, tenant and status, never a query string or a body."""

    def __init__(
        self, app: ASGIApp, base_url: str, limit: int, router: Router, watch: Watch | None = None, proxies: Sequence[Network] = ()
    ) -> None:
        self.app = app
        self.watch = watch or Watch()
        self.base_url = base_url
        self.time_limits = TimeLimits(limit)
        self.router = router
        self.proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        context = get_context(scope)
        use = context.database_use
        bound = structlog.contextvars.bind_contextvars(request_id=context.id)
        use_token = database_use.set(use)
        if self.watch.tracing is not None and self.watch.tracing.choose():
            use.times = []
        keep_slashes(scope)
        if self.proxies and scope["client"] is not None:
            scope["client"] = find_client(scope["client"][0], join_lines(scope, b"x-forwarded-for"), self.proxies), 0
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
                if use.written:
                    raw.append((b"markonce-version", write_versions(use.written)))
                if context.quota is not None:
                    raw += context.quota.make_headers()
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
            problem = _describe_stop(reason, use)
            context.problems.append(problem)
            await respond(problem, self.base_url)(scope, receive, send_with_headers)
        except Exception as error:
            problem = as_domain_error(error)  # logs an unforeseen error
            context.problems.append(problem)
            if context.status:
                raise
            problem = context.problems[-1] = await _confirm_refusal(scope, problem)
            await respond(problem, self.base_url)(scope, receive, send_with_headers)
        finally:
            self.time_limits.end(task)
            context.release_body()
            database_use.reset(use_token)
            self._note(scope, context, use)
            structlog.contextvars.reset_contextvars(**bound)

    def _note(self, scope: Scope, context: RequestContext, use: DatabaseUse) -> None:
        """Counts a request that has ended, and logs its line."""
        route: Route | None = scope.get(ROUTE)
        path, client = UNKNOWN_ROUTE if route is None else route.path, "" if context.quota is None else context.quota.key
        seconds, status, problems = time.perf_counter() - context.begun, context.status, context.problems
        if (counts := self.watch.counts) is not None:
            is_over = any(problem.code == QUOTA_EXCEEDED for problem in problems)
            cost = 0 if is_over else context.cost
            counts.count(scope["method"], path, status, client, seconds, context.sent, use.seconds, cost)
            for problem in problems:
                counts.count_problem(path, find_status(problem), problem.code)
            if is_over:
                counts.count_refusal(client)
        tenant = use.tenant or (None if context.client_status is None else context.client_status.snapshot.only_tenant)
        fields: dict[str, Any] = {
            "client": client or context.named_client or None,
            "address": scope["client"][0] if scope.get("client") else None,
            "tenant": None if tenant is None else str(tenant),
            "status": status,
        }
        has_failed = status >= MIN_FAILURE or any(find_status(problem) >= MIN_FAILURE for problem in problems)
        cause = _describe_cause(problems) if has_failed else None
        if self.watch.tracing is not None and use.times is not None:
            fields["trace"] = self._trace(scope, path, seconds, fields, use.times, cause)
        fields |= {"bytes": context.sent, "ms": round(seconds * 1000, 1)}
        if problems:
            fields["problem"] = problems[0].code
        if cause is None:
            log.info("request", method=scope["method"], route=path, **fields)
        else:
            log.error("request", method=scope["method"], route=path, **fields, cause=cause)

    def _trace(
        self, scope: Scope, path: str, seconds: float, fields: Mapping[str, Any], times: list[StatementTime], cause: str | None
    ) -> str:
        """Makes the spans of a request, and returns the id of its trace."""
        attributes = {"http.request.method": scope["method"], "http.route": path, "http.response.status_code": fields["status"]}
        attributes |= {f"markonce.{name}": fields[name] for name in ("client", "tenant") if fields[name] is not None}
        assert self.watch.tracing is not None
        traceparent = join_lines(scope, b"traceparent")
        return self.watch.tracing.finish(f"{scope['method']} {path}", seconds, attributes, times, traceparent, cause)


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


def _describe_cause(problems: Iterable[DomainError]) -> str:
    """What is known of the cause of a failure: the code of each problem, the places of its issues, and the type and SQLSTATE of the exception that it
    was made of. The texts of exceptions are left out, since they may hold personal data."""
    causes = []
    for problem in problems:
        words, error = [problem.code, *(issue.at for issue in problem.issues)], problem.__cause__
        if error is not None:
            words += [type(error).__name__, str(getattr(error, "sqlstate", None) or "")]
        causes.append(" ".join(filter(None, words)))
    return "; ".join(causes) or "unknown"
