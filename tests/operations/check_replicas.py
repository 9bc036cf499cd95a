"""Reads on a streaming standby: what they may show, what they may not, and what becomes of a read when the standby goes. `make operations` runs it."""

import asyncio
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.clients.clients import revoke_client
from domain.clients.grants import list_grants, revoke_grant
from domain.declare.scopes import Scope
from domain.store.database import Database, DatabaseUse, database_use
from domain.store.replicas import ReadTerms, ReplicaCounts, Replicas
from tests.fixtures.interfaces import open_interfaces
from tests.fixtures.registration import authorise
from tests.fixtures.server import run_as_operator
from tests.fixtures.settings import SECRET, WIDE
from tests.fixtures.two_trusts import TwoTrusts
from tests.operations.standby import Standby, run_standby

READS, ROUNDS = 80, 60
SCHEMES = "/v1/schemes?first=200&fields=code,name"


@pytest.fixture(scope="module")
def standby(two_trusts: TwoTrusts) -> Iterator[Standby]:
    with run_standby(two_trusts.databases.cluster) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def database(two_trusts: TwoTrusts, standby: Standby) -> AsyncIterator[Database]:
    url = standby.url(two_trusts.databases.name, "markonce_app")
    opened = await Database.open(two_trusts.databases.app_url, replica_urls=[url])
    yield opened
    await opened.close()


@pytest_asyncio.fixture(scope="module")
async def http(database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings("", SECRET.encode(), "http://interfaces", **WIDE)
    transport = httpx2.ASGITransport(app=build_app(settings, database))
    async with httpx2.AsyncClient(transport=transport, base_url=settings.base_url) as client:
        yield client


@pytest_asyncio.fixture
async def replicas(database: Database) -> Replicas:
    """Once the standby is in use, with counts of its own."""
    assert database.replicas is not None
    until = time.monotonic() + 30
    while database.replicas.choose() is None:
        assert time.monotonic() < until, [replica.reason for replica in database.replicas.replicas]
        await asyncio.sleep(0.1)
    database.replicas.counts = ReplicaCounts()
    return database.replicas


async def make_scheme(http: httpx2.AsyncClient, headers: dict[str, str], code: str) -> httpx2.Response:
    body = {"tenant": {"trust": {"groupUid": 4001}}, "code": code, "name": code, "template": "effort"}
    answer = await http.post("/v1/schemes", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer


async def read_codes(http: httpx2.AsyncClient, headers: dict[str, str], seen: str = "") -> set[str]:
    answer = await http.get(SCHEMES, headers=headers | ({"Markonce-Min-Version": seen} if seen else {}))
    assert answer.status_code == 200, answer.text
    return {row["code"] for row in answer.json()["data"]}


async def test_same_answers(two_trusts: TwoTrusts, http: httpx2.AsyncClient, replicas: Replicas) -> None:
    draw = random.Random(22)
    async with open_interfaces(two_trusts) as direct:
        for client in ("everything", "mixed", "guest"):
            headers = direct.tokens[client]
            questions = [direct.asking(client, draw).question() for _ in range(READS)]
            for question in questions:
                one = await direct.rest(client, question)
                path = f"/v1/{question.resource.path}"
                if question.identifies:
                    two = await http.post(f"{path}/lookup", json=question.body(), headers=headers)
                else:
                    two = await http.get(path, params=question.parameters(), headers=headers)
                assert (one.status_code, one.content) == (two.status_code, two.content), question
            for path in ("/v1/aggregates?groupBy=school&subject=reading&window=2024-25/Autumn", "/v1/me"):
                assert (await direct.http.get(path, headers=headers)).content == (await http.get(path, headers=headers)).content
    print(replicas.counts)
    assert replicas.counts.answered > 2 * READS
    assert replicas.counts.failed == 0
    assert replicas.counts.older <= 3  # answers without a row, such as of an unknown school


async def test_own_writes(two_trusts: TwoTrusts, http: httpx2.AsyncClient, standby: Standby, replicas: Replicas) -> None:
    headers = await authorise(http, two_trusts.clients["North"].credentials)
    await read_codes(http, headers)
    await standby.pause()
    try:
        made = await make_scheme(http, headers, "own-write")
        version = made.headers["Markonce-Version"]
        assert re.fullmatch(rf"{two_trusts.tenants['North']}\.\d+", version)
        assert "own-write" not in await read_codes(http, headers), "the standby is not behind"
        answered = replicas.counts.answered
        assert "own-write" in await read_codes(http, headers, version)
        assert (replicas.counts.answered, replicas.counts.older) == (answered, 1)
        document = {"query": "{ schemes(first: 200) { nodes { code } } }"}
        graphql = await http.post("/graphql", json=document, headers=headers | {"Markonce-Min-Version": version})
        assert "own-write" in graphql.text
        # an ETag of the newer is not current on the older, and the other way round
        fresh = await http.get(SCHEMES, headers=headers | {"Markonce-Min-Version": version})
        again = await http.get(SCHEMES, headers=headers | {"Markonce-Min-Version": version, "If-None-Match": fresh.headers["ETag"]})
        stale = await http.get(SCHEMES, headers=headers | {"If-None-Match": fresh.headers["ETag"]})
        assert (again.status_code, stale.status_code) == (304, 200)
        graphql = {
            "query": 'mutation { createScheme(input: {tenant: {trust: {groupUid: 4001}}, code: "by-graphql", name: "By", template: "effort"}) { id } }'
        }
        mutated = await http.post("/graphql", json=graphql, headers=headers)
        assert "by-graphql" in await read_codes(http, headers, mutated.headers["Markonce-Version"])
    finally:
        await standby.resume()
    await asyncio.sleep(1)
    replicas.counts = ReplicaCounts()
    assert "own-write" in await read_codes(http, headers, version)
    assert replicas.counts.answered
    assert not replicas.counts.older


async def test_races(two_trusts: TwoTrusts, http: httpx2.AsyncClient, replicas: Replicas) -> None:
    """Each writer reads what it has just written, with the version that the answer said: always there, whichever answers."""
    headers = await authorise(http, two_trusts.clients["North"].credentials)

    async def write(number: int) -> None:
        for each in range(ROUNDS // 4):
            code = f"race-{number}-{each}"
            made = await make_scheme(http, headers | {"Idempotency-Key": code}, code)
            assert code in await read_codes(http, headers, made.headers["Markonce-Version"])
            replayed = await make_scheme(http, headers | {"Idempotency-Key": code}, code)
            assert code in await read_codes(http, headers, replayed.headers["Markonce-Version"])

    await asyncio.gather(*(write(number) for number in range(4)))
    print(replicas.counts)


def end_grant_in_south(two_trusts: TwoTrusts, client_id: UUID) -> None:
    """As the operator's command does."""

    async def end(operator: Any) -> None:
        (grant,) = [grant for grant in await list_grants(operator, client_id) if Scope.PUPILS_WRITE not in grant.scopes]
        await revoke_grant(operator, grant.id)

    run_as_operator(two_trusts.databases, end)


async def test_revoked_grant(two_trusts: TwoTrusts, http: httpx2.AsyncClient, standby: Standby, replicas: Replicas) -> None:
    """While the standby knows nothing of it."""
    headers = await authorise(http, two_trusts.clients["guest"].credentials)
    path = "/v1/pupils?first=200&fields=id"
    before = len((await http.get(path, headers=headers)).json()["data"])
    await standby.pause()
    try:
        client = two_trusts.clients["guest"].caller.client_id
        end_grant_in_south(two_trusts, client)
        begun = time.monotonic()
        while (left := len((await http.get(path, headers=headers)).json()["data"])) == before:
            assert time.monotonic() - begun < 6, "the grant goes on"
            await asyncio.sleep(0.05)
        print(f"{before} pupils, {left} after {time.monotonic() - begun:.1f} s")
        assert left < before
        assert time.monotonic() - begun <= 5.5
        run_as_operator(two_trusts.databases, lambda operator: revoke_client(operator, client))
        begun = time.monotonic()
        while (await http.get(path, headers=headers)).status_code != 401:
            assert time.monotonic() - begun < 5.5, "the client goes on"
            await asyncio.sleep(0.05)
    finally:
        await standby.resume()


async def test_standby_that_is_behind(
    two_trusts: TwoTrusts, http: httpx2.AsyncClient, standby: Standby, replicas: Replicas
) -> None:
    headers = await authorise(http, two_trusts.clients["North"].credentials)
    await read_codes(http, headers)
    await standby.pause()
    try:
        await make_scheme(http, headers, "behind")
        begun = time.monotonic()
        while "behind" not in await read_codes(http, headers):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        print(f"the standby was left out after {time.monotonic() - begun:.1f} s")
        assert time.monotonic() - begun <= 10.5
        assert replicas.choose() is None
    finally:
        await standby.resume()


async def test_replay_ends_a_read(two_trusts: TwoTrusts, database: Database, standby: Standby, replicas: Replicas) -> None:
    """40001: a statement of the standby needs rows that replay removes. The primary answers."""
    await two_trusts.as_superuser(
        "DO $$ BEGIN CREATE TABLE vanishing AS SELECT n FROM generate_series(1, 1000) n; GRANT SELECT ON vanishing TO markonce_app; END $$"
    )
    await asyncio.sleep(0.5)
    client = two_trusts.clients["North"].caller.client_id
    use = DatabaseUse(client=client, terms=ReadTerms(client, 0, time.monotonic()))
    token = database_use.set(use)
    try:
        reading = asyncio.create_task(
            database.read("SELECT count(*) AS n, (SELECT pg_sleep(1.5)::text) AS t FROM vanishing", may_lag=True)
        )
        await asyncio.sleep(0.5)
        superuser = await asyncpg.connect(two_trusts.databases.cluster.url(two_trusts.databases.name, "postgres"))
        await superuser.execute("DELETE FROM vanishing")
        await superuser.execute("VACUUM vanishing")
        await superuser.close()
        row = await reading
        assert row is not None
        assert (row["n"], replicas.counts.failed, use.terms) == (0, 1, None)
    finally:
        database_use.reset(token)


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_standby_that_goes(
    fault: str, two_trusts: TwoTrusts, http: httpx2.AsyncClient, standby: Standby, replicas: Replicas
) -> None:
    """Every read is answered, and the standby is in use again once it is back."""
    headers = await authorise(http, two_trusts.clients["North"].credentials)
    longest, ended = 0.0, asyncio.Event()

    async def read() -> int:
        nonlocal longest
        done = 0
        while not ended.is_set():
            begun = time.monotonic()
            await read_codes(http, headers)
            longest, done = max(longest, time.monotonic() - begun), done + 1
            await asyncio.sleep(0.01)
        return done

    reading = [asyncio.create_task(read()) for _ in range(4)]
    await asyncio.sleep(1)
    if fault == "killed":
        standby.kill()
    else:
        standby.signal(signal.SIGSTOP)
    await asyncio.sleep(6)
    is_left_out = replicas.choose() is None
    standby.start() if fault == "killed" else standby.signal(signal.SIGCONT)
    until = time.monotonic() + 30
    while replicas.choose() is None and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    ended.set()
    assert is_left_out
    assert replicas.choose() is not None, replicas.replicas[0].reason
    print(f"{fault}: {sum(await asyncio.gather(*reading))} reads, the longest {longest:.1f} s; {replicas.counts}")
    assert longest < 5


async def test_wrong_replicas(two_trusts: TwoTrusts, standby: Standby) -> None:
    """Neither the primary itself nor a role that sees everything is a replica."""
    urls = [two_trusts.databases.app_url, standby.url(two_trusts.databases.name, "postgres")]
    opened = await Database.open(two_trusts.databases.app_url, replica_urls=urls)
    assert opened.replicas is not None
    await opened.replicas.look()
    await opened.replicas.look()
    assert opened.replicas.choose() is None
    assert [replica.reason for replica in opened.replicas.replicas] == ["it is no standby", "it does not answer (DatabaseError)"]
    await opened.close()


async def test_promoted_standby(two_trusts: TwoTrusts, http: httpx2.AsyncClient, standby: Standby, replicas: Replicas) -> None:
    """It comes last: the standby is one no more, and has what the primary has not."""
    headers = await authorise(http, two_trusts.clients["North"].credentials)
    await standby.promote()
    await make_scheme(http, headers, "after-promotion")
    begun = time.monotonic()
    while replicas.choose() is not None:
        assert time.monotonic() - begun < 5
        await asyncio.sleep(0.1)
    assert "after-promotion" in await read_codes(http, headers)


async def test_failover(two_trusts: TwoTrusts) -> None:
    """Connections that lead to a standby write nothing (25006); once it is promoted the next write is good, by the same pool."""
    with run_standby(two_trusts.databases.cluster) as standby:
        url = standby.url(two_trusts.databases.name, "markonce_app")
        both = url.replace(f"127.0.0.1:{standby.port}", f"127.0.0.1:{standby.port},127.0.0.1:{two_trusts.databases.cluster.port}")
        opened = await Database.open(f"{both}?target_session_attrs=any", size=3)  # the first host, which is the standby

        async def write(connection: Any) -> str:
            await connection.execute("SELECT pg_current_xact_id()")
            return "written"

        read_only = await opened.read("SELECT pg_is_in_recovery() AS standby")
        assert read_only is not None
        assert read_only["standby"]
        with pytest.raises(Exception, match=r"at the moment|nothing"):
            await opened.run_transaction(None, write)
        await standby.promote()
        assert await opened.run_transaction(None, write) == "written"
        await opened.close()
        choosing = await Database.open(f"{both}?target_session_attrs=read-write", size=3)
        assert await choosing.run_transaction(None, write) == "written"
        await choosing.close()
