"""Combines the reads of many requests in few statements."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from itertools import islice
from typing import Generic, TypeVar

from domain.declare.errors import Busy
from domain.store.database import POOL_SECONDS, database_use
from domain.store.outages import LATE
from domain.store.pulse import ASK_SECONDS

K = TypeVar("K")
V = TypeVar("V")

INTERVAL_SECONDS = 0.01
"""Seconds between the starts of two statements."""
MAX_KEYS = 500
"""Keys that one statement reads."""
MAX_SECONDS = POOL_SECONDS + ASK_SECONDS + 1
"""The time limit of a statement, including the wait for a connection and the question why there was none.

Other requests wait for it, so a dead connection must not block it.
"""


class SharedReads(Generic[K, V]):
    """Reads the values of keys: many keys with one statement, and one statement at a time.

    A request that arrives while a statement runs waits for the next statement, so no value is older than its request.
    All requests together use one connection and at most 100 statements a second. Each waits for at most two statements,
    unless more than MAX_KEYS keys wait. `explain_late` returns the error of a statement that did not end in time.
    """

    def __init__(
        self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], explain_late: Callable[[], Awaitable[Busy]] | None = None
    ) -> None:
        self._read, self._explain_late = read, explain_late
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._last_start = float("-inf")

    async def get(self, key: K) -> V:
        """Returns the current value of a key. Raises Busy, and the errors of the read function."""
        begun = time.perf_counter()
        if key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            # in a context of its own: the task serves all requests that wait, and outlives the one that started it
            self._reading = asyncio.get_running_loop().create_task(self._read_all(), context=Context())
        try:
            return await asyncio.shield(self._waiting[key])
        finally:
            if use := database_use.get():
                use.seconds += time.perf_counter() - begun

    async def _read_in_time(self, keys: Sequence[K]) -> Mapping[K, V]:
        try:
            async with asyncio.timeout(MAX_SECONDS):
                return await self._read(keys)
        except TimeoutError as problem:
            raise (Busy(LATE) if self._explain_late is None else await self._explain_late()) from problem

    async def _read_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(max(0.0, self._last_start + INTERVAL_SECONDS - time.monotonic()))
            futures = {key: self._waiting.pop(key) for key in list(islice(self._waiting, MAX_KEYS))}
            self._last_start = time.monotonic()
            try:
                values = await self._read_in_time(list(futures))
            except Exception as problem:
                for future in futures.values():
                    future.set_exception(problem)
                    future.exception()  # asyncio warns of exceptions that are never retrieved
            except BaseException:
                for future in futures.values():
                    future.cancel()
                raise
            else:
                for key, future in futures.items():
                    future.set_result(values[key])
