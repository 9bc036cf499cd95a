"""How much of what requests bring may be in memory at once: bytes, or what comes of them.

Each client has a share, so that nobody's large requests keep another's waiting. Who comes first is served first.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass

from domain.declare.errors import Busy

PATIENCE = 30
"""Seconds for which a request waits for its part."""


@dataclass(eq=False)
class _Waiting:
    client: Hashable
    size: int
    admitted: "asyncio.Future[None]"


class Budget:
    """At most `total` at once, and of one client at most `share`; what is larger than a share counts as one."""

    def __init__(self, total: int, share: int) -> None:
        self._total, self._share = total, share
        self._taken: Counter[Hashable] = Counter()
        self._in_all = 0
        self._waiting: deque[_Waiting] = deque()

    async def take(self, client: Hashable, size: int) -> int:
        """Waits until so much is free, and answers what to give back. Raises Busy."""
        size = min(size, self._share)
        if not self._waiting and self._fits(client, size):
            self._note(client, size)
            return size
        mine = _Waiting(client, size, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._admit()
        try:
            async with asyncio.timeout(PATIENCE):
                await mine.admitted
        except BaseException as problem:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:  # it was admitted in the same moment
                self._note(client, -size)
            self._admit()
            if isinstance(problem, TimeoutError):
                raise Busy("Too many large requests are being answered at once.") from problem
            raise
        return size

    def give_back(self, client: Hashable, size: int) -> None:
        self._note(client, -size)
        self._admit()

    def _fits(self, client: Hashable, size: int) -> bool:
        return self._in_all + size <= self._total and self._taken[client] + size <= self._share

    def _note(self, client: Hashable, size: int) -> None:
        self._in_all += size
        self._taken[client] += size
        if not self._taken[client]:
            del self._taken[client]

    def _admit(self) -> None:
        """Admits in order whoever fits. One that waits for its own client's share is passed over; one that waits for all is not."""
        for waiting in [*self._waiting]:
            if self._fits(waiting.client, waiting.size) and not waiting.admitted.done():
                self._waiting.remove(waiting)
                self._note(waiting.client, waiting.size)
                waiting.admitted.set_result(None)
            elif self._in_all + waiting.size > self._total:
                break
