"""Runs long work on the event loop in slices, so that other requests are answered in between.

Long work is a generator that yields wherever it may be interrupted, and returns its result. However many such
generators run, one turn of the event loop runs one slice.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import ParamSpec, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
P = ParamSpec("P")
Steps: TypeAlias = Generator[None, None, T]

SLICE_SECONDS = 0.005
"""Seconds after which long work is interrupted."""
ROWS_PER_CLOCK_CHECK = 64
"""Rows between two checks of the clock."""
ROWS_PER_STATEMENT = 5_000
"""Rows that one statement writes. Converting them to its arguments cannot be interrupted."""


class _Turns:
    """The queue of long work that waits for its next slice in one event loop, and the lock of its one thread."""

    def __init__(self) -> None:
        self.thread = asyncio.Lock()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> None:
        """Waits for the caller's turn."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._admit)
        self._waiting.append(mine := loop.create_future())
        await mine

    def _admit(self) -> None:
        """Continues the first in the queue now, and the next one in the next turn of the loop."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # a future that is done was cancelled
                first.set_result(None)
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._admit)


_turns: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]" = WeakKeyDictionary()


def _get_turns() -> _Turns:
    loop = asyncio.get_running_loop()
    return _turns.get(loop) or _turns.setdefault(loop, _Turns())


def count_waiting() -> int:
    """Returns how many long pieces of work wait for their next slice in this event loop."""
    return len(_get_turns()._waiting)


def run_at_once(steps: Steps[T]) -> T:
    """Runs long work without interruption, as on the command line. Returns its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


async def run_in_slices(steps: Steps[T]) -> T:
    """Runs long work in slices, each in its own turn of the event loop. Returns its result."""
    until = time.monotonic() + SLICE_SECONDS
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if time.monotonic() > until:
            await _get_turns().wait()
            until = time.monotonic() + SLICE_SECONDS


async def iterate_in_slices(rows: Iterable[T]) -> AsyncIterator[list[T]]:
    """Yields the rows in small lists, and lets other requests run between two slices."""
    remaining, until = iter(rows), time.monotonic() + SLICE_SECONDS
    while part := list(islice(remaining, ROWS_PER_CLOCK_CHECK)):
        yield part
        if time.monotonic() > until:
            await _get_turns().wait()
            until = time.monotonic() + SLICE_SECONDS


def split_into_parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Returns the rows in parts of ROWS_PER_STATEMENT."""
    return (rows[start : start + ROWS_PER_STATEMENT] for start in range(0, len(rows), ROWS_PER_STATEMENT))


async def run_in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Runs long work that cannot be interrupted in a thread, one at a time. Returns its result.

    The work must be Python code, or C code that releases the GIL.
    """
    async with _get_turns().thread:
        return await asyncio.to_thread(work, *arguments, **named)
