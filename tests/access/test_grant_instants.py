"""One second before and after a grant starts and ends: a 304, an answer from the cache, one under an Idempotency-Key, and a write.

Grants go by the database's clock, which these tests move: `now()` of the application's statements is a function of their own.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx2
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.store.database import Database
from domain.store.embedded import SUPERUSER
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, URNS, Trust, entry, issues, roll, sent, upn

CLOCK = """
CREATE SCHEMA moved;
CREATE TABLE moved.clock (at timestamptz);
INSERT INTO moved.clock VALUES (now());
CREATE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM moved.clock';
GRANT USAGE ON SCHEMA moved TO markonce_app;
GRANT SELECT ON moved.clock TO markonce_app
"""


READS = ("/v1/pupils?fields=upn&sort=upn", "/v1/schools?fields=name&include=pupils", "/v1/enrolments?fields=from&include=pupil")
MARKED = {"Idempotency-Key": "once"}


@dataclass
class Moved:
    """The application on a database whose clock is moved; `at` is the instant. `two` reaches Oak and Elm, `one` Elm alone."""

    here: Trust
    superuser: Any
    at: datetime
    two: httpx2.AsyncClient
    one: httpx2.AsyncClient

    async def stand(self, seconds: int) -> None:
        """Lets the clock stand so many seconds after the instant, or before it."""
        await self.superuser.execute("UPDATE moved.clock SET at = $1", self.at + timedelta(seconds=seconds))

    async def limit(self, column: str, seconds: int) -> None:
        """Lets every grant at Elm start or end so many seconds from now.

        Policies go by the true time, as they were made with it. So a start lies just before it and an end after it, and the statements alone decide.
        """
        self.at += timedelta(seconds=seconds)
        await self.here.operator.execute("UPDATE grants SET starts_at = starts_at - interval '1 hour'")
        await self.here.operator.execute(f"UPDATE grants SET {column} = $1 WHERE target_id = $2", self.at, self.here.ids["Elm"])
        await self.here.operator.execute("SELECT derive_reach()")


@pytest_asyncio.fixture
async def moved(small_trust: Trust, vendor: Any) -> AsyncIterator[Moved]:
    """Pupil 1 is at Oak and pupil 2 at Elm."""
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(2)]))
    clients = [
        await small_trust.client("two", f"school:{URNS['Oak']}=all", f"school:{URNS['Elm']}=all"),
        await small_trust.client("one", f"school:{URNS['Elm']}=all"),
    ]
    databases = small_trust.databases
    superuser = await asyncpg.connect(databases.cluster.url(databases.name, SUPERUSER))
    await superuser.execute(CLOCK)

    async def move(connection: Any) -> None:
        await connection.execute("SET search_path = moved, pg_catalog, public")

    database = await Database.open(databases.app_url, on_connect=move)
    app = build_app(Settings(databases.app_url, SECRET.encode(), BASE, rate=100_000, burst=100_000, cache_mb=8), database)
    transport = httpx2.ASGITransport(app=app)
    two, one = (
        httpx2.AsyncClient(transport=transport, base_url=BASE, headers={"Authorization": c.headers["Authorization"]})
        for c in clients
    )
    now = await superuser.fetchval("SELECT at FROM moved.clock")
    yield Moved(small_trust, superuser, now, two, one)
    for client in (two, one):
        await client.aclose()
    await database.close()
    await superuser.close()


async def read(client: httpx2.AsyncClient, tags: dict[str, str] | None = None) -> dict[str, tuple[int, str]]:
    """The status of each read, conditional where there is a tag, and its entity tag."""
    answers = {path: await client.get(path, headers={"If-None-Match": tags[path]} if tags else {}) for path in READS}
    return {path: (answer.status_code, answer.headers.get("etag", "")) for path, answer in answers.items()}


async def list_upns(client: httpx2.AsyncClient) -> list[str]:
    """The pupils of the first read, which may come from the cache, the same as in GraphQL."""
    rows = (await client.get(READS[0])).json()["data"]
    query = "{ pupils(orderBy: [{field: upn}]) { nodes { upn } } }"
    assert (await client.post("/graphql", json={"query": query})).json()["data"]["pupils"]["nodes"] == rows
    return [row["upn"] for row in rows]


async def write(client: httpx2.AsyncClient, surname: str, **headers: str) -> httpx2.Response:
    """A row of pupil 2 on Elm's roll."""
    return await client.post("/v1/pupils", json=roll("Elm", [entry(2, surname=surname)]), headers=headers)


async def test_a_grant_ends(moved: Moved) -> None:
    await moved.limit("expires_at", 60)
    await moved.stand(-3)
    first = [await write(client, "Surname2", **MARKED) for client in (moved.two, moved.one)]
    assert [answer.status_code for answer in first] == [200, 200]
    await moved.stand(-2)
    tags = {client: {path: tag for path, (_, tag) in (await read(client)).items()} for client in (moved.two, moved.one)}
    await moved.stand(-1)
    for client, who in ((moved.two, [upn(1), upn(2)]), (moved.one, [upn(2)])):
        assert {status for status, _ in (await read(client, tags[client])).values()} == {304}
        assert await list_upns(client) == sorted(who)
        again = await write(client, "Surname2", **MARKED)
        assert (again.status_code, again.headers.get("idempotency-replayed")) == (200, "true")
        assert (await write(client, "Surname2")).status_code == 200
    await moved.stand(1)
    assert {status for status, _ in (await read(moved.two, tags[moved.two])).values()} == {200}
    assert await list_upns(moved.two) == [upn(1)]
    assert issues((await write(moved.two, "Later")).json()) == {"/school": "school-not-found"}
    assert {status for status, _ in (await read(moved.one, tags[moved.one])).values()} == {403}
    for answer in (await moved.one.get(READS[0]), await write(moved.one, "Later"), await write(moved.one, "Surname2", **MARKED)):
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (403, "grant-ended")
    assert await moved.here.value("SELECT surname FROM pupils WHERE upn = $1", upn(2)) == "Surname2"


async def test_a_grant_starts(moved: Moved) -> None:
    await moved.limit("starts_at", -5)
    await moved.stand(-2)
    tags = {path: tag for path, (_, tag) in (await read(moved.two)).items()}
    await moved.stand(-1)
    assert {status for status, _ in (await read(moved.two, tags)).values()} == {304}
    assert await list_upns(moved.two) == [upn(1)]
    assert issues((await write(moved.two, "Early")).json()) == {"/school": "school-not-found"}
    assert (await moved.one.get(READS[0])).status_code == 403
    assert (await write(moved.one, "Early")).status_code == 403
    await moved.stand(1)
    assert {status for status, _ in (await read(moved.two, tags)).values()} == {200}
    assert await list_upns(moved.two) == sorted([upn(1), upn(2)])
    assert (await write(moved.two, "Now")).status_code == 200
    assert await list_upns(moved.one) == [upn(2)]
    assert (await write(moved.one, "Now", **MARKED)).status_code == 200
