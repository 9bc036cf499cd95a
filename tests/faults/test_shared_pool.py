"""No borrower takes the pool from the others: neither one school's lock, nor one client, nor whoever takes PostgreSQL's connections."""

import asyncio
import random
from collections import Counter
from typing import Any

import asyncpg
import pytest

from domain.declare.errors import Busy, DatabaseUnavailable
from domain.store import database as engine
from domain.store.database import Database, database_use
from domain.store.pool import NoneFree, Pool
from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import Trust, batch, entry, judged, opened, roll, sent, upn


async def hold(database: Database, released: asyncio.Event, *, is_writing: bool = False, client: str | None = None) -> None:
    """Uses a connection until told otherwise."""
    database_use.set(engine.DatabaseUse(client=client))
    if is_writing:

        async def wait(connection: Any) -> None:
            await released.wait()

        return await database.run_transaction(None, wait)
    async with database.without_caller():
        await released.wait()


async def read(database: Database, client: str | None = None) -> int:
    database_use.set(engine.DatabaseUse(client=client))
    async with database.without_caller() as connection:
        return int(await connection.fetchval("SELECT 1"))


async def test_connections_taken_by_others_are_waited_for(databases: Databases) -> None:
    database = await Database.open(databases.app_url, size=5)
    operator = await asyncpg.connect(databases.operator_url)
    await operator.execute("SELECT 1")
    superuser = await asyncpg.connect(databases.cluster.url("postgres", "postgres"))
    await superuser.execute(f"ALTER DATABASE {databases.name} CONNECTION LIMIT 3")  # the operator's, and two of the pool's five
    released = asyncio.Event()
    holders = [asyncio.create_task(hold(database, released)) for _ in range(2)]
    await asyncio.sleep(0.2)
    waiting = [asyncio.create_task(read(database)) for _ in range(6)]
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting)
    released.set()
    assert await asyncio.gather(*waiting) == [1] * 6
    await asyncio.gather(*holders)
    await superuser.execute(f"ALTER DATABASE {databases.name} CONNECTION LIMIT -1")
    assert await asyncio.gather(*(read(database) for _ in range(20))) == [1] * 20
    for connection in (operator, superuser):
        await connection.close()
    await database.close()


async def test_a_connection_given_back_while_another_could_not_be_opened_is_taken(databases: Databases) -> None:
    """Nobody has one then, and one is idle."""
    superuser = await asyncpg.connect(databases.cluster.url("postgres", "postgres"))
    await superuser.execute(f"ALTER DATABASE {databases.name} CONNECTION LIMIT 1")
    may_open = asyncio.Event()
    may_open.set()

    async def connect() -> Any:
        await may_open.wait()
        return await asyncpg.connect(databases.app_url)

    pool = Pool(connect, 3)
    first = await pool.acquire(5)
    may_open.clear()
    second = asyncio.create_task(pool.acquire(5))
    await asyncio.sleep(0)
    pool.release(first, is_reusable=True)
    may_open.set()
    assert await second is first
    pool.release(first, is_reusable=True)
    await pool.close()
    await superuser.close()


async def test_nobody_waits_for_connections_that_nobody_has(databases: Databases) -> None:
    database = await Database.open(databases.app_url, size=2)
    superuser = await asyncpg.connect(databases.cluster.url("postgres", "postgres"))
    await superuser.execute(f"ALTER DATABASE {databases.name} ALLOW_CONNECTIONS false")
    await superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", databases.name)
    await asyncio.sleep(0.2)
    answers = await asyncio.gather(*(read(database) for _ in range(8)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {DatabaseUnavailable}
    await superuser.execute(f"ALTER DATABASE {databases.name} ALLOW_CONNECTIONS true")
    assert await asyncio.gather(*(read(database) for _ in range(8))) == [1] * 8
    await superuser.close()
    await database.close()


async def test_writes_leave_half_of_the_pool_to_reads(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.3)
    database = await Database.open(databases.app_url, size=4)
    released = asyncio.Event()
    writers = [asyncio.create_task(hold(database, released, is_writing=True, client=f"c{n}")) for n in range(8)]
    await asyncio.sleep(0.1)
    assert await asyncio.gather(*(read(database) for _ in range(8))) == [1] * 8
    await asyncio.sleep(0.4)
    assert [type(task.exception()) for task in writers if task.done()] == [Busy] * 6
    released.set()
    assert [answer for answer in await asyncio.gather(*writers, return_exceptions=True) if answer is None] == [None] * 2
    await database.close()


@pytest.mark.parametrize("is_writing", [False, True])
async def test_one_client_leaves_connections_to_another(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, is_writing: bool
) -> None:
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.5)
    database = await Database.open(databases.app_url, size=6)
    released = asyncio.Event()
    greedy = [asyncio.create_task(hold(database, released, is_writing=is_writing, client="greedy")) for _ in range(12)]
    await asyncio.sleep(0.1)
    done = asyncio.Event()
    done.set()
    assert await asyncio.gather(*(hold(database, done, is_writing=is_writing, client="modest") for _ in range(6))) == [None] * 6
    released.set()
    await asyncio.gather(*greedy, return_exceptions=True)
    await database.close()


async def test_the_client_with_the_fewest_connections_is_served_first(databases: Databases) -> None:
    database = await Database.open(databases.app_url, size=5)
    order: list[str] = []

    async def use(client: str, released: asyncio.Event) -> None:
        await hold(database, released, client=client)
        order.append(client)

    first, done = asyncio.Event(), asyncio.Event()
    done.set()
    tasks = [asyncio.create_task(use(f"holder{n % 2}", first)) for n in range(5)]
    await asyncio.sleep(0.2)
    tasks += [asyncio.create_task(use("greedy", done)) for _ in range(20)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(use("modest", done)))
    await asyncio.sleep(0.1)
    first.set()
    await asyncio.gather(*tasks)
    assert order.index("modest") < 12
    await database.close()


async def test_one_locked_school_does_not_stop_the_others(small_trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOCK_SECONDS", 1)
    vendor, other = await small_trust.client("vendor", "trust:4128=all"), await small_trust.client("other", "trust:4128=all")
    await opened(vendor)
    for at, n in (("Oak", 1), ("Elm", 2)):
        await sent(vendor, "/v1/pupils", roll(at, [entry(n)]))
    locker = await asyncpg.connect(small_trust.databases.owner_url)
    transaction = locker.transaction()
    await transaction.start()
    await locker.execute("SELECT 1 FROM school_versions WHERE school_id = $1 FOR UPDATE", small_trust.ids["Oak"])
    blocked = [asyncio.create_task(vendor.post("/v1/judgements", json=batch("Oak", [judged(1, grade=80 + n)]))) for n in range(14)]
    await asyncio.sleep(0.3)
    for client in (vendor, other):
        answers = await asyncio.gather(*(client.get("/v1/schools") for _ in range(10)))
        assert {answer.status_code for answer in answers} == {200}
    await sent(other, "/v1/judgements", batch("Elm", [{"upn": upn(2), "subject": "reading", "grade": 90}]))
    refused = await asyncio.gather(*blocked)
    assert {answer.status_code for answer in refused} == {503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    await transaction.rollback()
    await locker.close()
    assert (
        await small_trust.value(
            "SELECT count(*) FROM judgements j JOIN upns u USING (tenant_id, pupil_id) WHERE u.upn = $1", upn(1)
        )
        == 0
    )
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=99)]))


async def test_waiting_that_ends_badly_costs_no_connection(databases: Databases) -> None:
    """Requests that are cancelled or give up while they wait, connections that break: in the end every connection can be had again."""
    draw, size = random.Random(11), 3
    pool = Pool(lambda: asyncpg.connect(databases.app_url), size)
    ends = Counter[str]()

    async def use(number: int) -> None:
        try:
            connection = await pool.acquire(draw.choice([0.0005, 0.01, 1]), number % 5, is_writing=number % 3 == 0)
        except (TimeoutError, asyncio.CancelledError) as end:
            ends[type(end).__name__] += 1
            return
        try:
            await asyncio.sleep(draw.random() * 0.002)
        finally:
            pool.release(connection, is_reusable=draw.random() < 0.95)
            ends["used"] += 1

    for _ in range(20):
        tasks = [asyncio.create_task(use(number)) for number in range(30)]
        await asyncio.sleep(draw.random() * 0.02)
        for task in tasks:
            if draw.random() < 0.4:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert min(ends["used"], ends["NoneFree"], ends["CancelledError"]) > 10, ends
    connections = [await pool.acquire(10, client) for client in range(size)]
    assert [await connection.fetchval("SELECT 1") for connection in connections] == [1] * size
    with pytest.raises(NoneFree):
        await pool.acquire(0.01, "one more")
    for connection in connections:
        pool.release(connection, is_reusable=True)
    await pool.close()
