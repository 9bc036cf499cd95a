"""Limits the memory that the bodies of concurrent requests use.

Each client has a share, so that one client's large requests do not delay another's. Requests are served in order of arrival.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass

from domain.declare.errors import Busy

MAX_WAIT_SECONDS = 30
"""Seconds for which a request waits for memory."""


@dataclass(eq=False)
class _Waiting:
    client: Hashable
    size: int
    admitted: "asyncio.Future[None]"


class Budget:
    """At most `total` bytes at once, of which one client uses at most `share`. A request for more than a share counts as a share."""

    def __init__(self, total: int, share: int) -> None:
        self._total, self._share = total, share
        self._by_client: Counter[Hashable] = Counter()
        self._used = 0
        self._waiting: deque[_Waiting] = deque()

    @property
    def used(self) -> int:
        """The bytes that are in use."""
        return self._used

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    async def acquire(self, client: Hashable, size: int) -> int:
        """Waits until so many bytes are free. Returns the number to release. Raises Busy after MAX_WAIT_SECONDS."""
        size = min(size, self._share)
        if not self._waiting and self._fits(client, size):
            self._add(client, size)
            return size
        waiting = _Waiting(client, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._admit()
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await waiting.admitted
        except BaseException as problem:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:  # it was admitted in the same moment
                self._add(client, -size)
            self._admit()
            if isinstance(problem, TimeoutError):
                raise Busy("Too many large requests are in progress at once.") from problem
            raise
        return size

    def release(self, client: Hashable, size: int) -> None:
        """Frees what was acquired."""
        self._add(client, -size)
        self._admit()

    def _fits(self, client: Hashable, size: int) -> bool:
        return self._used + size <= self._total and self._by_client[client] + size <= self._share

    def _add(self, client: Hashable, size: int) -> None:
        self._used += size
        self._by_client[client] += size
        if not self._by_client[client]:
            del self._by_client[client]

    def _admit(self) -> None:
        """Admits the waiting requests that fit, in order. One that waits for its client's share is skipped; one that waits for the total is not."""
        for waiting in [*self._waiting]:
            if self._fits(waiting.client, waiting.size) and not waiting.admitted.done():
                self._waiting.remove(waiting)
                self._add(waiting.client, waiting.size)
                waiting.admitted.set_result(None)
            elif self._used + waiting.size > self._total:
                break
