"""Refusals: PostgreSQL is there and says no, or is not there. Reads and writes are answered 503 with Retry-After, never 500; `ready` says that
nothing can be written; and when PostgreSQL says yes again, so does the server, without a restart."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from domain.store.readiness import SHARED_SECONDS
from tests.faults.laboratory import disk
from tests.faults.laboratory.processes import NotWorking
from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import Stage, stage
from tests.faults.laboratory.writers import KINDS

ABOUT = "PostgreSQL says no: disk full, read-only, no login, no connection, no database, no lock, shutting down"
SMALL, FULL = 1, 5
"""How often each refusal is tried."""
PAGES = "/v1/schools?first=2", "/v1/pupils?first=3&include=school,judgements", "/v1/judgements?first=5", "/v1/me"
QUERY = "{ pupils(first: 2) { nodes { id judgements(first: 2) { nodes { grade subjectCode } } } } }"
PASSES = 2


@dataclass(frozen=True)
class Refusal:
    """`begins` makes PostgreSQL refuse within its block. Where `reads` is set, reads must go on; where `all_writes`, every write is refused and,
    unless it is `others` who are in the way, `ready` says so."""

    name: str
    begins: Callable[[Stage], AbstractAsyncContextManager[None]]
    all_writes: bool = True
    reads: bool = False
    others: bool = False


def _by_statements(before: list[str], after: list[str], *, ends_sessions: bool = True) -> Callable[[Stage], Any]:
    """Statements of a superuser, in which {name} is the database and {password} the app role's; the sessions are ended in between, so that new
    ones are asked for."""

    @asynccontextmanager
    async def refusing(here: Stage) -> AsyncIterator[None]:
        async def run(statements: list[str]) -> None:
            password = here.lab.postgres.cluster.passwords["markonce_app"]
            filled = [statement.format(name=here.databases.name, password=password) for statement in statements]
            await here.lab.as_superuser(*filled)

        await run(before)
        try:
            if ends_sessions:
                await here.lab.end_sessions(here.databases)
            await asyncio.sleep(0.1)
            yield
        finally:
            await run(after)

    return refusing


@asynccontextmanager
async def _renamed(here: Stage) -> AsyncIterator[None]:
    name, lab = here.databases.name, here.lab
    await lab.as_superuser(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await lab.end_sessions(here.databases)
    await lab.as_superuser(f"ALTER DATABASE {name} RENAME TO {name}_away")
    try:
        yield
    finally:
        await lab.as_superuser(f"ALTER DATABASE {name}_away RENAME TO {name}", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@asynccontextmanager
async def _dropped(here: Stage) -> AsyncIterator[None]:
    """And restored from a copy."""
    name, lab = here.databases.name, here.lab
    await lab.as_superuser(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await lab.end_sessions(here.databases)
    await lab.as_superuser(
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
        f"CREATE DATABASE {name}_copy TEMPLATE {name} OWNER markonce_owner",
        f"DROP DATABASE {name} WITH (FORCE)",
    )
    try:
        yield
    finally:
        await lab.as_superuser(f"ALTER DATABASE {name}_copy RENAME TO {name}")


@asynccontextmanager
async def _taken(here: Stage) -> AsyncIterator[None]:
    """All connections are others', also those that the app had."""
    async with here.lab.connections_taken(here.databases):
        await here.lab.end_sessions(here.databases)
        async with here.lab.connections_taken(here.databases):
            yield


@asynccontextmanager
async def _without_locks(here: Stage) -> AsyncIterator[None]:
    """Sessions hold all the locks that fit into shared memory."""
    holder = await here.lab.superuser()
    steps = [100_000, 1_000, 100, 10, 1]
    number = 0
    try:
        while steps:
            try:
                await holder.execute(f"SELECT pg_advisory_lock(n) FROM generate_series({number}, {number + steps[0]}) n")
            except asyncpg.OutOfMemoryError:
                steps.pop(0)
            number += 100_001
        yield
    finally:
        await holder.close()


@asynccontextmanager
async def _shutting_down(here: Stage) -> AsyncIterator[None]:
    """A smart shutdown waits for the session of somebody else, and lets nobody in."""
    somebody = await here.lab.superuser()
    here.lab.postgres.kill(signal.SIGTERM)
    await asyncio.sleep(0.2)
    await somebody.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'markonce_app'")
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await somebody.close()
        await here.lab.postgres.start()


@asynccontextmanager
async def _stopped(here: Stage) -> AsyncIterator[None]:
    await here.lab.postgres.stop()
    try:
        yield
    finally:
        await here.lab.postgres.start()


def _again_and_again(statement: str) -> Callable[[Stage], Any]:
    """A statement of a superuser about the app's sessions, every few milliseconds."""

    @asynccontextmanager
    async def refusing(here: Stage) -> AsyncIterator[None]:
        connection = await here.lab.superuser()

        async def repeat() -> None:
            while True:
                await connection.execute(
                    f"SELECT {statement} FROM pg_stat_activity WHERE usename = 'markonce_app' AND state = 'active'"
                )
                await asyncio.sleep(0.001)

        repeating = asyncio.create_task(repeat())
        try:
            yield
        finally:
            repeating.cancel()
            await asyncio.gather(repeating, return_exceptions=True)
            await connection.close()

    return refusing


@asynccontextmanager
async def _locked_briefly(here: Stage) -> AsyncIterator[None]:
    """Another transaction holds what writes need, and PostgreSQL lets nobody wait."""
    holder = await here.lab.superuser(here.databases.name)
    await here.lab.as_superuser("ALTER SYSTEM SET lock_timeout = '50ms'", "SELECT pg_reload_conf()")
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("LOCK TABLE school_versions, idempotency IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        await transaction.rollback()
        await here.lab.as_superuser("ALTER SYSTEM RESET lock_timeout", "SELECT pg_reload_conf()")
        await holder.close()


@asynccontextmanager
async def _disk_full(here: Stage) -> AsyncIterator[None]:
    """The database stands on a disk on which there is not a page left."""
    connection = await here.lab.superuser(here.databases.name)
    await disk.fill(connection)
    try:
        yield
    finally:
        await connection.execute("DROP TABLE filler")
        await connection.close()


def _system(setting: str, value: str) -> Callable[[Stage], Any]:
    """A setting of PostgreSQL's, for sessions that are there too."""
    reload = "SELECT pg_reload_conf()"
    set_it = f"ALTER SYSTEM SET {setting} = '{value}'"
    return _by_statements([set_it, reload], [f"ALTER SYSTEM RESET {setting}", reload], ends_sessions=False)


DISK_FULL = Refusal("disk full", _disk_full, all_writes=False)
REFUSALS = (
    DISK_FULL,
    Refusal("read-only", _system("default_transaction_read_only", "on"), reads=True),
    Refusal("login refused", _by_statements(["ALTER ROLE markonce_app NOLOGIN"], ["ALTER ROLE markonce_app LOGIN"])),
    Refusal(
        "password changed",
        _by_statements(["ALTER ROLE markonce_app PASSWORD 'another'"], ["ALTER ROLE markonce_app PASSWORD '{password}'"]),
    ),
    Refusal("database renamed", _renamed),
    Refusal("database dropped", _dropped),
    Refusal(
        "database closed",
        _by_statements(["ALTER DATABASE {name} ALLOW_CONNECTIONS false"], ["ALTER DATABASE {name} ALLOW_CONNECTIONS true"]),
    ),
    Refusal(
        "right to connect taken",
        _by_statements(["REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"], ["GRANT CONNECT ON DATABASE {name} TO PUBLIC"]),
    ),
    Refusal("connections taken", _taken),
    Refusal(
        "role's connections limited",
        _by_statements(["ALTER ROLE markonce_app CONNECTION LIMIT 0"], ["ALTER ROLE markonce_app CONNECTION LIMIT -1"]),
    ),
    Refusal("no lock left", _without_locks, all_writes=False),
    Refusal("shutting down", _shutting_down),
    Refusal("stopped", _stopped),
    Refusal("statements cancelled", _again_and_again("pg_cancel_backend(pid)"), all_writes=False),
    Refusal("sessions ended", _again_and_again("pg_terminate_backend(pid)"), all_writes=False),
    Refusal("idle sessions ended", _system("idle_session_timeout", "20ms"), all_writes=False),
    Refusal("idle transactions ended", _system("idle_in_transaction_session_timeout", "1ms"), all_writes=False),
    Refusal("no lock in time", _locked_briefly, others=True),
)


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Each refusal so many times, in an order by chance; the full disk on a database of its own."""
    result, draw = Result("refusals", seed), random.Random(seed)
    others = [refusal for refusal in REFUSALS if refusal is not DISK_FULL] * count
    draw.shuffle(others)
    async with stage(lab, result) as here:
        await _recovered(here, "at the beginning")
        for refusal in others:
            await _refuse(here, refusal)
            watch()
        await here.finish()
    await _fill_disk(lab, count, result, watch)
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return count * len(REFUSALS)


async def _fill_disk(lab: Laboratory, count: int, result: Result, watch: Watch) -> None:
    async with AsyncExitStack() as entered:
        try:
            place = entered.enter_context(disk.small_disk(lab.folder, lab.postgres.folder / "postgresql", lab.postgres.binaries))
        except NotWorking as problem:
            return result.add_break("what the trial needs is there", problem)
        await lab.as_superuser(f"CREATE TABLESPACE small LOCATION '{place}'")
        try:
            async with stage(lab, result, options="TABLESPACE small") as here:
                await _recovered(here, "at the beginning")
                for _ in range(count):
                    await _refuse(here, DISK_FULL)
                    watch()
                await here.finish()
        finally:
            await lab.as_superuser("DROP TABLESPACE small")


async def _refuse(here: Stage, refusal: Refusal) -> None:
    """Asks for everything while PostgreSQL refuses, and for everything again afterwards."""
    result, refused = here.result, 0
    async with refusal.begins(here):
        if refusal.all_writes and not refusal.others:
            await asyncio.sleep(SHARED_SECONDS)  # until then `ready` may answer what it found before
            ready = await here.asker.ask("GET", "/health/ready")
            result.expect(ready.status == 503, "ready says that nothing can be written", f"{refusal.name}: {ready.status}")
        for n in range(PASSES * (4 if refusal is DISK_FULL else 1)):
            writes = [here.make(kind, keyed=bool(n % 2)) for kind in KINDS]
            writing = [here.ledger.send(write, here.asker, result) for write in writes]
            reading = [here.asker.ask("GET", page) for page in PAGES] + [here.asker.query(QUERY)]
            answers = await asyncio.gather(*writing, *reading)
            written, read = answers[: len(writes)], answers[len(writes) :]
            result.count("requests", len(answers))
            for answer in read:
                answer.check(result, refusal.name)
                fine = {200} if refusal.reads else {200, 500, 503}
                result.expect(answer.status in fine, "a refusal is told as 503", f"{refusal.name}: a read is {answer}")
            refused += sum(answer.status != 200 for answer in answers)
            if refusal.all_writes:
                done = [answer for answer in written if answer.status not in (500, 503)]
                result.expect(not done, "a refusal is told as 503", f"{refusal.name}: a write is {done[:1]}")
    result.count("refused", refused)
    result.expect(refused > 0 or not refusal.all_writes, "what the trial needs is there", f"{refusal.name} refuses nothing")
    await _recovered(here, f"after {refusal.name}")


async def _recovered(here: Stage, what: str) -> None:
    await here.reads(what)
    for kind in KINDS:
        await here.insist(here.make(kind))
