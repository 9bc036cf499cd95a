"""Long work on the event loop, in slices: the requests of others are answered between them.

Long work is a generator that yields wherever it may be interrupted, and returns its result. However much of it is under way, one turn of the
event loop holds one slice.
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
"""Seconds after which long work lets others go on."""
ROWS_PER_CLOCK_CHECK = 64
"""Rows of which the clock is not looked at."""
ROWS_PER_STATEMENT = 5_000
"""Rows that one statement writes: to turn them into its arguments is one piece of work."""


class _Turns:
    """Who waits for a slice of one event loop, and who for its one thread of work that cannot be sliced."""

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
        """Lets one go on, and the next of them in the next turn of the loop."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # one that is done was cancelled
                first.set_result(None)
                break
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._admit)


_turns: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns]" = WeakKeyDictionary()


def _get_turns() -> _Turns:
    loop = asyncio.get_running_loop()
    return _turns.get(loop) or _turns.setdefault(loop, _Turns())


def run_at_once(steps: Steps[T]) -> T:
    """The result of long work where nobody else waits, as on the command line."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


async def run_in_slices(steps: Steps[T]) -> T:
    """The result of long work, of which each slice is one turn of the event loop."""
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
    """The rows, a few at a time; whoever works on them in an async function lets others go on between two slices."""
    remaining, until = iter(rows), time.monotonic() + SLICE_SECONDS
    while part := list(islice(remaining, ROWS_PER_CLOCK_CHECK)):
        yield part
        if time.monotonic() > until:
            await _get_turns().wait()
            until = time.monotonic() + SLICE_SECONDS


def split_into_parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows in parts that one statement each writes."""
    return (rows[start : start + ROWS_PER_STATEMENT] for start in range(0, len(rows), ROWS_PER_STATEMENT))


async def run_in_thread(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result of long work that cannot be interrupted, run beside the event loop: one at a time, since all of it contends for the
    interpreter. It must be Python, or C that lets the interpreter go."""
    async with _get_turns().thread:
        return await asyncio.to_thread(work, *arguments, **named)
