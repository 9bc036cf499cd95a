"""A pool of connections to PostgreSQL. asyncpg's own pool starts one or two tasks for each use, which costs as much as
a small read.

The pool is shared fairly. At most half of the connections write, so that reads continue while writes wait for a lock.
One client leaves a fifth of the connections to the others. Of the requests that wait, one whose client has the fewest
connections is served first.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection: TypeAlias = asyncpg.Connection

CLOSE_SECONDS = 2.0
"""How long a connection may take to cancel its statement and close. Then its socket is closed."""


class NoneFree(TimeoutError):
    """No connection of the pool was free in time: others use them."""


@dataclass(eq=False)
class Loan:
    """One use of a connection. `may_open` is False once opening a connection has failed for it."""

    client: Hashable | None
    is_writing: bool
    may_open: bool = True


@dataclass(frozen=True)
class PoolCounts:
    """What a pool does now, and how often requests have waited for it: `waits` in all, `waited` in seconds, and
    `timeouts` of them in vain. `failures` are connections that could not be opened."""

    size: int
    lent: int
    writing: int
    idle: int
    waiting: int
    waits: int
    waited: float
    timeouts: int
    failures: int


class _Permit:
    """The right to open one more connection."""


PERMIT = _Permit()
Granted: TypeAlias = Connection | _Permit


class Pool:
    """At most `size` connections, opened when they are needed.

    The connection that was released last is used first, since its caches are warm.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._unopened = size
        self._idle: list[Connection] = []
        self._loans: dict[Connection, Loan] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._waiting: dict[tuple[Hashable | None, bool], dict[asyncio.Future[Granted], Loan]] = {}
        """Waiting requests by client and whether they write, in the order of their arrival."""
        self._in_use = {False: 0, True: 0}
        """Connections in use, by whether they write. Those that write count for both kinds."""
        self._by_client: dict[bool, Counter[Hashable]] = {False: Counter(), True: Counter()}
        self._waits = self._timeouts = self._failures = 0
        self._waited = 0.0
        self.answered_at = 0.0
        """When PostgreSQL last answered all that was sent on a connection, by time.perf_counter."""
        self._max = {False: size, True: max(size // 2, 1)}
        self._max_of_client = {kind: limit - max(limit // 5, 1) if limit > 1 else 1 for kind, limit in self._max.items()}

    async def acquire(self, seconds: float, client: Hashable | None = None, *, is_writing: bool = False) -> Connection:
        """Returns a connection, which the caller must release.

        If no new connection can be opened, waits for one that is in use. Raises NoneFree if none is free in time, or the error
        of connecting.
        """
        loan = Loan(client, is_writing)
        granted = self._take(loan)
        if granted is not None and not isinstance(granted, _Permit):
            return granted
        until = asyncio.get_running_loop().time() + seconds
        failure: Exception | None = None
        while True:
            try:
                if granted is None:
                    granted = await self._wait(loan, until)
            except NoneFree:
                raise failure or NoneFree from None
            if not isinstance(granted, _Permit):
                return granted
            try:
                return await self._open(loan)
            except Exception as problem:
                if not self._loans and all(connection.is_closed() for connection in self._idle):
                    raise
                failure, loan.may_open = problem, False
                granted = self._take(loan)

    def release(self, connection: Connection, *, is_reusable: bool) -> None:
        """Takes a connection back, without waiting.

        A connection that is not reusable or is still in a transaction is closed in the background.
        """
        self._count(self._loans.pop(connection), -1)
        if is_reusable and not connection.is_closed() and not connection.is_in_transaction():
            self.answered_at = time.perf_counter()
            self._idle.append(connection)
            self._serve()
        elif connection.is_closed():
            self._forget()
        else:
            self._close_later(connection)

    def forget_idle(self) -> None:
        """Closes the idle connections in the background: they lead to a server that is no more the right one."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self._close_later(connection)

    def count(self) -> PoolCounts:
        """Returns what the pool does now."""
        return PoolCounts(
            self._max[False],
            self._in_use[False],
            self._in_use[True],
            len(self._idle),
            sum(map(len, self._waiting.values())),
            self._waits,
            self._waited,
            self._timeouts,
            self._failures,
        )

    async def close(self) -> None:
        """Closes the idle connections, and cuts those in use."""
        for connection in self._loans:
            connection.terminate()
        idle, self._idle = self._idle, []
        await asyncio.gather(*self._closing, *map(_close, idle))

    def _take(self, loan: Loan) -> Granted | None:
        """Returns an idle connection, or the permit to open one; None if the loan must wait."""
        if not self._is_allowed(loan):
            return None
        granted: Granted | None = None
        while self._idle and granted is None:
            connection = self._idle.pop()
            if connection.is_closed():
                self._unopened += 1
            else:
                granted = connection
                self._loans[connection] = loan
        if granted is None and self._unopened and loan.may_open:
            self._unopened -= 1
            granted = PERMIT
        if granted is not None:
            self._count(loan, 1)
        return granted

    def _is_allowed(self, loan: Loan) -> bool:
        for kind in (False, True) if loan.is_writing else (False,):
            if self._in_use[kind] >= self._max[kind]:
                return False
            if loan.client is not None and self._by_client[kind][loan.client] >= self._max_of_client[kind]:
                return False
        return True

    def _count(self, loan: Loan, change: int) -> None:
        for kind in (False, True) if loan.is_writing else (False,):
            self._in_use[kind] += change
            if loan.client is not None:
                by_client = self._by_client[kind]
                by_client[loan.client] += change
                if not by_client[loan.client]:
                    del by_client[loan.client]

    async def _open(self, loan: Loan) -> Connection:
        try:
            connection = await self._connect()
        except BaseException:
            self._failures += 1
            self._count(loan, -1)
            self._unopened += 1
            self._serve()
            raise
        self._loans[connection] = loan
        return connection

    async def _wait(self, loan: Loan, until: float) -> Granted:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Granted] = loop.create_future()
        key = loan.client, loan.is_writing
        self._waiting.setdefault(key, {})[waiter] = loan
        timer = loop.call_at(until, _give_up, waiter)
        begun = loop.time()
        self._waits += 1
        try:
            return await waiter
        except BaseException as problem:
            self._timeouts += isinstance(problem, NoneFree)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:  # granted at the moment when waiting ended
                self._return(loan, waiter.result())
            raise
        finally:
            timer.cancel()
            self._waited += loop.time() - begun
            self._leave(key, waiter)

    def _leave(self, key: tuple[Hashable | None, bool], waiter: "asyncio.Future[Granted]") -> None:
        if (queue := self._waiting.get(key)) is not None:
            queue.pop(waiter, None)
            if not queue:
                del self._waiting[key]

    def _return(self, loan: Loan, granted: Granted) -> None:
        """Takes back a connection or permit that was granted and not used."""
        if not isinstance(granted, _Permit):
            return self.release(granted, is_reusable=True)
        self._count(loan, -1)
        self._unopened += 1
        self._serve()

    def _serve(self) -> None:
        """Grants what is free to waiting requests."""
        while self._waiting and (self._idle or self._unopened) and self._serve_one():
            pass

    def _serve_one(self) -> bool:
        """Grants a connection or permit to one waiting request. Returns whether there was one."""
        for key in sorted(self._waiting, key=lambda key: self._by_client[False][key[0]]):
            waiter, loan = next(iter(self._waiting[key].items()))
            if waiter.done():  # given up; its task has not run yet
                self._leave(key, waiter)
                return True
            if (granted := self._take(loan)) is not None:
                self._leave(key, waiter)
                waiter.set_result(granted)
                return True
        return False

    def _close_later(self, connection: Connection) -> None:
        closing = asyncio.get_running_loop().create_task(self._close(connection))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, connection: Connection) -> None:
        await _close(connection)
        self._forget()

    def _forget(self) -> None:
        """Counts a connection as closed, so that another may be opened, also by requests for which opening has failed
        before.
        """
        self._unopened += 1
        for queue in self._waiting.values():
            for loan in queue.values():
                loan.may_open = True
        self._serve()


def _give_up(waiter: "asyncio.Future[Granted]") -> None:
    """Ends the wait for a connection."""
    if not waiter.done():
        waiter.set_exception(NoneFree())


async def _close(connection: Connection) -> None:
    """Cancels the connection's statement and closes it, within CLOSE_SECONDS."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except Exception:
        connection.terminate()
