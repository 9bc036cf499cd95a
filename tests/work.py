"""What answering takes, counted rather than timed: calls of Python functions on this thread, and how many of them one turn of the event loop makes."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any


@dataclass
class Work:
    """`calls` are those of functions by name; `most` is the largest number of calls between two turns of the loop."""

    calls: Counter[str] = field(default_factory=Counter)
    turns: int = 0
    most: int = 0
    _since: int = 0

    @property
    def total(self) -> int:
        return self.calls.total()

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "__instancecheck__":  # which asyncpg asks for each value of an array
            self.calls[frame.f_code.co_name] += 1
            self._since += 1

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1
            self.most, self._since = max(self.most, self._since), 0


@asynccontextmanager
async def count_work() -> AsyncIterator[Work]:
    """Counts what is done within. Threads beside the event loop are not counted."""
    work = Work()
    watch = asyncio.create_task(work.watch())
    await asyncio.sleep(0)
    sys.setprofile(work.note)
    try:
        yield work
    finally:
        sys.setprofile(None)
        watch.cancel()
        work.most = max(work.most, work._since)
