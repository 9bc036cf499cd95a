"""Who is admitted to a budget, in which order, and that nothing of it is lost."""

import asyncio

import pytest

from api.http import body_memory
from api.http.body_memory import Budget
from domain.declare.errors import Busy


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_whoever_comes_first_is_admitted_first() -> None:
    of, order = Budget(10, 10), []

    async def take(client: str, size: int) -> None:
        taken = await of.acquire(client, size)
        order.append(client)
        await asyncio.sleep(0)
        of.release(client, taken)

    await asyncio.gather(*(take(client, 10) for client in "abcde"))
    assert order == [*"abcde"]


async def test_a_client_waits_for_its_own_share_and_keeps_nobody_waiting() -> None:
    of = Budget(10, 5)
    assert await of.acquire("a", 99) == 5
    second = asyncio.create_task(of.acquire("a", 1))
    await settled()
    assert not second.done()
    assert await of.acquire("b", 5) == 5
    third = asyncio.create_task(of.acquire("c", 1))
    await settled()
    assert not third.done()
    of.release("b", 5)
    assert (await third, second.done()) == (1, False)
    of.release("a", 5)
    assert await second == 1


async def test_a_large_part_is_not_overtaken_for_ever() -> None:
    of = Budget(10, 10)
    await of.acquire("a", 6)
    large, small = asyncio.create_task(of.acquire("b", 8)), asyncio.create_task(of.acquire("c", 1))
    await settled()
    assert (large.done(), small.done()) == (False, False)
    of.release("a", 6)
    assert (await large, await small) == (8, 1)


async def test_whoever_gives_up_leaves_the_place_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    of = Budget(10, 10)
    await of.acquire("a", 10)
    cancelled, waiting = asyncio.create_task(of.acquire("b", 10)), asyncio.create_task(of.acquire("c", 10))
    await settled()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    of.release("a", 10)
    assert await waiting == 10
    monkeypatch.setattr(body_memory, "MAX_WAIT_SECONDS", 0)
    with pytest.raises(Busy):
        await of.acquire("d", 1)
    of.release("c", 10)
    assert await of.acquire("e", 10) == 10


async def test_who_is_admitted_and_cancelled_at_once_takes_nothing() -> None:
    of = Budget(10, 10)
    await of.acquire("a", 10)
    task = asyncio.create_task(of.acquire("b", 10))
    await settled()
    of.release("a", 10)  # admits b, which has not been told yet
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await of.acquire("c", 10) == 10
