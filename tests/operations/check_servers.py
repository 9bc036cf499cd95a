"""Two servers of two workers each on one database: behind haproxy, with a pooler and a replica, and while the primary is lost. `make operations` runs it."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator

import httpx2
import pytest_asyncio

from domain.store.pooler import store_role_settings
from tests.fixtures.registration import authorise
from tests.fixtures.settings import NO_AUTHORITIES
from tests.fixtures.two_trusts import TwoTrusts
from tests.operations.check_replicas import end_grant_in_south
from tests.operations.pooling import build_pgbouncer, run_pgbouncer
from tests.operations.servers import WORKERS, Installation, run_servers
from tests.operations.standby import Standby, run_standby

WRITERS, SECONDS = 6, 12


@pytest_asyncio.fixture(scope="module")
async def installation(two_trusts: TwoTrusts) -> AsyncIterator[Installation]:
    databases = two_trusts.databases
    with run_pgbouncer(build_pgbouncer(), databases.cluster, size=8) as pooler, run_standby(databases.cluster) as standby:
        url = pooler.url(databases.app_url)
        await store_role_settings(databases.app_url, "DATABASE_URL", 10)  # before the pooler has a connection
        replica = standby.url(databases.name, "markonce_app")
        settings = {"DATABASE_URL": url, "DATABASE_REPLICA_URL": replica, "MARKONCE_POOLER": "transaction"}
        with run_servers(databases, settings) as running:
            yield running


async def write_until(http: httpx2.AsyncClient, headers: dict[str, str], name: str, ends: float, seen: Counter[str]) -> set[str]:
    """Makes schemes and reads each of them back, with the version of the answer. Returns the codes that were acknowledged.

    What broke off is sent again with its key, as a client does; what is read is counted in `seen`.
    """
    made = set[str]()
    while time.monotonic() < ends:
        code = f"{name}-{len(made)}"
        body = {"tenant": {"trust": {"groupUid": 4001}}, "code": code, "name": code, "template": "effort"}
        try:
            answer = await http.post("/v1/schemes", json=body, headers=headers | {"Idempotency-Key": code})
        except httpx2.TransportError:
            seen["broken off"] += 1
            continue
        if answer.status_code in (409, 502, 503, 504):
            seen[f"status {answer.status_code}"] += 1
            await asyncio.sleep(0.02)
            continue
        assert answer.status_code == 201, answer.text
        made.add(code)
        seen["writes"] += 1
        if "Markonce-Version" not in answer.headers:
            continue
        try:
            read = await http.get(
                f"/v1/schemes/{answer.json()['id']}", headers=headers | {"Markonce-Min-Version": answer.headers["Markonce-Version"]}
            )
        except httpx2.TransportError:
            seen["broken off"] += 1
            continue
        seen["reads" if read.status_code != 404 else "stale reads"] += read.status_code < 500
    return made


async def read_codes(http: httpx2.AsyncClient, headers: dict[str, str]) -> set[str]:
    """The codes of every scheme, of all pages."""
    codes, after = set[str](), ""
    while True:
        answer = await http.get(f"/v1/schemes?first=200&fields=code{after}", headers=headers)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        codes |= {row["code"] for row in page["data"]}
        if not page["page"]["hasMore"]:
            return codes
        after = f"&after={page['page']['endCursor']}"


async def test_races(two_trusts: TwoTrusts, installation: Installation) -> None:
    """Writers that read what they wrote, through the proxy, while a worker is killed: nothing is lost, and no read is older than its header allows."""
    seen = Counter[str]()
    async with httpx2.AsyncClient(base_url=installation.url, timeout=30, verify=NO_AUTHORITIES) as http:
        headers = await authorise(http, two_trusts.clients["North"].credentials)
        ends = time.monotonic() + SECONDS
        writing = [asyncio.create_task(write_until(http, headers, f"w{n}", ends, seen)) for n in range(WRITERS)]
        await asyncio.sleep(SECONDS / 3)
        killed = installation.servers[0].list_workers()[0]
        os.kill(killed, signal.SIGKILL)
        acknowledged = set[str]().union(*await asyncio.gather(*writing))
        await asyncio.sleep(1)
        assert acknowledged <= await read_codes(http, headers)
    print(dict(seen))
    assert seen["writes"] > WRITERS
    assert seen["reads"] > WRITERS
    assert not seen["stale reads"]
    workers = installation.servers[0].list_workers()
    assert len(workers) == WORKERS
    assert killed not in workers


async def test_operations_port(installation: Installation) -> None:
    """One of each server, which counts both of its workers."""
    async with httpx2.AsyncClient(timeout=30, verify=NO_AUTHORITIES) as http:
        for server in installation.servers:
            assert (await http.get(f"{server.operations}/health/live")).status_code == 200
            assert (await http.get(f"{server.operations}/health/ready")).status_code == 200
            figures, until = dict[str, float](), time.monotonic() + 60
            while figures.get("markonce_pool_size", 0) < 10 * WORKERS and time.monotonic() < until:  # one was killed before
                lines = (await http.get(f"{server.operations}/metrics")).text.splitlines()
                figures = {line.partition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
                await asyncio.sleep(0.5)
            assert figures["markonce_worker_starts_total"] >= WORKERS
            assert figures["markonce_pool_size"] == 10 * WORKERS
            assert 0 <= figures["markonce_worker_silent_seconds"] < 10


async def test_revoked_grant(two_trusts: TwoTrusts, installation: Installation) -> None:
    """In every worker of every server within five seconds."""
    path, client = "/v1/pupils?first=200&fields=id", two_trusts.clients["guest"]
    async with httpx2.AsyncClient(base_url=installation.url, timeout=30, verify=NO_AUTHORITIES) as http:
        headers = await authorise(http, client.credentials)
    connections = [
        httpx2.AsyncClient(base_url=server.url, timeout=30, verify=NO_AUTHORITIES)
        for server in installation.servers
        for _ in range(8)
    ]
    try:
        before = {len((await each.get(path, headers=headers)).json()["data"]) for each in connections}
        assert len(before) == 1
        end_grant_in_south(two_trusts, client.caller.client_id)
        begun = time.monotonic()
        after = before
        while after & before:
            assert time.monotonic() - begun < 6, "the grant goes on"
            answers = await asyncio.gather(*(each.get(path, headers=headers) for each in connections))
            after = {len(answer.json().get("data", ())) for answer in answers}
        print(f"a revoked grant was dead everywhere after {time.monotonic() - begun:.2f} s")
        assert time.monotonic() - begun < 5.5
    finally:
        for each in connections:
            await each.aclose()


async def test_failover(two_trusts: TwoTrusts) -> None:
    """The primary is killed under load and its synchronous standby promoted: what was acknowledged is there, and the servers go on."""
    databases = two_trusts.databases
    with run_standby(databases.cluster) as primary:
        await primary.promote()
        with run_standby(databases.cluster, primary) as standby:
            await primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await primary.run("SELECT pg_reload_conf()")
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            first = primary.url(databases.name, "markonce_app")
            url = f"{first.replace(f'127.0.0.1:{primary.port}', hosts)}?target_session_attrs=read-write"
            with run_servers(databases, {"DATABASE_URL": url}) as installation:
                await _fail_over(two_trusts, installation, primary, standby)


async def _fail_over(two_trusts: TwoTrusts, installation: Installation, primary: Standby, standby: Standby) -> None:
    seen = Counter[str]()
    async with httpx2.AsyncClient(base_url=installation.url, timeout=30, verify=NO_AUTHORITIES) as http:
        headers = await authorise(http, two_trusts.clients["North"].credentials)
        ends = time.monotonic() + SECONDS
        writing = [asyncio.create_task(write_until(http, headers, f"f{n}", ends, seen)) for n in range(WRITERS)]
        await asyncio.sleep(SECONDS / 3)
        primary.kill()
        await asyncio.sleep(0.5)
        await standby.promote()
        promoted = time.monotonic()
        while True:
            async with httpx2.AsyncClient(base_url=installation.servers[0].url, timeout=10, verify=NO_AUTHORITIES) as direct:
                answer = await direct.get("/v1/schemes?first=1", headers=headers)
            if answer.status_code == 200:
                break
            assert time.monotonic() - promoted < 10, answer.text
        print(f"first 200 after {time.monotonic() - promoted:.2f} s")
        assert time.monotonic() - promoted < 2
        acknowledged = set[str]().union(*await asyncio.gather(*writing))
        codes = await read_codes(http, headers)
        print(f"{len(acknowledged)} writes acknowledged, {len(acknowledged - codes)} lost; {dict(seen)}")
        assert acknowledged <= codes
        assert seen["status 503"] + seen["broken off"] > 0
