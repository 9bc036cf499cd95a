"""`migrate` beside writers, readers and itself, cut short and again; and a program and a schema of different times."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from domain.declare.errors import DatabaseError
from domain.store import embedded
from domain.store import migrate as migrating
from domain.store.schema import PROGRAM
from tests.fixtures.databases import Databases
from tests.fixtures.migrations import empty_database, folder_of, following, migrated, sql
from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT, SECRET
from tests.fixtures.small_trust import BASE, TRUST, WINDOW, Trust, batch, entry, judged, open_trust, opened, roll, sent

NEXT, AFTER = following(1), following(2)


@pytest_asyncio.fixture
async def owner(databases: Databases) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(databases.owner_url)
    yield connection
    await connection.close()


def environment_of(databases: Databases) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": databases.app_url,
        "DATABASE_OWNER_URL": databases.owner_url,
        "DATABASE_OPERATOR_URL": databases.operator_url,
        "MARKONCE_SECRET": SECRET,
        "COLUMNS": "200",
    }


async def printed(databases: Databases, *arguments: str, **more: str) -> tuple[int, str]:
    """How `python -m api …` ended, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api", *arguments),
        cwd=ROOT,
        env=environment_of(databases) | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    text = (await process.communicate())[0].decode()
    assert process.returncode is not None
    return process.returncode, text


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Waits until it holds."""
    for _ in range(600):
        if await condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it has not come to pass in half a minute")


async def version_of(connection: Any) -> str:
    return str(await connection.fetchval("SELECT version_num FROM alembic_version"))


async def has_column(connection: Any, table: str, name: str) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = $1::regclass AND attname = $2 AND NOT attisdropped)",
            *(table, name),
        )
    )


# Two at once.


async def test_of_several_at_once_one_migrates_and_the_others_find_nothing_to_do(cluster: embedded.Cluster) -> None:
    databases = empty_database(cluster)
    ended = await asyncio.gather(*(printed(databases, "migrate") for _ in range(4)))
    assert [code for code, _ in ended] == [0] * 4, ended
    told = sorted((text for _, text in ended), key=len, reverse=True)
    assert all(line in told[0] for line in ("Migrated no tables → 0001", f" → {PROGRAM} in"))
    assert [text.splitlines()[-1] for text in told[1:]] == [f"Nothing to do: the schema is {PROGRAM}, the newest."] * 3


async def test_of_several_init_at_once_one_makes_the_operator(cluster: embedded.Cluster) -> None:
    databases = empty_database(cluster)
    ended = await asyncio.gather(*(printed(databases, "init") for _ in range(3)))
    assert [code for code, _ in ended] == [0] * 3, ended
    assert sorted("client_secret" in text for _, text in ended) == [False, False, True]
    connection = await asyncpg.connect(databases.operator_url)
    assert await connection.fetchval("SELECT count(*) FROM clients") == 1
    assert await connection.fetchval("SELECT count(*) FROM signing_keys") == 1
    await connection.close()


async def test_a_second_migrate_says_that_another_runs_and_waits(databases: Databases, owner: Any, tmp_path: Path) -> None:
    """It waits for as long as it takes; and not inside a statement, for which CREATE INDEX CONCURRENTLY of the other would wait."""
    folder = folder_of(tmp_path / "more", {NEXT: sql("ALTER TABLE pupils ADD COLUMN later text")})
    assert await owner.fetchval("SELECT pg_try_advisory_lock(hashtextextended('markonce migrate', 0))")
    told: list[str] = []
    waiting = asyncio.create_task(migrated(databases, folder, lines=told))
    await until(lambda: asyncio.sleep(0, told))
    assert str(owner.get_server_pid()) in told[0]
    await asyncio.wait_for(owner.execute("CREATE INDEX CONCURRENTLY probe ON pupils (surname)"), 20)
    assert not waiting.done()
    await owner.execute("SELECT pg_advisory_unlock_all()")
    await waiting
    assert told[-1].startswith(f"Migrated {PROGRAM} → {NEXT}")


# Locks.


async def test_a_migration_gives_way_to_a_writer_and_is_tried_again(databases: Databases, owner: Any, tmp_path: Path) -> None:
    """Each has a lock that the other waits for. The migration lets go before PostgreSQL looks for a deadlock, which would end one of the two."""
    folder = folder_of(
        tmp_path / "more",
        {NEXT: sql("ALTER TABLE trusts ADD COLUMN later text", "ALTER TABLE succession ADD COLUMN later text")},
    )
    writer = await asyncpg.connect(databases.operator_url)
    writing = writer.transaction()
    await writing.start()
    await writer.execute("DELETE FROM succession")
    told: list[str] = []
    running = asyncio.create_task(migrated(databases, folder, lines=told))
    await until(lambda: owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'succession'::regclass"))
    await writer.execute("DELETE FROM trusts")
    await writing.commit()
    await writer.close()
    await running
    assert await version_of(owner) == NEXT
    assert any("waits for a lock" in line for line in told)


async def test_a_migration_that_waits_holds_no_reader_up_and_names_who_is_in_the_way(
    databases: Databases, owner: Any, tmp_path: Path
) -> None:
    """A long transaction has read pupils. Whoever reads them meanwhile waits for less than a second each time, and the rest of the time not at all."""
    folder = folder_of(tmp_path / "more", {NEXT: sql("ALTER TABLE pupils ADD COLUMN later text")})
    long, reader = await asyncpg.connect(databases.app_url), await asyncpg.connect(databases.app_url)
    await reader.execute("SET statement_timeout = '900ms'")
    async with long.transaction():
        await long.execute("SELECT count(*) FROM pupils")
        running = asyncio.create_task(migrated(databases, folder, tries=4))
        reads = 0
        while not running.done():
            await reader.fetchval("SELECT count(*) FROM pupils")
            reads += 1
        with pytest.raises(
            DatabaseError, match="could not get its locks after 4 tries: long transactions held tables all the time"
        ) as raised:
            await running
        assert f"{long.get_server_pid()} of markonce_app" in raised.value.detail
        assert str(reader.get_server_pid()) not in raised.value.detail
        assert reads > 100
        assert await version_of(owner) == PROGRAM
    assert (await migrated(databases, folder))[-1].startswith(f"Migrated {PROGRAM} → {NEXT}")
    await long.close()
    await reader.close()


# Cut short.

ASLEEP = "query LIKE 'SELECT pg_sleep(600)%' AND datname = current_database()"
RUN = """
import sys
from pathlib import Path
from domain.store.migrate import migrate
migrate(sys.argv[1], lambda line: print(line, flush=True), folder=Path(sys.argv[2]))
"""


async def test_a_migrate_that_was_killed_goes_on_where_it_was(databases: Databases, owner: Any, tmp_path: Path) -> None:
    """What was done stands, what was half done is gone, and the next run is not held up by a session of the dead."""
    added = "ALTER TABLE trusts ADD COLUMN {} text"
    half = {NEXT: sql(added.format("first")), AFTER: sql(added.format("second"), "SELECT pg_sleep(600)")}
    whole = half | {AFTER: sql(added.format("second"))}
    slow, quick = folder_of(tmp_path / "slow", half), folder_of(tmp_path / "quick", whole)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN, databases.owner_url, str(slow)), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).decode().startswith(f"Migrated {PROGRAM} → {NEXT}")
    await until(lambda: owner.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {ASLEEP}"))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await version_of(owner) == NEXT
    told = await asyncio.wait_for(migrated(databases, quick), 30)
    assert told[-1].startswith(f"Migrated {NEXT} → {AFTER}")
    assert await has_column(owner, "trusts", "first")
    assert await has_column(owner, "trusts", "second")


async def test_a_migration_that_fails_leaves_those_before_it(databases: Databases, owner: Any, tmp_path: Path) -> None:
    steps = {NEXT: sql("ALTER TABLE trusts ADD COLUMN first text"), AFTER: sql("ALTER TABLE trusts ADD COLUMN first text")}
    with pytest.raises(
        DatabaseError, match=f'{AFTER} failed: column "first" of relation "trusts" already exists. The schema is still {NEXT}'
    ):
        await migrated(databases, folder_of(tmp_path / "wrong", steps))
    steps[AFTER] = sql("ALTER TABLE trusts ADD COLUMN second text")
    assert (await migrated(databases, folder_of(tmp_path / "right", steps)))[-1].startswith(f"Migrated {NEXT} → {AFTER}")


async def test_a_long_migration_says_that_it_still_runs(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "REPORT_SECONDS", 0.1)
    told = await migrated(databases, folder_of(tmp_path / "slow", {NEXT: sql("SELECT pg_sleep(0.5)")}))
    assert [line for line in told if "still running" in line][:1] == [f"{PROGRAM} → {NEXT}: still running after 0 s."]


async def test_a_session_that_ends_in_the_middle_is_reported(databases: Databases, owner: Any, tmp_path: Path) -> None:
    running = asyncio.create_task(migrated(databases, folder_of(tmp_path / "slow", {NEXT: sql("SELECT pg_sleep(600)")})))
    await until(lambda: owner.fetchval(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ASLEEP}"))
    with pytest.raises(DatabaseError, match=f"{NEXT} failed: .*. The schema is still {PROGRAM}"):
        await running


# Indexes.

INDEXES = {
    NEXT: '    build_index("pupils_by_surname", "pupils", "(tenant_id, surname)")',
    AFTER: '    build_index("judgements_by_source", "judgements", "(tenant_id, source)")',
}
BROKEN = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


async def test_an_index_is_built_while_its_table_is_written(small_trust: Trust, vendor: Any, tmp_path: Path) -> None:
    """A transaction that has written the table is open all the time until the end; the index waits for it, and nobody for the index. Partitions included."""
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    writer = await asyncpg.connect(small_trust.databases.operator_url)
    writing = writer.transaction()
    await writing.start()
    await writer.execute("UPDATE pupils SET surname = surname; UPDATE judgements SET source = source")
    running = asyncio.create_task(migrated(small_trust.databases, folder_of(tmp_path / "indexes", INDEXES)))
    for _ in range(5):
        await sent(vendor, "/v1/pupils", roll("Elm", [entry(2, reference="E2")]))
        await asyncio.sleep(0.1)
    assert not running.done()
    await writing.commit()
    await writer.close()
    await running
    owner = await asyncpg.connect(small_trust.databases.owner_url)
    assert await owner.fetchval(BROKEN) == 0
    parts = await owner.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'judgements_by_source'::regclass")
    assert parts == await owner.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'judgements'::regclass") > 0
    await owner.close()


async def test_an_index_that_was_left_broken_is_built_again(databases: Databases, owner: Any, tmp_path: Path) -> None:
    """A build that is ended half-way leaves an invalid index of that name."""
    folder = folder_of(tmp_path / "indexes", INDEXES)
    holder = await asyncpg.connect(databases.operator_url)
    async with holder.transaction():
        await holder.execute("LOCK TABLE pupils IN ROW EXCLUSIVE MODE")
        running = asyncio.create_task(migrated(databases, folder))
        await until(lambda: owner.fetchval(BROKEN))
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND datname = current_database()"
        )
        with pytest.raises(DatabaseError):
            await running
    await holder.close()
    assert await owner.fetchval(BROKEN) == 1
    assert (await migrated(databases, folder))[-1].startswith(f"Migrated {NEXT} → {AFTER}")
    assert await owner.fetchval(BROKEN) == 0


# A program and a schema of different times.


async def test_a_newer_program_does_not_serve_an_older_schema(cluster: embedded.Cluster, tmp_path: Path) -> None:
    databases = empty_database(cluster)
    code, text = await printed(databases, "serve", "--port", str(free_port()))
    assert (code, "has no tables yet: run `python -m api migrate`" in text) == (1, True), text
    await migrated(databases, folder_of(tmp_path / "older", up_to="0014"))
    code, text = await printed(databases, "serve", "--port", str(free_port()))
    assert code == 1
    assert f"schema is 0014 or older and this program needs {PROGRAM}: run `python -m api migrate` first." in text
    for command in (("client", "list"), ("tidy",)):
        code, text = await printed(databases, *command)
        assert (code, "run `python -m api migrate` first." in text) == (1, True), text
    code, text = await printed(databases, "init")
    assert (code, text.splitlines()[0].startswith("Migrated 0014 → 0015")) == (0, True), text


async def test_an_older_program_serves_a_newer_schema_until_something_is_dropped(
    databases: Databases, owner: Any, tmp_path: Path
) -> None:
    """The schema names the oldest program that it serves."""
    steps = {
        NEXT: sql("ALTER TABLE pupils ADD COLUMN later text"),
        AFTER: sql(f"UPDATE schema_compatibility SET oldest_program = '{NEXT}'"),
    }
    await migrated(databases, folder_of(tmp_path / "one", {NEXT: steps[NEXT]}))
    code, text = await printed(databases, "init")
    assert (code, text.splitlines()[0]) == (0, f"Nothing to do: the schema is {NEXT}, newer than this program's, {PROGRAM}.")
    assert "is not a port number" in (await printed(databases, "serve", "--port", "70000"))[1]  # it got as far as that
    await migrated(databases, folder_of(tmp_path / "two", steps))
    code, text = await printed(databases, "serve", "--port", str(free_port()))
    assert code == 1
    assert f"schema is {AFTER}, which serves programs from {NEXT} on, and this one is {PROGRAM}: start a newer release." in text


async def test_serve_does_not_start_with_a_secret_that_opens_no_key(databases: Databases) -> None:
    assert (await printed(databases, "init"))[0] == 0
    code, text = await printed(
        databases, "serve", "--port", str(free_port()), MARKONCE_SECRET="another secret, which is long as well"
    )
    assert (code, "MARKONCE_SECRET is not the one" in text) == (1, True), text


# Under load.

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
EXPANDS = [
    """
    tables = op.get_bind().exec_driver_sql(\"\"\"{tables}\"\"\").scalars().all()
    added = "ADD COLUMN IF NOT EXISTS added_{n} text, ADD COLUMN IF NOT EXISTS counted_{n} integer NOT NULL DEFAULT 0"
    run_each(*(f"ALTER TABLE {{table}} {{added}}" for table in tables))
    """,
    """
    build_index("pupils_{n}", "pupils", "(tenant_id, surname)")
    """,
    """
    changes = []
    for view in ("school_roll", "latest_judgements", "current_targets", "group_pupils", "pupil_groups"):
        text = op.get_bind().exec_driver_sql(f"SELECT pg_get_viewdef('{{view}}'::regclass)").scalar_one().strip().removesuffix(";")
        changes.append(f"CREATE OR REPLACE VIEW {{view}} WITH (security_invoker = true) AS SELECT v.*, {n} AS added_{n} FROM ({{text}}) v")
    run_each(*changes)
    """,
    """
    for name in ("match_pupils", "lock_schools", "reach_state", "adjust_cells", "acts_in"):
        text = op.get_bind().exec_driver_sql(f"SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = '{{name}}'").scalar_one()
        op.get_bind().exec_driver_sql(text)
    """,
]
"""Migrations that only add: columns to every table, an index, columns to every view, functions made anew."""


async def test_no_request_fails_while_the_schema_grows(databases: Databases, tmp_path: Path) -> None:
    """Reads and writes of both interfaces on a server that runs, whose prepared statements go out of date again and again."""
    bodies = [text.format(n=1, tables=TABLES) for text in EXPANDS]
    folder = folder_of(
        tmp_path / "more", {following(i): body.replace("\n    ", "\n").replace("\n", "\n    ") for i, body in enumerate(bodies, 1)}
    )
    answers: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []
    async with open_trust(databases) as here:
        vendor = await here.client("vendor", f"trust:{TRUST}=all")
        await opened(vendor, WINDOW)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(20)]))
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=here.transport.app), base_url=BASE, headers=vendor.headers)
        running = asyncio.create_task(migrated(databases, folder))
        query = "{ pupils(first: 5) { nodes { surname groups { nodes { name } } latestJudgements { nodes { grade } } currentTargets { nodes { grade } } } } }"

        async def ask(name: str, request: Callable[[int], Awaitable[httpx2.Response]]) -> None:
            n = 0
            while not running.done() or n < 3:
                answer = await request(n := n + 1)
                answers[name, answer.status_code] += 1
                if answer.status_code != 200 or b'"errors"' in answer.content:
                    wrong.append(f"{name} {answer.text[:300]}")

        reads = (
            "/v1/pupils?include=school,judgements,groups&first=5",
            "/v1/judgements?first=5",
            "/v1/schools?include=onRoll",
            "/v1/me",
        )
        await asyncio.gather(
            *(ask(path, lambda n, path=path: client.get(path)) for path in reads),  # type: ignore[misc]
            ask("graphql", lambda n: client.post("/graphql", json={"query": query})),
            ask("judgements", lambda n: client.post("/v1/judgements", json=batch("Oak", [judged(1, grade=80 + n % 40)]))),
            ask("pupils", lambda n: client.post("/v1/pupils", json=roll("Oak", [entry(2, forename=f"Sam {n}")]))),
            ask("ready", lambda n: client.get("/health/ready")),
        )
        assert len(await running) >= len(bodies)
    assert wrong == []
    assert {status for _, status in answers} == {200}, answers
    assert len(answers) == 8
