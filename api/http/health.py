"""Health checks: /health/live responds without the database, /health/ready says whether the server can process requests."""

import time
from collections.abc import Callable, Sequence

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.http.context import get_context
from api.http.problems import HttpProblem, respond
from api.settings import Settings
from domain.clients.signing_keys import check_signing_key
from domain.declare.errors import Issue
from domain.store.pool import Connection
from domain.store.readiness import Failure, Readiness, find_faults_of_url

log = structlog.get_logger()

RETRY_AFTER = "2"
"""Seconds, as a header value."""


def make_readiness(settings: Settings) -> Readiness:
    """The readiness checks of a server with these settings."""
    return Readiness(settings.database_url, lambda connection: check_signing_key(connection, *settings.secrets))


async def find_start_faults(
    url: str, secrets: Sequence[bytes] | None, setting: str = "DATABASE_URL", *, clock: Callable[[], float] = time.time
) -> list[str]:
    """Returns what keeps a server from using a database, all at once: the connection, its role, the schema, the signing
    key (unless there is no secret to try, of one or several) and the clock."""

    async def check_key(connection: Connection) -> None:
        if secrets is not None:
            await check_signing_key(connection, *secrets)

    return await find_faults_of_url(url, setting, Readiness(url, check_key, clock=clock))


def make_routes() -> list[Route]:
    """The routes of the health checks."""
    return [Route("/health/live", _get_live, methods=["GET"]), Route("/health/ready", _get_ready, methods=["GET"])]


DRAINING = "The server stops as planned: it answers the requests that it has, and others should go elsewhere."


async def _get_live(request: Request) -> Response:
    return Response(b'{"status":"alive"}', media_type="application/json")


async def _get_ready(request: Request) -> Response:
    state = request.app.state
    if state.is_draining:
        problem = HttpProblem(503, "draining", DRAINING, {"Retry-After": RETRY_AFTER})
        problem.issues = (Issue("draining", "draining", DRAINING),)
        return _refuse(request, problem)
    failures = await state.readiness.find_failures(state.database)
    if (kinds := [(failure.check, failure.kind) for failure in failures]) != getattr(state, "unready", []):
        _log_change(failures)
    state.unready = kinds
    if not failures:
        return Response(b'{"status":"ready"}', media_type="application/json")
    detail = " ".join(failure.message for failure in failures)
    problem = HttpProblem(503, "not-ready", detail, {"Retry-After": RETRY_AFTER})
    problem.issues = tuple(Issue(failure.check, f"{failure.check}-not-ready", failure.message) for failure in failures)
    return _refuse(request, problem)


def _refuse(request: Request, problem: HttpProblem) -> Response:
    get_context(request.scope).problems.append(problem)
    return respond(problem, request.app.state.settings.base_url)


def _log_change(failures: tuple[Failure, ...]) -> None:
    """Logs a change of the result, not every probe."""
    if not failures:
        log.warning("ready again")
    for failure in failures:
        log.warning("not ready", check=failure.check, message=failure.message, kind=failure.kind)
