"""What every request passes first and every answer last."""

import asyncio
import time
import uuid

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import cors
from api.problems import as_domain_error, respond
from domain.engine.database import Stopwatch, stopwatch
from domain.engine.errors import Busy

log = structlog.get_logger()


class Outermost:
    """Gives each request its id and its time limit, turns what was raised into a problem, tells what is told with every answer, good or bad, and
    writes one access line: method, path and status, never a query or a body."""

    def __init__(self, app: ASGIApp, base_url: str, limit: int) -> None:
        self.app = app
        self.base_url = base_url
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id, begun, status = uuid.uuid4().hex, time.perf_counter(), 0
        structlog.contextvars.bind_contextvars(request_id=request_id)
        in_database = Stopwatch()
        watched = stopwatch.set(in_database)

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["Server-Timing"] = f"db;dur={_ms(in_database.seconds)}, app;dur={_ms(time.perf_counter() - begun)}"
                if bucket := scope.get("bucket"):
                    headers.update(bucket.fields())
                cors.tell(scope, headers)
            await send(message)

        try:
            async with asyncio.timeout(self.limit):
                await self.app(scope, receive, send_noted)
        except Exception as error:
            if status:
                raise
            told = Busy(_TOO_LONG) if isinstance(error, TimeoutError) else as_domain_error(error)
            await respond(told, self.base_url)(scope, receive, send_noted)
        finally:
            stopwatch.reset(watched)
            ms = _ms(time.perf_counter() - begun)
            log.info("request", method=scope["method"], path=_template(scope), status=status, ms=ms)
            structlog.contextvars.clear_contextvars()


_TOO_LONG = "The request took too long and was stopped. A write sent again with the same Idempotency-Key is done once."


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _template(scope: Scope) -> str:
    """The path with the names of its parameters for their values, as it may be logged: somebody may have put a name or a UPN there."""
    if "endpoint" not in scope:
        return f"(unknown, {len(scope['path'])} characters)"
    values = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    return "/".join(values.get(part, part) for part in scope["path"].split("/"))
