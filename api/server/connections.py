"""All connections of a worker: how many there may be, how long each may keep the server waiting, and how they end."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.responses import Response
from starlette.types import ASGIApp

from api.server.connection import Connection
from domain.engine.errors import DomainError

SWEEP_SECONDS = 0.5
MAX_CONNECTIONS = 4_000
MAX_UNSENT = 64_000_000
"""Bytes of responses that clients have not read, all together."""


class Connections:
    """Makes the protocol of each new connection (it is what `create_server` calls), and closes connections that cost too much.

    A connection for which the server waits can always be closed, the one that has been silent for longest first: a client that comes when all are
    taken is served before those that say nothing.
    """

    def __init__(self, application: ASGIApp, respond: Callable[[DomainError], Response], limit: int) -> None:
        self.application, self.respond = application, respond
        self.is_stopping = False
        self.unsent = 0
        self._limit = limit
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()

    def __call__(self) -> Connection:
        return Connection(self)

    def add(self, connection: Connection) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        if len(self._open) >= self._limit:
            self._make_room()
        self._open.add(connection)
        if len(self._open) > self._limit:
            connection.abort()

    def remove(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self.is_stopping and not self._open:
            self._ended.set()

    def count_unsent(self, size: int) -> None:
        """Notes that a client has not read so many bytes yet. Where all have too much unread, those lose their connection that read least lately."""
        self.unsent += size
        if self.unsent > MAX_UNSENT:
            for connection in sorted(self._open, key=lambda each: each.waits_since or 0.0):
                if connection.unsent:
                    self.unsent -= connection.unsent
                    connection.unsent = 0
                    connection.abort()
                if self.unsent <= MAX_UNSENT // 2:
                    break

    def _make_room(self) -> None:
        """Closes the twentieth part of the connections, so that looking for them costs little for each new one."""
        waiting = [(connection.waits_since, connection) for connection in self._open]
        silent = sorted(((since, id(each), each) for since, each in waiting if since is not None))
        for _, _, connection in silent[: max(1, self._limit // 20)]:
            connection.abort()
            self._open.discard(connection)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in [each for each in self._open if each.deadline < now]:
            connection.expire(now)
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep) if self._open else None

    async def stop(self, seconds: float) -> None:
        """Lets requests end for so many seconds, then cancels them. Nothing is open afterwards."""
        self.is_stopping = True
        for connection in list(self._open):
            connection.stop()
        if self._open:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), seconds)
        tasks = [connection.task for connection in self._open if connection.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)
        if self._timer is not None:
            self._timer.cancel()
