"""What takes too long is stopped, answered 503 with Retry-After, and leaves the pool as it was: here it is one connection, so that a lost one shows."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx2
import pytest

from api.app import build_app
from api.settings import Settings, SettingsError
from domain.declare.errors import Busy
from domain.store import database as engine
from domain.store import embedded, pulse, shared_reads
from domain.store.database import Database
from domain.store.shared_reads import SharedReads
from tests.faults.laboratory.processes import frozen
from tests.fixtures.databases import Databases, fresh_database
from tests.fixtures.server import Server, import_register, serving
from tests.fixtures.settings import SECRET


@pytest.fixture(scope="module")
def brief(cluster: embedded.Cluster) -> Iterator[Server]:
    """A server with one connection, where a read may take a second and a request two."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (("POOL_SIZE", "1"), ("READ_SECONDS", "1"), ("WRITE_SECONDS", "60"), ("REQUEST_SECONDS", "2")):
            environment.setenv(f"MARKONCE_{name}", value)
        with serving(fresh_database(cluster)) as server:
            import_register(server)
            server.register("all", "schools=all")
            server.token("all")
            yield server


@asynccontextmanager
async def locked(databases: Databases, table: str) -> AsyncIterator[None]:
    """Nobody else gets at the table."""
    connection = await asyncpg.connect(databases.owner_url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def ask(server: Server, method: str, path: str, **options: Any) -> httpx2.Response:
    bearer = {"Authorization": f"Bearer {server.token('all')}"}
    async with httpx2.AsyncClient(base_url=server.base_url, headers=bearer, timeout=60) as http:
        return await http.request(method, path, **options)


async def is_at_rest(databases: Databases) -> bool:
    """Whether no statement and no transaction of the app's role is left, soon after what was stopped has been answered."""
    connection = await asyncpg.connect(databases.cluster.url(databases.name, embedded.SUPERUSER))
    try:
        for _ in range(50):
            states = await connection.fetch(
                "SELECT state FROM pg_stat_activity WHERE usename = 'markonce_app' AND datname = $1", databases.name
            )
            if {row["state"] for row in states} <= {"idle"}:
                return True
            await asyncio.sleep(0.1)
        return False
    finally:
        await connection.close()


def stopped(answer: httpx2.Response, detail: str) -> bool:
    problem = answer.json()
    assert (answer.status_code, problem["type"].rsplit("/", 1)[1]) == (503, "busy"), answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert "x-request-id" in answer.headers
    return detail in problem["detail"]


async def test_a_read_is_stopped_by_the_database(brief: Server) -> None:
    async with locked(brief.databases, "schools"):
        assert stopped(await ask(brief, "GET", "/v1/schools"), "did not answer in time")
        answer = await ask(brief, "POST", "/graphql", json={"query": "{ schools { nodes { id } } }"})
        assert answer.json()["errors"][0]["extensions"]["problem"]["status"] == 503
        assert int(answer.headers["retry-after"]) > 0
        assert await is_at_rest(brief.databases)
    for _ in range(3):
        assert (await ask(brief, "GET", "/v1/schools")).status_code == 200


async def test_a_request_is_stopped_and_so_is_its_statement(brief: Server) -> None:
    """A write may take longer than a read, and waits for the lock until the request as a whole has had its time."""
    async with locked(brief.databases, "idempotency"):
        batch, key = {"window": "none", "entries": []}, {"Idempotency-Key": "stopped"}
        answer = await ask(brief, "POST", "/v1/judgements", json=batch, headers=key)
        assert stopped(answer, "took too long"), answer.text
        assert await is_at_rest(brief.databases)
    for _ in range(3):
        assert (await ask(brief, "GET", "/v1/schools")).status_code == 200


async def test_a_full_pool_is_503(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.2)
    database = await Database.open(databases.app_url, size=1)
    app = build_app(Settings(databases.app_url, SECRET.encode()), database)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as http:
        async with database.without_caller():
            assert stopped(await http.get("/oauth/jwks"), "free in time")
        assert (await http.get("/oauth/jwks")).status_code == 200
    await database.close()


async def test_a_database_that_does_not_answer_is_unavailable_and_one_that_works_is_busy(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its connections open and ends nothing. A read, the beginning of a write, a question for which no connection is free, and one that
    waits for others' are told so. After it every connection works."""
    for module, name, seconds in (
        *((engine, "POOL_SECONDS", 0.5), (engine, "ANSWER_SECONDS", 0.0), (shared_reads, "MAX_SECONDS", 1.5)),
        *((pulse, "ASK_SECONDS", 0.5), (pulse, "SHARED_SECONDS", 0.0)),
    ):
        monkeypatch.setattr(module, name, seconds)
    database = await Database.open(databases.app_url, size=2, read_seconds=1, write_seconds=2)

    async def read() -> str:
        return await told(database.read("SELECT 1 AS one"))

    async def sleep(connection: Any) -> None:
        await connection.execute("SELECT pg_sleep(0.8)")

    async def told(work: Awaitable[Any]) -> str:
        try:
            await work
        except Busy as problem:
            return f"{problem.code}: {problem.detail}"
        return "done"

    silent = "database-unavailable: The database does not answer; nothing of this request was written."
    at_work = await asyncio.gather(*(told(database.run_transaction(None, sleep)) for _ in range(2)))
    assert at_work == ["done", "busy: No connection to the database was free in time."]  # one of two connections writes
    await asyncio.gather(*(database.read("SELECT pg_sleep(0.1)") for _ in range(2)))  # both connections are open
    reads = SharedReads(lambda keys: asyncio.sleep(9, {}), database.explain_late)
    assert await told(reads.get("a")) == "busy: The database did not answer in time."
    with frozen(databases.cluster):
        waiting = read(), told(database.run_transaction(None, sleep)), read(), told(reads.get("a"))
        assert await asyncio.gather(*waiting) == [silent] * 4
    assert [await read() for _ in range(3)] == ["done"] * 3
    await database.close()


async def test_the_answer_says_how_long_it_took(brief: Server) -> None:
    told = (await ask(brief, "GET", "/v1/schools")).headers["server-timing"]
    (db, app), *_ = re.findall(r"^db;dur=([\d.]+), app;dur=([\d.]+)$", told)
    assert 0 < float(db) <= float(app)
    assert httpx2.get(f"{brief.base_url}/health/live").headers["server-timing"].startswith("db;dur=0.0, app;dur=")


async def test_requests_at_the_same_time_are_timed_apart(brief: Server) -> None:
    """One waits for the database and the other never asks it."""
    async with locked(brief.databases, "schools"):
        slow, quick = await asyncio.gather(ask(brief, "GET", "/v1/schools"), ask(brief, "GET", "/health/live"))
    assert float(re.findall(r"db;dur=([\d.]+)", slow.headers["server-timing"])[0]) > 0
    assert quick.headers["server-timing"].startswith("db;dur=0.0,")


def test_a_number_that_is_none_is_named() -> None:
    given = {"DATABASE_URL": "postgresql://x", "MARKONCE_SECRET": "x" * 32}
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({**given, "MARKONCE_RATE": "0", "MARKONCE_READ_SECONDS": "ten", "MARKONCE_POOL_SIZE": "²"})
    assert all(name in str(raised.value) for name in ("MARKONCE_RATE", "MARKONCE_READ_SECONDS", "MARKONCE_POOL_SIZE"))
    assert Settings.from_environment({**given, "MARKONCE_BURST": "7"}).burst == 7
    with pytest.raises(SettingsError, match="MARKONCE_INTROSPECTION is on or off; MARKONCE_LOG is requests or warnings"):
        Settings.from_environment({**given, "MARKONCE_INTROSPECTION": "false", "MARKONCE_LOG": "loud"})
