"""A pooler in transaction mode: an old PgBouncer is refused, and with a newer one every answer is the same and no context is
another's. `make operations` runs it."""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.declare.errors import Busy, DatabaseError
from domain.store.database import Database
from domain.store.pooler import find_pooler_faults, store_role_settings
from tests.fixtures.databases import Databases
from tests.fixtures.interfaces import open_interfaces
from tests.fixtures.registration import authorise
from tests.fixtures.settings import SECRET, WIDE
from tests.fixtures.two_trusts import TwoTrusts
from tests.operations.pooling import Pooler, build_pgbouncer, find_debian_pgbouncer, read_version, run_pgbouncer

CLIENTS, STATEMENTS, CONNECTIONS = 40, 24_000, 4
READ_SECONDS = 10
QUESTIONS = 60
PATHS = (
    "/v1/me",
    "/v1/windows",
    "/v1/aggregates?groupBy=school&subject=reading&window=Autumn",
    "/v1/pupils?first=200",
    "/v1/receipts?first=50",
    "/v1/nothing",
)
CURSOR = re.compile(rb'"(?:endCursor|cursor|startCursor)":"[^"]*"')


@pytest.fixture(scope="module")
def old(two_trusts: TwoTrusts) -> Iterator[Pooler]:
    program = find_debian_pgbouncer()
    assert read_version(program) < (1, 21), "this machine's own PgBouncer is new enough; the refusal cannot be shown"
    with run_pgbouncer(program, two_trusts.databases.cluster) as running:
        yield running


@pytest.fixture(scope="module")
def new(two_trusts: TwoTrusts) -> Iterator[Pooler]:
    program = build_pgbouncer()
    assert read_version(program) >= (1, 21)
    with run_pgbouncer(program, two_trusts.databases.cluster, size=CONNECTIONS) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def pooled(two_trusts: TwoTrusts, new: Pooler) -> AsyncIterator[Database]:
    """A pool by way of the pooler, as `serve` opens it, after `migrate` has stored the settings of the role."""
    url = new.url(two_trusts.databases.app_url)
    assert await store_role_settings(url, "DATABASE_URL", READ_SECONDS)
    await reconnect(new, two_trusts.databases)
    opened = await Database.open(url, size=CLIENTS, pooled=True, read_seconds=READ_SECONDS)
    yield opened
    await opened.close()


async def reconnect(pooler: Pooler, databases: Databases) -> None:
    """RECONNECT in the console of the pooler, as docs/scaling.md says."""
    url = pooler.url(databases.cluster.url("pgbouncer", "postgres"))
    console = await asyncpg.connect(url, statement_cache_size=0)
    await console.execute("RECONNECT")
    console.terminate()


async def test_old_pgbouncer(two_trusts: TwoTrusts, old: Pooler) -> None:
    url = old.url(two_trusts.databases.app_url)
    (fault,) = await find_pooler_faults(url, "DATABASE_URL", READ_SECONDS)
    assert re.fullmatch(
        r"DATABASE_URL: PgBouncer at 127\.0\.0\.1:\d+ is 1\.18\.\d+, and keeps no prepared statements .* 1\.21 or newer .*", fault
    )


async def test_role_that_may_not_read_the_version(two_trusts: TwoTrusts) -> None:
    with run_pgbouncer(find_debian_pgbouncer(), two_trusts.databases.cluster, stats_users="") as unnamed:
        (fault,) = await find_pooler_faults(unnamed.url(two_trusts.databases.app_url), "DATABASE_URL", READ_SECONDS)
    assert "the pooler at" in fault
    assert "keeps no prepared statements: PgBouncer 1.21 or newer does" in fault


async def test_new_one_that_keeps_no_statements(two_trusts: TwoTrusts, pooled: Database) -> None:
    program = build_pgbouncer()
    for settings in ({"max_prepared_statements": "0"}, {"pool_mode": "session"}):
        with run_pgbouncer(program, two_trusts.databases.cluster, **settings) as running:
            (fault,) = await find_pooler_faults(running.url(two_trusts.databases.app_url), "DATABASE_URL", READ_SECONDS)
        assert re.search(r"PgBouncer 1\.2\d\.\d+ at .* keeps no prepared statements", fault), (settings, fault)


async def test_settings_that_are_missing(two_trusts: TwoTrusts, new: Pooler, pooled: Database) -> None:
    url = new.url(two_trusts.databases.app_url)
    assert await find_pooler_faults(url, "DATABASE_URL", READ_SECONDS) == []
    (fault,) = await find_pooler_faults(url, "DATABASE_URL", READ_SECONDS + 7)  # MARKONCE_READ_SECONDS was changed
    assert "statement_timeout is 10s" in fault
    with pytest.raises(DatabaseError, match="statement_timeout is 10s"):
        await Database.open(url, pooled=True, read_seconds=READ_SECONDS + 7)
    with pytest.raises(DatabaseError, match="set MARKONCE_POOLER=transaction"):
        await Database.open(url)


async def test_time_limits(new: Pooler, two_trusts: TwoTrusts, pooled: Database) -> None:
    begun = time.perf_counter()
    with pytest.raises(Busy):
        await pooled.read("SELECT pg_sleep(30)::text")
    assert READ_SECONDS - 1 < time.perf_counter() - begun < READ_SECONDS + 3

    async def show(connection: asyncpg.Connection) -> list[str]:
        return [await connection.fetchval("SELECT current_setting($1)", name) for name in ("statement_timeout", "lock_timeout")]

    assert await pooled.run_transaction(None, show) == ["1min", "5s"]
    row = await pooled.read(
        "SELECT current_setting('statement_timeout') AS t, current_setting('lock_timeout') AS l, current_setting('jit') AS j"
    )
    assert dict(row or {}) == {"t": "10s", "l": "0", "j": "off"}


async def test_contexts(pooled: Database) -> None:
    """Each of 40 clients reads, writes and asks without a caller, over four connections of PostgreSQL: none sees another's context, none is without its own."""
    seen, draw = Counter[str](), random.Random(20)

    async def ask(client: UUID, number: int) -> None:
        kind = draw.choice(("read", "read", "long", "transaction", "without"))
        if kind in ("read", "long"):  # a long statement has no name
            filler = " " * 16_001 if kind == "long" else " " * draw.randrange(20)
            row = await pooled.read(
                "SELECT current_setting('markonce.caller') AS caller, $2::int AS number FROM"
                f" (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) c WHERE c.s IS NOT NULL{filler}",
                *(client, number),
            )
            assert row is not None
            seen["foreign"] += row["caller"] != str(client) or row["number"] != number
            seen["statements"] += 1
        elif kind == "transaction":

            async def work(connection: asyncpg.Connection) -> list[str]:
                return [
                    await connection.fetchval("SELECT current_setting('markonce.caller') || $1", f" {number}") for _ in range(3)
                ]

            seen["foreign"] += (await pooled.run_transaction(client, work)) != [f"{client} {number}"] * 3
            seen["statements"] += 3
        else:
            async with pooled.without_caller() as connection:
                left = await connection.fetchval(
                    "SELECT concat(current_setting('markonce.caller', true), current_setting('markonce.tenant', true))"
                )
            seen["left over"] += left != ""
            seen["statements"] += 1

    async def run(client: UUID) -> None:
        while seen["statements"] < STATEMENTS:
            await ask(client, draw.randrange(1_000_000))

    await asyncio.gather(*(run(uuid4()) for _ in range(CLIENTS)))
    print(
        f"{seen['statements']:,} statements of {CLIENTS} clients over {CONNECTIONS} connections: {seen['foreign']} foreign contexts"
    )
    assert (seen["foreign"], seen["left over"]) == (0, 0)
    assert seen["statements"] >= STATEMENTS


async def test_same_answers(two_trusts: TwoTrusts, pooled: Database) -> None:
    """Both interfaces answer byte for byte the same, whether the pooler is in between or not. Positions of cursors are encrypted anew each time."""
    draw = random.Random(21)
    async with open_interfaces(two_trusts) as direct:
        settings = Settings("", SECRET.encode(), "http://interfaces", cache_mb=0, **WIDE)
        transport = httpx2.ASGITransport(app=build_app(settings, pooled))
        async with httpx2.AsyncClient(transport=transport, base_url=settings.base_url) as http:
            by_pooler = replace(direct, http=http)
            statuses = Counter[int]()
            for client in ("everything", "mixed", "guest"):
                questions = [direct.asking(client, draw).question() for _ in range(QUESTIONS)]
                answers = [[await both.rest(client, question) for question in questions] for both in (direct, by_pooler)]
                for question, one, two in zip(questions, *answers, strict=True):
                    assert (one.status_code, CURSOR.sub(b"", one.content)) == (two.status_code, CURSOR.sub(b"", two.content)), (
                        question
                    )
                    statuses[one.status_code] += 1
                for path in PATHS:
                    asked = [await each.get(path, headers=direct.tokens[client]) for each in (direct.http, http)]
                    assert asked[0].content == asked[1].content, path
                    statuses[asked[0].status_code] += 1
            document = {
                "query": "{ pupils(first: 50) { nodes { id yearGroup judgements(first: 5) { nodes { grade { code } } } } } schools { nodes { name } } }"
            }
            asked = [
                await each.post("/graphql", json=document, headers=direct.tokens["everything"]) for each in (direct.http, http)
            ]
            assert asked[0].content == asked[1].content
    print(f"{sum(statuses.values())} answers the same: {dict(statuses)}")
    assert statuses[200] > 2 * QUESTIONS


async def test_write(two_trusts: TwoTrusts, pooled: Database) -> None:
    """A write, its receipt and its idempotency key, by way of the pooler; and a key that runs twice at once is one write."""
    settings = Settings("", SECRET.encode(), "http://interfaces", **WIDE)
    transport = httpx2.ASGITransport(app=build_app(settings, pooled))
    async with httpx2.AsyncClient(transport=transport, base_url=settings.base_url) as http:
        headers = await authorise(http, two_trusts.clients["North"].credentials)
        body = {"tenant": {"trust": {"groupUid": 4001}}, "code": "pooled", "name": "Pooled", "template": "effort"}
        keyed = headers | {"Idempotency-Key": "pooled-1"}
        answers = await asyncio.gather(*(http.post("/v1/schemes", json=body, headers=keyed) for _ in range(20)))
        made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
        assert len(made) == 1, [answer.text for answer in answers]
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert (await http.get(f"/v1/schemes/{made.pop()}", headers=headers)).status_code == 200


async def test_changed_result_type(two_trusts: TwoTrusts, pooled: Database) -> None:
    """What a statement returns changes, as by a migration: the pooler's connections hold the older plan, and the next read and write are right."""

    async def read() -> list[int]:
        statement = "SELECT v.* FROM changing v"
        found = [
            await pooled.run_transaction(None, lambda connection: connection.fetchval(statement)) for _ in range(3 * CONNECTIONS)
        ]
        return found + [(await pooled.read(statement) or {})["n"] for _ in range(3 * CONNECTIONS)]

    for number, kind in enumerate(("int", "bigint", "numeric")):
        change = f"DROP VIEW IF EXISTS changing; CREATE VIEW changing AS SELECT {number}::{kind} AS n; GRANT SELECT ON changing TO markonce_app"
        await two_trusts.as_superuser(f"DO $$ BEGIN {change}; END $$")
        assert await read() == [number] * 6 * CONNECTIONS
