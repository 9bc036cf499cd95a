"""Migrates a database to the newest schema, as its owner.

One session runs all migrations. It holds an advisory lock, so that a second run waits. The second run polls for the
lock: if it waited inside a statement, CREATE INDEX CONCURRENTLY would wait for that statement. Each migration is one
transaction, so an interrupted run can be repeated.

A statement that waits for a lock on a table blocks every statement on the table after it, reads included. So it waits
for 300 ms only, less than the second after which PostgreSQL looks for deadlocks and ends one of the sessions. Then the
migration is rolled back and tried again later.
"""

import asyncio
import importlib.util
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from domain.declare.errors import DatabaseError
from domain.store.role_names import RoleNames
from domain.store.schema import MIGRATIONS
from domain.store.urls import CONNECT_ERRORS, connect, describe_failure

LOCK_WAIT = "300ms"
MAX_TRIES = 40
MAX_PAUSE_SECONDS = 2.0
REPORT_SECONDS = 10.0
"""Seconds between two reports of progress."""
NO_LOCK, RETRIED = "55P03", ("55P03", "40P01", "40001")
"""SQLSTATEs of a conflict with another transaction: a lock that is not available, a deadlock, a serialization failure."""

Report = Callable[[str], None]


def migrate(
    owner_url: str,
    report: Report = lambda line: None,
    *,
    folder: Path = MIGRATIONS,
    tries: int = MAX_TRIES,
    setting: str = "DATABASE_OWNER_URL",
    names: RoleNames = RoleNames(),  # noqa: B008 (frozen)
) -> None:
    """Runs every migration that has not run, and reports its progress. May be repeated, and run twice at the same time.

    Raises DatabaseError. Must not be called inside a running event loop. The URL is that of PostgreSQL itself, or of a
    pooler in session mode. `names` are those of the app's and the operator's roles.
    """
    asyncio.run(_migrate(owner_url, report, folder, tries, setting, names))


async def _migrate(owner_url: str, report: Report, folder: Path, tries: int, setting: str, names: RoleNames) -> None:
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))

    async def connect_as_owner() -> Any:
        try:
            return await connect(owner_url, setting)
        except CONNECT_ERRORS as problem:
            raise DatabaseError(describe_failure(problem, owner_url, setting)) from problem

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect_as_owner, poolclass=NullPool)

    @event.listens_for(engine.sync_engine, "before_cursor_execute", retval=True)
    def rename_roles(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return names.rename_roles(statement), parameters

    try:
        async with engine.connect() as connection:
            await _set_up(connection)
            await _acquire_lock(connection, report)
            if await _Run(connection, config, report, tries).run_all():
                await _run_after(folder, owner_url, report)
    except CommandError as problem:
        raise DatabaseError(f"The migrations in {folder} do not fit together or to this database: {problem}") from problem
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, ValueError, TimeoutError) as problem:
        raise DatabaseError(f"The migration failed: {_find_message(problem)}") from problem
    finally:
        await engine.dispose()


async def _run_after(folder: Path, owner_url: str, report: Report) -> None:
    """Runs after.py of a folder of migrations, if it has one: it brings the data up to the program that it comes with."""
    path = folder / "after.py"
    if not path.exists():
        return
    spec = importlib.util.spec_from_file_location("migrations.after", path)
    assert spec is not None
    assert spec.loader is not None
    after = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(after)
    connection = await connect(owner_url)
    try:
        await after.run(connection, report)
    finally:
        await connection.close()


_SETTINGS = """
SELECT set_config(name, '0', false) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')
"""


async def _set_up(connection: AsyncConnection) -> None:
    """Removes every time limit except that for locks, and lets a statement end within a second of its client's death."""
    await connection.execute(text(_SETTINGS))
    await connection.execute(text(f"SET lock_timeout = '{LOCK_WAIT}'"))
    await connection.commit()
    with suppress(DBAPIError):  # not every system has it
        await connection.execute(text("SET client_connection_check_interval = '1s'"))
    await connection.commit()


_ACQUIRE_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('markonce migrate', 0))"
_LOCK_HOLDER = """
SELECT max(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = hashtextextended('markonce migrate', 0)
"""


async def _acquire_lock(connection: AsyncConnection, report: Report) -> None:
    """Waits for the advisory lock, which is held until the session ends, and reports that it waits."""
    reported_at = float("-inf")
    while not await connection.scalar(text(_ACQUIRE_LOCK)):
        if time.monotonic() - reported_at > REPORT_SECONDS:
            holder = await connection.scalar(text(_LOCK_HOLDER))
            report(f"Another migrate is running{f' (session {holder})' if holder else ''}; waiting for it to end.")
            reported_at = time.monotonic()
        await connection.rollback()
        await asyncio.sleep(0.2)
    await connection.commit()


class _Run:
    """The migrations of one run, in a session that holds the advisory lock."""

    def __init__(self, connection: AsyncConnection, config: Config, report: Report, tries: int) -> None:
        self._connection = connection
        self._config = config
        self._report = report
        self._tries = tries

    async def run_all(self) -> bool:
        """Runs every migration that has not run, oldest first. Returns whether the schema is then this program's."""
        revisions = [script.revision for script in ScriptDirectory.from_config(self._config).walk_revisions()][::-1]
        version = await self._connection.run_sync(_read_version)
        await self._connection.rollback()
        if version is not None and version not in revisions:
            self._report(f"Nothing to do: the schema is {version}, newer than this program's, {revisions[-1]}.")
            return False
        pending = revisions[revisions.index(version) + 1 :] if version else revisions
        if not pending:
            self._report(f"Nothing to do: the schema is {version}, the newest.")
        for revision in pending:
            await self._run_one(version or "no tables", revision)
            version = revision
        return True

    async def _run_one(self, before: str, revision: str) -> None:
        begun, lasting = time.monotonic(), None
        for attempt in range(1, self._tries + 1):
            try:
                async with self._report_progress(f"{before} → {revision}", begun):
                    await self._connection.run_sync(_upgrade, self._config, revision)
                return self._report(f"Migrated {before} → {revision} in {time.monotonic() - begun:.1f} s.")
            except SQLAlchemyError as problem:
                sqlstate = getattr(getattr(problem, "orig", None), "sqlstate", None)
                if sqlstate not in RETRIED:
                    raise DatabaseError(
                        f"The migration {revision} failed: {_find_message(problem)} The schema is still {before}; when the cause is removed, run"
                        " migrate again, which continues from there."
                    ) from problem
                await self._connection.rollback()
                holders = await self._find_holders()
                lasting = holders if lasting is None else lasting & holders
                if attempt == self._tries:
                    raise DatabaseError(_describe_locks(before, revision, attempt, lasting)) from problem
                if attempt % 10 == 1:
                    reason = "waits for a lock on a table" if sqlstate == NO_LOCK else "met another transaction"
                    self._report(f"{before} → {revision} {reason}: try {attempt} of {self._tries}{_list_sessions(holders)}.")
            await asyncio.sleep(min(MAX_PAUSE_SECONDS, 0.1 * 2**attempt) * random.uniform(0.5, 1))  # noqa: S311 (no secret)
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _report_progress(self, what: str, begun: float) -> AsyncIterator[None]:
        """Reports every few seconds that a migration is still running."""

        async def report_regularly() -> None:
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                self._report(f"{what}: still running after {time.monotonic() - begun:.0f} s.")

        reporting = asyncio.create_task(report_regularly())
        try:
            yield
        finally:
            reporting.cancel()

    async def _find_holders(self) -> set[tuple[str, int, str]]:
        """Returns the other transactions that lock a table of this database: transaction, session and role."""
        rows = (await self._connection.execute(text(_TABLE_LOCK_HOLDERS))).all()
        await self._connection.rollback()
        return {(row[0], row[1], row[2]) for row in rows}


_TABLE_LOCK_HOLDERS = """
SELECT DISTINCT l.virtualtransaction, l.pid, COALESCE(a.usename::text, '?')
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid() AND l.relation >= 16384
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def _read_version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection, config: Config, revision: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _describe_locks(before: str, revision: str, tries: int, lasting: set[tuple[str, int, str]]) -> str:
    """Returns why no try succeeded. `lasting` are the transactions that locked tables at every try."""
    if lasting:
        reason, advice = (
            f"long transactions held tables all the time{_list_sessions(lasting)}",
            "End them, or wait until they have ended",
        )
    else:
        reason, advice = "other transactions held them each time", "Wait for a quieter time"
    return (
        f"The migration {revision} could not get its locks after {tries} tries: {reason}. The schema is still {before}. {advice},"
        " and run migrate again, which continues from there."
    )


def _list_sessions(holders: set[tuple[str, int, str]]) -> str:
    if not holders:
        return ""
    sessions = sorted({(pid, role) for _, pid, role in holders})
    listed = ", ".join(f"{pid} of {role}" for pid, role in sessions[:5])
    return f" (session{'' if len(sessions) == 1 else 's'} {listed}{' and others' if len(sessions) > 5 else ''})"


def _find_message(problem: BaseException) -> str:
    """Returns the first line of PostgreSQL's message. The other lines may quote a row."""
    cause = getattr(getattr(problem, "orig", None), "__cause__", None) or problem
    lines = str(cause).splitlines() or [type(cause).__name__]
    return lines[0].rstrip(".") + "."
