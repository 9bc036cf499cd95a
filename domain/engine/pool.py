"""Connections to PostgreSQL, kept open and lent out. asyncpg's own pool starts a task or two for each loan, which costs as much as a small read."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection: TypeAlias = asyncpg.Connection


class Pool:
    """At most `size` connections, opened when they are first needed; the one given back last is lent first, since it is warm."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._free = size
        """How many more may be opened."""
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()

    async def lend(self, seconds: float) -> Connection:
        """A connection, to be given back. Raises TimeoutError when none is to be had in time, and what connecting raises."""
        while True:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    self._lent.add(connection)
                    return connection
                self._free += 1
            if self._free:
                return await self._open()
            if (given := await self._wait(seconds)) is not None:
                return given

    async def _open(self) -> Connection:
        self._free -= 1
        try:
            connection = await self._connect()
        except BaseException:
            self._free += 1
            self._hand_on(None)
            raise
        self._lent.add(connection)
        return connection

    async def _wait(self, seconds: float) -> Connection | None:
        """The next connection given back; None where one may be opened instead."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await asyncio.wait((waiter,), timeout=seconds)
            if not waiter.done():
                raise TimeoutError
            return waiter.result()
        except BaseException:
            if waiter.done() and not waiter.cancelled():  # it was handed on just as the waiting ended
                self._hand_on(waiter.result())
            waiter.cancel()
            raise

    def give_back(self, connection: Connection) -> None:
        """Takes a connection back, at once; one that was left in a transaction is of no use to anybody else."""
        if not connection.is_closed() and not connection.is_in_transaction():
            return self._hand_on(connection)
        connection.terminate()
        self._lent.discard(connection)
        self._free += 1
        self._hand_on(None)

    def _hand_on(self, connection: Connection | None) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter.set_result(connection)
        if connection is not None:
            self._lent.discard(connection)
            self._idle.append(connection)

    async def close(self) -> None:
        """Closes what is idle, and ends what is lent."""
        for connection in self._lent:
            connection.terminate()
        while self._idle:
            await self._idle.pop().close(timeout=10)
