"""Builds the ASGI application: its routes, middleware and shared state."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api import oauth, pages
from api.graphql.document import LIMITS as graphql_limits
from api.graphql.endpoint import graphql, prepare_endpoint
from api.http import health
from api.http.answer import make_response_cache
from api.http.body import MAX_BODY, MAX_BODY_VALUES, MAX_OTHER_BODY, BodyMemory
from api.http.compression import Gzip
from api.http.context import get_context
from api.http.cors import Cors
from api.http.middleware import RequestMiddleware, Router
from api.http.problems import HttpProblem, respond
from api.http.rate_limit import Buckets
from api.pages import problems
from api.rest.openapi import document
from api.rest.streams import make_row_reader
from api.rest.urls import find_resending_path, make_routes
from api.settings import Settings
from api.watch.watch import Watch
from domain import CLEANUP, COMMANDS
from domain.clients.me import GraphqlLimits, Limits
from domain.declare.resource import DECLARED
from domain.jobs.worker import Worker
from domain.publishing.publisher import Publisher
from domain.read import query
from domain.read.checks import MAX_COST
from domain.read.cursors import Cursors
from domain.read.query import DEFAULT_FIRST, MAX_FIRST, MAX_NESTED_FIRST
from domain.read.read_counts import ReadCounts
from domain.store.cleanup import clean_up
from domain.store.database import Database
from domain.store.ledger import Ledger
from domain.support.lru import Lru
from domain.write.command import MAX_ENTRIES
from domain.write.together import WritesTogether

log = structlog.get_logger()

CLEANUP_SECONDS = 3600
"""Time between two removals of expired rows."""


def collect_limits(settings: Settings) -> Limits:
    """Returns the limits of REST and GraphQL requests, as GET /v1/me shows them."""
    return Limits(
        first=MAX_FIRST,
        nested_first=MAX_NESTED_FIRST,
        default_first=DEFAULT_FIRST,
        batch_entries=MAX_ENTRIES,
        body_bytes=MAX_BODY,
        other_body_bytes=MAX_OTHER_BODY,
        body_values=MAX_BODY_VALUES,
        filter_values=query.MAX_VALUES,
        filter_values_in_all=query.MAX_VALUES_PER_REQUEST,
        values=MAX_COST,
        cost=MAX_COST,
        requests_per_second=settings.rate,
        burst=settings.burst,
        graphql=GraphqlLimits(**asdict(graphql_limits)),
    )


async def open_database(settings: Settings) -> Database:
    """Connects to the database of these settings. Raises DatabaseError."""
    return await Database.open(
        settings.database_url,
        size=settings.pool_size,
        read_seconds=settings.read_seconds,
        write_seconds=settings.write_seconds,
        ledger=Ledger(settings.ledger, *settings.secrets) if settings.ledger else None,
        pooled=settings.pooled,
        replica_urls=settings.replica_urls,
    )


@dataclass(frozen=True)
class Extras:
    """What the demonstration's application has beside that of `serve`: routes, the innermost middleware, and its own router."""

    routes: tuple[Route, ...] = ()
    middleware: tuple[Middleware, ...] = ()
    router: type[Router] = Router


NO_EXTRAS = Extras()


def build_app(settings: Settings, database: Database | None = None, extras: Extras = NO_EXTRAS) -> Starlette:
    """Returns the ASGI application. At startup it opens a connection pool, unless `database` is one."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.database = database or await open_database(settings)
        app.state.writes = WritesTogether(app.state.database)
        cleanup = asyncio.create_task(_clean_up_hourly(app.state))
        app.state.worker = Worker(app.state.database, COMMANDS, make_row_reader, settings.job_share)
        jobs = asyncio.create_task(app.state.worker.run())
        app.state.publisher = Publisher(app.state.database)
        publishing = asyncio.create_task(app.state.publisher.run())
        reads = asyncio.create_task(app.state.read_counts.run(app.state.database))
        app.state.graphql_preparation = prepare_endpoint()
        try:
            yield
        finally:
            for task in (cleanup, jobs, publishing, reads):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await app.state.writes.drain()
            await app.state.read_counts.end(app.state.database)
            if database is None:
                await app.state.database.close()

    api = [*make_routes(), Route("/graphql", graphql, methods=["POST"])]
    app = Starlette(
        routes=[
            *oauth.make_routes(),
            *api,
            *pages.make_routes(),
            Route("/", _serve_index, methods=["GET"]),
            *problems.make_routes(),
            Route("/openapi.json", document.serve, methods=["GET"]),
            *health.make_routes(),
            *extras.routes,
        ],
        middleware=extras.middleware,
        lifespan=lifespan,
        exception_handlers={HTTPException: _respond_to_http_exception},
    )
    app.router.redirect_slashes = False
    app.state.settings, app.state.database = settings, database
    app.state.cursors, app.state.read_counts = Cursors(*settings.secrets), ReadCounts()
    app.state.writes = None if database is None else WritesTogether(database)
    app.state.limits = collect_limits(settings)
    app.state.watch, app.state.is_draining = Watch(), False
    app.state.readiness = health.make_readiness(settings)
    app.state.plan_cache = Lru("request templates", 12_000_000, share=4, beyond=DECLARED)
    app.state.bodies = BodyMemory()
    app.state.response_cache = make_response_cache(settings.cache_mb * 1_000_000)
    app.state.token_rate_limits = Buckets(settings.rate, settings.burst, "token attempts")
    app.add_middleware(Cors)
    app.add_middleware(
        RequestMiddleware,
        base_url=settings.base_url,
        limit=settings.request_seconds,
        router=extras.router(api),
        watch=app.state.watch,
        proxies=settings.trusted_proxies,
    )
    app.add_middleware(Gzip)  # added last, it is passed first
    return app


async def _clean_up_hourly(state: State) -> None:
    """Removes expired rows, now and every hour. After an error it tries again an hour later."""
    while True:
        try:
            removed = await clean_up(state.database, CLEANUP)
            state.cleaned_up_at = time.monotonic()
            log.info("expired rows removed", **{re.sub(r"\W+", "_", kind): count for kind, count in removed.items()})
        except Exception as error:
            log.warning("expired rows not removed", kind=type(error).__name__)
        await asyncio.sleep(CLEANUP_SECONDS)


async def _respond_to_http_exception(request: Request, error: Any) -> Response:
    problem = _describe_http_exception(request, error)
    get_context(request.scope).problems.append(problem)
    return respond(problem, request.app.state.settings.base_url)


def _describe_http_exception(request: Request, error: Any) -> HttpProblem:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        resending_path = find_resending_path(request.url.path)
        advice = "" if resending_path is None else f" Send the row again by POST {resending_path}."
        return HttpProblem(error.status_code, "method", f"Use {allow}.{advice}", {"Allow": allow})
    return HttpProblem(error.status_code, "url-unknown", "See /openapi.json for what there is.")


async def _serve_index(request: Request) -> Response:
    """GET /: the URLs at which to begin."""
    base_url = request.app.state.settings.base_url
    paths = {
        "api": "/openapi.json",
        "graphql": "/graphql",
        "token": "/oauth/token",
        "authorization": "/.well-known/oauth-authorization-server",
        "docs": "/docs",
        "explorer": "/explorer",
        "problems": "/problems",
    }
    return JSONResponse({"name": "Markonce", **{name: base_url + path for name, path in paths.items()}})
