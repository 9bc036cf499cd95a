"""/health/ready is 200 while the server can do its work, and otherwise 503, in time, with what is wrong and without a secret."""

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio
import structlog
from starlette.applications import Starlette

from api.app import build_app
from api.http.auth import LEEWAY
from api.settings import Settings
from domain.clients.signing_keys import check_signing_key, ensure_signing_key
from domain.store import embedded, readiness
from domain.store.database import Database
from domain.store.readiness import Readiness
from tests.fixtures.databases import Databases
from tests.fixtures.migrations import empty_database, folder_of, migrated
from tests.fixtures.server import free_port
from tests.fixtures.settings import SECRET

BASE = "http://ready.example"


@pytest.fixture(autouse=True)
def fresh_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each probe is a check of its own, unless a test says otherwise."""
    monkeypatch.setattr(readiness, "SHARED_SECONDS", -1.0)


@asynccontextmanager
async def probing(
    databases: Databases, *, size: int = 10, url: str | None = None
) -> AsyncIterator[tuple[httpx2.AsyncClient, Starlette]]:
    """An application on this database; its readiness asks `url`, where that is another."""
    database = await Database.open(databases.app_url, size=size, serving=False)
    app = build_app(Settings(url or databases.app_url, SECRET.encode(), BASE), database)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE) as http:
        yield http, app
    await database.close()


@pytest_asyncio.fixture
async def keyed(databases: Databases) -> Databases:
    """A database with a signing key: all that a server needs."""
    operator = await asyncpg.connect(databases.operator_url)
    await ensure_signing_key(operator, SECRET.encode())
    await operator.close()
    return databases


@pytest_asyncio.fixture
async def superuser(databases: Databases) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(databases.cluster.url(databases.name, embedded.SUPERUSER))
    yield connection
    await connection.close()


async def failing(http: httpx2.AsyncClient, databases: Databases) -> dict[str, str]:
    """The checks that fail, each with its message; nothing where the server is ready."""
    answer = await http.get("/health/ready")
    if answer.status_code == 200:
        assert answer.json() == {"status": "ready"}
        return {}
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json"), answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert (problem["type"], problem["status"]) == (f"{BASE}/problems/not-ready", 503)
    assert problem["detail"] == " ".join(issue["message"] for issue in problem["issues"])
    secrets = (*databases.cluster.passwords.values(), "markonce_app", databases.name, str(databases.cluster.port), SECRET)
    assert [secret for secret in secrets if secret in answer.text] == []
    return {issue["at"]: issue["message"] for issue in problem["issues"]}


# The database.


async def test_it_is_ready_and_says_why_not_when_nobody_listens(keyed: Databases) -> None:
    async with probing(keyed) as (http, _):
        assert await failing(http, keyed) == {}
        assert (await http.head("/health/ready")).status_code == 200
    async with probing(keyed, url=f"postgresql://markonce_app:x@127.0.0.1:{free_port()}/x") as (http, _):
        assert await failing(http, keyed) == {"database": "The database cannot be reached."}
        assert (await http.get("/health/live")).json() == {"status": "alive"}


async def test_a_database_that_does_not_answer_is_reported_in_time(keyed: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody listens, and says nothing. Fifty probes wait for one check, and cancelling some of them ends it for none."""
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 1.0)
    came = 0

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        await reader.read(-1)
        writer.close()

    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with probing(keyed, url=f"postgresql://markonce_app:x@127.0.0.1:{port}/x?sslmode=disable") as (http, _):
        probes = [asyncio.create_task(failing(http, keyed)) for _ in range(50)]
        await asyncio.sleep(0.2)
        for probe in probes[:5]:
            probe.cancel()
        assert await asyncio.gather(*probes[5:]) == [{"database": "The database did not answer within 1 s."}] * 45
        assert came == 1
    silent.close()


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("ALTER ROLE markonce_app NOLOGIN", "ALTER ROLE markonce_app LOGIN", "The database refuses the login of this server."),
        (
            "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC, markonce_app",
            "GRANT CONNECT ON DATABASE {name} TO PUBLIC, markonce_app",
            "The role of this server lacks a right that it needs.",
        ),
        ("ALTER DATABASE {name} ALLOW_CONNECTIONS false", "ALTER DATABASE {name} ALLOW_CONNECTIONS true", None),
    ],
)
async def test_a_login_that_is_refused_is_reported(
    keyed: Databases, superuser: Any, wrong: str, right: str, message: str | None
) -> None:
    """Also where connections that are open already still work: the next one that the pool needs would not."""
    elsewhere = await asyncpg.connect(keyed.cluster.url("postgres", embedded.SUPERUSER))
    async with probing(keyed) as (http, _):
        assert await failing(http, keyed) == {}
        await elsewhere.execute(wrong.format(name=keyed.name))
        try:
            found = await failing(http, keyed)
            assert found.keys() == {"database"}
            assert message in (None, found["database"])
        finally:
            await elsewhere.execute(right.format(name=keyed.name))
        assert await failing(http, keyed) == {}
    await elsewhere.close()


# Writing.


@pytest.mark.parametrize("setting", ["default_transaction_read_only = on", "search_path = public, pg_catalog"])
async def test_a_database_that_takes_no_writes_is_reported(keyed: Databases, superuser: Any, setting: str) -> None:
    """One that is read-only for new sessions, and one that says that it is in recovery, as a standby does."""
    await superuser.execute("CREATE FUNCTION public.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true'")
    message = "The database is a standby, which takes no writes." if "path" in setting else "The database is read-only."
    async with probing(keyed) as (http, _):
        assert await failing(http, keyed) == {}
        await superuser.execute(f"ALTER DATABASE {keyed.name} SET {setting}")
        assert await failing(http, keyed) == {"writing": message}
        await superuser.execute(f"ALTER DATABASE {keyed.name} RESET ALL")
        assert await failing(http, keyed) == {}


async def test_a_commit_that_waits_for_ever_is_reported(keyed: Databases, superuser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a synchronous standby that is gone."""
    await superuser.execute(f"ALTER DATABASE {keyed.name} SET synchronous_commit = on")
    await superuser.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    await superuser.execute("SELECT pg_reload_conf()")
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 1.0)
    try:
        async with probing(keyed) as (http, _):
            assert await failing(http, keyed) == {"writing": "A write was not on disk within 1 s."}
    finally:
        await superuser.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await superuser.execute("SELECT pg_reload_conf()")


@contextmanager
def tiny_disk(cluster: embedded.Cluster) -> Iterator[Path | None]:
    """A disk of 40 MB that PostgreSQL may write to; None where this user may mount none."""
    with tempfile.TemporaryDirectory(prefix="markonce-tiny-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            yield None
            return
        try:
            owner = (cluster.data_dir / "postgresql").stat()
            os.chown(folder, owner.st_uid, owner.st_gid)
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Writes a file until nothing more fits on the disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def test_a_full_disk_is_reported_though_reads_go_on(cluster: embedded.Cluster, keyed: Databases, superuser: Any) -> None:
    """On a disk that is full; where none can be mounted, with a quota of files instead."""
    elsewhere = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
    with tiny_disk(cluster) as disk:
        name = f"{keyed.name}_tiny"
        if disk:
            await elsewhere.execute(f"CREATE TABLESPACE tiny LOCATION '{disk}'")
        await superuser.close()
        await elsewhere.execute(
            f"CREATE DATABASE {name} TEMPLATE {keyed.name} OWNER markonce_owner" + (" TABLESPACE tiny" if disk else "")
        )
        databases = Databases(cluster, name)
        try:
            async with probing(databases) as (http, _):
                assert await failing(http, databases) == {}
                if disk:
                    fill(disk / "filler")
                    assert await failing(http, databases) == {"writing": "The database's disk is full."}
                    assert (await http.get("/oauth/jwks")).status_code == 200
                    (disk / "filler").unlink()
                else:
                    await elsewhere.execute(f"ALTER ROLE markonce_app IN DATABASE {name} SET temp_file_limit = '64kB'")
                    assert (await failing(http, databases)).keys() == {"writing"}
                    await elsewhere.execute(f"ALTER ROLE markonce_app IN DATABASE {name} RESET ALL")
                assert await failing(http, databases) == {}
        finally:
            await elsewhere.execute(f"DROP DATABASE {name} WITH (FORCE)")
            if disk:
                await elsewhere.execute("DROP TABLESPACE tiny")
    await elsewhere.close()


# The schema, the key and the clock.


async def test_a_schema_that_is_missing_or_older_is_reported(cluster: embedded.Cluster, tmp_path: Path) -> None:
    databases = empty_database(cluster)
    async with probing(databases) as (http, _):
        assert await failing(http, databases) == {
            "schema": "The database has no tables yet: run `python -m api migrate` (or `init`) first."
        }
        await migrated(databases, folder_of(tmp_path / "older", up_to="0014"))
        (message,) = (await failing(http, databases)).values()
        assert message.startswith("The database's schema is 0014 or older and this program needs")


async def test_a_schema_that_serves_this_program_no_more_is_reported(keyed: Databases, superuser: Any) -> None:
    async with probing(keyed) as (http, _):
        await superuser.execute("UPDATE alembic_version SET version_num = '9000'")
        assert await failing(http, keyed) == {}
        await superuser.execute("UPDATE schema_compatibility SET oldest_program = '8999'")
        (message,) = (await failing(http, keyed)).values()
        assert message.startswith("The database's schema is 9000, which serves programs from 8999 on")


async def test_a_key_that_is_missing_or_that_another_secret_protects_is_reported(databases: Databases) -> None:
    operator = await asyncpg.connect(databases.operator_url)
    async with probing(databases) as (http, _):
        assert await failing(http, databases) == {"signing-key": "There is no signing key yet: run `python -m api init` first."}
        await ensure_signing_key(operator, b"another secret, which is long enough too")
        (message,) = (await failing(http, databases)).values()
        assert message.startswith("MARKONCE_SECRET is not the one")
        await operator.execute("UPDATE signing_keys SET retired_at = now()")
        assert (await failing(http, databases)).keys() == {"signing-key"}
        await ensure_signing_key(operator, SECRET.encode())
        assert await failing(http, databases) == {}
    await operator.close()


@pytest.mark.parametrize(("seconds", "is_told"), [(31, True), (-31, True), (11, True), (9, False), (-9, False)])
async def test_clocks_that_differ_are_reported_before_tokens_are_refused(keyed: Databases, seconds: int, is_told: bool) -> None:
    assert readiness.MAX_CLOCK_DIFFERENCE < LEEWAY / 2
    async with probing(keyed) as (http, app):
        app.state.readiness = Readiness(
            keyed.app_url, lambda c: check_signing_key(c, SECRET.encode()), clock=lambda: time.time() + seconds
        )
        with structlog.testing.capture_logs() as logged:
            found = [await failing(http, keyed) for _ in range(3)]
        assert [one.keys() for one in found] == [{"clock"} if is_told else set()] * 3
        assert [line["check"] for line in logged if line["event"] == "not ready"] == (["clock"] if is_told else [])
        if is_told:
            assert f"are {abs(seconds)} s apart" in found[0]["clock"]


async def test_all_that_is_wrong_is_reported_at_once(databases: Databases, superuser: Any) -> None:
    await superuser.execute(f"ALTER DATABASE {databases.name} SET default_transaction_read_only = on")
    async with probing(databases) as (http, app):
        app.state.readiness = Readiness(
            databases.app_url, lambda c: check_signing_key(c, SECRET.encode()), clock=lambda: time.time() - 60
        )
        assert (await failing(http, databases)).keys() == {"writing", "clock", "signing-key"}


# Probes beside requests and beside each other.


async def test_a_pool_that_is_lent_out_does_not_delay_it(keyed: Databases) -> None:
    async with probing(keyed, size=1) as (http, app), app.state.database.without_caller():
        assert await failing(http, keyed) == {}


async def test_where_the_database_has_no_connection_left_it_asks_on_one_of_the_pool(
    keyed: Databases, superuser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With that one the server still works. Where it is lent as well, the answer comes in time."""
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.5)
    async with probing(keyed, size=1) as (http, app):
        await superuser.execute("ALTER ROLE markonce_app CONNECTION LIMIT 0")
        try:
            assert await failing(http, keyed) == {}
            async with app.state.database.without_caller():
                assert (await failing(http, keyed)).keys() == {"database"}
        finally:
            await superuser.execute("ALTER ROLE markonce_app CONNECTION LIMIT -1")


async def test_a_flood_of_probes_is_a_few_checks(keyed: Databases, superuser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by the file that each check writes."""
    monkeypatch.setattr(readiness, "SHARED_SECONDS", 60.0)
    files = "SELECT temp_files FROM pg_stat_database WHERE datname = current_database()"
    before = await superuser.fetchval(files)
    async with probing(keyed) as (http, app):
        for _ in range(5):
            assert await asyncio.gather(*(failing(http, keyed) for _ in range(40))) == [{}] * 40
        monkeypatch.setattr(readiness, "SHARED_SECONDS", -1.0)
        app.state.readiness = Readiness(keyed.app_url, lambda c: check_signing_key(c, SECRET.encode()))
        assert await failing(http, keyed) == {}
    for _ in range(100):
        if (written := await superuser.fetchval(files) - before) >= 2:
            break
        await asyncio.sleep(0.05)
    assert written == 2


async def test_what_is_wrong_is_logged_when_it_changes(keyed: Databases, superuser: Any) -> None:
    async with probing(keyed) as (http, _):
        with structlog.testing.capture_logs() as logged:
            for setting in ("on", "off"):
                await superuser.execute(f"ALTER DATABASE {keyed.name} SET default_transaction_read_only = {setting}")
                for _ in range(3):
                    await http.get("/health/ready")
    told = [(line["event"], line.get("check"), line["log_level"]) for line in logged if "ready" in line["event"]]
    assert told == [("not ready", "writing", "warning"), ("ready again", None, "warning")]
