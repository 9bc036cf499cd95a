"""build_app(): the one place where things are wired."""

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import oauth, pages
from api.body import MAX_BODY
from api.graphql.execute import LIMITS as graphql_limits
from api.graphql.view import graphql
from api.problems import PROBLEMS, HttpProblem, as_domain_error, respond
from api.rest import openapi, routes
from api.settings import Settings
from domain.consent.me import GraphqlLimits, Limits
from domain.engine.command import MAX_ENTRIES
from domain.engine.cursor import Cursors
from domain.engine.database import Database
from domain.engine.selection import MAX_COST, MAX_FIRST, MAX_NESTED_FIRST

log = structlog.get_logger()

LIMITS = Limits(
    first=MAX_FIRST,
    nested_first=MAX_NESTED_FIRST,
    batch_entries=MAX_ENTRIES,
    body_bytes=MAX_BODY,
    cost=MAX_COST,
    graphql=GraphqlLimits(**asdict(graphql_limits)),
)
"""What one request may ask for, as `me` tells it: the one place where the doors' limits come together."""


def build_app(settings: Settings, database: Database | None = None) -> Starlette:
    """The ASGI application. It opens its own database when started, unless it is given one."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.database = database or await Database.open(settings.database_url, size=settings.pool_size)
        try:
            yield
        finally:
            if database is None:
                await app.state.database.close()

    app = Starlette(
        routes=[
            *oauth.routes(),
            Route("/graphql", graphql, methods=["POST"]),
            *routes.routes(),
            *pages.routes(),
            Route("/", _start, methods=["GET"]),
            Route("/problems/{code}", _problem, methods=["GET"]),
            Route("/openapi.json", openapi.serve, methods=["GET"]),
            Route("/health/live", _alive, methods=["GET"]),
            Route("/health/ready", _ready, methods=["GET"]),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_exception},
    )
    app.router.redirect_slashes = False
    app.state.settings = settings
    app.state.cursors = Cursors(settings.secret)
    app.state.database = database
    app.state.limits = LIMITS
    app.add_middleware(Outermost, base_url=settings.base_url)
    return app


class Outermost:
    """Gives each request its id, turns what was raised into a problem, and writes one access line: method, path and status, never a query or a body."""

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        self.app = app
        self.base_url = base_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id, begun, status = uuid.uuid4().hex, time.perf_counter(), 0
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except Exception as error:
            if status:
                raise
            await respond(as_domain_error(error), self.base_url)(scope, receive, send_noted)
        finally:
            milliseconds = round((time.perf_counter() - begun) * 1000, 1)
            log.info("request", method=scope["method"], path=_template(scope), status=status, ms=milliseconds)
            structlog.contextvars.clear_contextvars()


def _template(scope: Scope) -> str:
    """The path with the names of its parameters for their values, as it may be logged: somebody may have put a name or a UPN there."""
    if "endpoint" not in scope:
        return f"(unknown, {len(scope['path'])} characters)"
    values = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(values.get(part, part) for part in scope["path"].split("/"))


async def _http_exception(request: Request, error: Any) -> Response:
    base_url = request.app.state.settings.base_url
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
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


async def _alive(request: Request) -> Response:
    return Response(b'{"status":"alive"}', media_type="application/json")


async def _ready(request: Request) -> Response:
    async with request.app.state.database.register() as connection:
        await connection.fetchval("SELECT 1")
    return Response(b'{"status":"ready"}', media_type="application/json")
