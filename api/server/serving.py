"""uvicorn's server with limits on all connections together."""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import structlog
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from api.http.problems import HttpProblem
from api.server.head import MalformedRequest
from api.server.protocol import StrictProtocol
from api.server.supervisor import BACKLOG
from api.watch.figures import MALFORMED_ROUTE
from api.watch.requests import RequestCounts
from domain.declare.errors import DomainError

GRACE_SECONDS = 8
"""Time for requests to end when the server stops."""
IDLE_SECONDS = 75
"""Time between two requests of a connection. A proxy reuses a connection for up to a minute."""
SWEEP_TICKS = 5
"""Ticks between two checks of the deadlines. A tick of uvicorn is a tenth of a second."""
MAX_CONNECTIONS = 4_000
MAX_UNSENT = 64_000_000
"""Bytes of responses that clients have not read, in all connections together."""

log = structlog.get_logger()


class Server(uvicorn.Server):
    """Closes connections that use too much.

    A connection whose client the server waits for may be closed at any time, the longest silent one first. So a new
    client is served even when all connections are in use.
    """

    def __init__(
        self, application: ASGIApp, respond: Callable[[DomainError], Response], limit: int, grace: int = GRACE_SECONDS
    ) -> None:
        config = uvicorn.Config(
            cast(Any, application),
            http=cast(Any, self.make_protocol),
            ws="none",
            lifespan="off",  # the worker runs it: it ends after the last request, and an error at startup is printed in one line
            interface="asgi3",
            log_config=None,
            log_level="critical",  # its tracebacks may hold personal data; problems.py logs unexpected errors
            access_log=False,
            workers=1,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=grace,
        )
        super().__init__(config)
        self._respond = respond
        self.counts: RequestCounts | None = None
        self.on_started: Callable[[], object] = lambda: None
        self.unsent = 0
        self._limit = limit
        self._connections = cast("set[StrictProtocol]", self.server_state.connections)

    def make_protocol(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], _loop: object = None
    ) -> StrictProtocol:
        return StrictProtocol(self, config, server_state, app_state)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing: the worker handles signals and calls stop()."""
        yield

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    async def on_tick(self, counter: int) -> bool:
        if counter % SWEEP_TICKS == 0:
            now = time.monotonic()
            for connection in [connection for connection in self._connections if connection.deadline < now]:
                connection.expire(now)
        return await super().on_tick(counter)

    def refuse(self, malformed: MalformedRequest) -> bytes:
        """Returns the response to a malformed request, which does not reach the application."""
        log.info("request", route=MALFORMED_ROUTE, status=malformed.status, problem=malformed.code)
        if self.counts is not None:
            self.counts.count_malformed(malformed.status)
        response = self._respond(HttpProblem(malformed.status, malformed.code, malformed.detail))
        request_id = (b"x-request-id", secrets.token_hex(16).encode())
        fields = [*self.server_state.default_headers, *response.raw_headers, request_id, (b"connection", b"close")]
        lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (malformed.status, malformed.phrase, lines, bytes(response.body))

    def make_room(self) -> None:
        """Closes a twentieth of the connections where there are too many, so that the search is rare."""
        if len(self._connections) > self._limit:
            waiting = [(connection.waits_since, id(connection), connection) for connection in self._connections]
            silent = sorted((since, number, connection) for since, number, connection in waiting if since is not None)
            for _, _, connection in silent[: max(1, self._limit // 20)]:
                connection.abort()
                self._connections.discard(connection)

    def count_unsent(self, size: int) -> None:
        """Adds bytes that a client has not read yet. Where the total is too large, the connections that were silent for
        longest are closed."""
        self.unsent += size
        if self.unsent > MAX_UNSENT:
            for connection in sorted(self._connections, key=lambda connection: connection.waits_since or 0.0):
                if connection.unsent:
                    self.unsent -= connection.unsent
                    connection.unsent = 0
                    connection.abort()
                if self.unsent <= MAX_UNSENT // 2:
                    break

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Waits for requests to end, then cancels the others and closes every connection."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1)
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)
