"""Reads that many wait for together: one statement at a time, and nobody is answered by one that began before the question."""

import asyncio
from collections.abc import Sequence

import pytest

from domain.declare.errors import Busy
from domain.store import shared_reads
from domain.store.shared_reads import SharedReads


class Source:
    """Counts up with each read; each takes until it is let go."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.running = 0
        self.go = asyncio.Semaphore(0)
        self.problem: Exception | None = None

    async def read(self, keys: Sequence[str]) -> dict[str, int]:
        self.asked.append(list(keys))
        value, self.running = len(self.asked), self.running + 1
        assert self.running == 1
        await self.go.acquire()
        self.running -= 1
        if self.problem:
            raise self.problem
        return dict.fromkeys(keys, value)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reads, "INTERVAL_SECONDS", 0.0)


async def test_who_asks_while_a_statement_runs_waits_for_the_next() -> None:
    source = Source()
    reads = SharedReads(source.read)
    first = [asyncio.create_task(reads.get("a")) for _ in range(10)]
    await settled()
    later = [asyncio.create_task(reads.get(key)) for key in ("a", "b", "a", "c")]
    await settled()
    assert source.asked == [["a"]]
    source.go.release()
    source.go.release()
    assert await asyncio.gather(*first) == [1] * 10
    assert await asyncio.gather(*later) == [2] * 4
    assert source.asked == [["a"], ["a", "b", "c"]]


async def test_a_statement_reads_so_many_keys_and_the_next_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reads, "MAX_KEYS", 3)
    source = Source()
    source.go, reads = asyncio.Semaphore(100), SharedReads(source.read)
    values = await asyncio.gather(*(reads.get(str(i)) for i in range(7)))
    assert values == [1, 1, 1, 2, 2, 2, 3]


async def test_a_failure_is_reported_to_all_who_waited_and_to_nobody_after() -> None:
    source = Source()
    reads = SharedReads(source.read)
    source.problem = Busy("not now")
    waiting = [asyncio.create_task(reads.get(key)) for key in "ab"]
    source.go.release()
    assert [type(answer) for answer in await asyncio.gather(*waiting, return_exceptions=True)] == [Busy, Busy]
    source.problem = None
    source.go.release()
    assert await reads.get("a") == 2


async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    source = Source()
    reads = SharedReads(source.read)
    one, other = asyncio.create_task(reads.get("a")), asyncio.create_task(reads.get("a"))
    await settled()
    one.cancel()
    await settled()
    source.go.release()
    assert await other == 1
    assert one.cancelled()


async def test_a_statement_that_is_never_answered_keeps_nobody_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """As over a connection that has died without a word: the next statement goes over another one."""
    monkeypatch.setattr(shared_reads, "MAX_SECONDS", 0.05)
    source = Source()
    reads = SharedReads(source.read)
    with pytest.raises(Busy):
        await reads.get("a")
    source.running = 0
    source.go.release()
    assert await reads.get("a") == 2
