"""build_app(): the one place where things are wired."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api import oauth, pages
from api.graphql.document import LIMITS as graphql_limits
from api.graphql.endpoint import graphql
from api.http import health
from api.http.body import MAX_BODY, MAX_BODY_VALUES, MAX_OTHER_BODY, BodyMemory
from api.http.compression import Gzip
from api.http.cors import Cors
from api.http.middleware import RequestMiddleware, Router
from api.http.problems import PROBLEMS, HttpProblem, respond
from api.http.rate_limit import Buckets
from api.http.response_cache import ResponseCache
from api.rest.openapi import document
from api.rest.urls import make_routes
from api.settings import Settings
from domain import CLEANUP
from domain.clients.me import GraphqlLimits, Limits
from domain.declare.resource import DECLARED
from domain.read import query
from domain.read.checks import MAX_COST
from domain.read.cursors import Cursors
from domain.read.query import MAX_FIRST, MAX_NESTED_FIRST
from domain.store.cleanup import clean_up
from domain.store.database import Database
from domain.support.lru import Lru
from domain.write.command import MAX_ENTRIES

log = structlog.get_logger()

TIDY_EVERY = 3600
"""Seconds."""


def limits(settings: Settings) -> Limits:
    """What may be asked for, as `me` tells it: the one place where the limits of both doors come together."""
    return Limits(
        first=MAX_FIRST,
        nested_first=MAX_NESTED_FIRST,
        batch_entries=MAX_ENTRIES,
        body_bytes=MAX_BODY,
        other_body_bytes=MAX_OTHER_BODY,
        body_values=MAX_BODY_VALUES,
        filter_values=query.MAX_VALUES,
        filter_values_in_all=query.MAX_VALUES_PER_REQUEST,
        cost=MAX_COST,
        requests_per_second=settings.rate,
        burst=settings.burst,
        graphql=GraphqlLimits(**asdict(graphql_limits)),
    )


def build_app(settings: Settings, database: Database | None = None) -> Starlette:
    """The ASGI application. It opens its own database when started, unless it is given one."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.database = database or await Database.open(
            settings.database_url,
            size=settings.pool_size,
            read_seconds=settings.read_seconds,
            write_seconds=settings.write_seconds,
        )
        tidying = asyncio.create_task(_keep_tidy(app.state.database))
        try:
            yield
        finally:
            tidying.cancel()
            with suppress(asyncio.CancelledError):
                await tidying
            if database is None:
                await app.state.database.close()

    api = [*make_routes(), Route("/graphql", graphql, methods=["POST"])]
    app = Starlette(
        routes=[
            *oauth.routes(),
            *api,
            *pages.routes(),
            Route("/", _start, methods=["GET"]),
            Route("/problems/{code}", _problem, methods=["GET"]),
            Route("/openapi.json", document.serve, methods=["GET"]),
            *health.make_routes(),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_exception},
    )
    app.router.redirect_slashes = False
    app.state.settings = settings
    app.state.cursors = Cursors(settings.secret)
    app.state.database = database
    app.state.limits = limits(settings)
    app.state.readiness = health.make_readiness(settings)
    app.state.plan_cache = Lru("request templates", 12_000_000, share=4, beyond=DECLARED)
    app.state.bodies = BodyMemory()
    app.state.response_cache = ResponseCache(settings.cache_mb * 1_000_000)
    app.state.attempts = Buckets(settings.rate, settings.burst, "token attempts")
    app.add_middleware(Cors)
    app.add_middleware(RequestMiddleware, base_url=settings.base_url, limit=settings.request_seconds, router=Router(api))
    app.add_middleware(Gzip)  # added last, it is passed first
    return app


async def _keep_tidy(database: Database) -> None:
    """Removes what has expired, now and every hour. A database that is away or busy is asked again the next time."""
    while True:
        try:
            removed = await clean_up(database, CLEANUP)
            log.info("tidied", **{kind.replace(" ", "_"): count for kind, count in removed.items()})
        except Exception as error:
            log.warning("not tidied", kind=type(error).__name__)
        await asyncio.sleep(TIDY_EVERY)


async def _http_exception(request: Request, error: Any) -> Response:
    base_url = request.app.state.settings.base_url
    if error.status_code == 405:
        allow = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        return respond(HttpProblem(405, "method", "The method is not allowed here", f"Use {allow}.", {"Allow": allow}), base_url)
    return respond(
        HttpProblem(error.status_code, "url-unknown", "There is no such URL", "See /openapi.json for what there is."), base_url
    )


async def _start(request: Request) -> Response:
    """Where to go from here."""
    base_url = request.app.state.settings.base_url
    paths = {
        "api": "/openapi.json",
        "graphql": "/graphql",
        "token": "/oauth/token",
        "authorization": "/.well-known/oauth-authorization-server",
        "docs": "/docs",
        "explorer": "/explorer",
    }
    return JSONResponse({"name": "Markonce", **{name: base_url + path for name, path in paths.items()}})


async def _problem(request: Request) -> Response:
    """What the `type` of a problem leads to (RFC 9457 section 3.1.1)."""
    code = request.path_params["code"]
    about = "Each of the problem's `issues` names its place (`at`), a stable `code` such as this one, and what is wrong. See /openapi.json."
    return JSONResponse({"code": code, "title": PROBLEMS.get(code, "A problem with a request"), "about": about})
