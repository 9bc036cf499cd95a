"""Database: reads and transactions on a pool of asyncpg connections.

A read is one auto-commit statement, which sets the caller's context for row-level security itself and so needs no
further round trip. A write is a transaction, whose context is set once. Nothing relies on the state of a session, so a
pooler in transaction mode may be used between this server and PostgreSQL.

A connection is reused only after PostgreSQL has answered everything that was sent on it. After a cancelled request or a
broken connection its state is unknown: a BEGIN that arrives late would turn the next write into a part of a transaction
that is never committed.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from domain.declare.errors import Busy, DatabaseError, DatabaseUnavailable
from domain.store.ledger import Ledger
from domain.store.ledger_notes import collect_notes, give_up_entries, write_notes
from domain.store.outages import (
    FAILURES,
    LATE,
    LOCKED_BY_OTHERS,
    LOST,
    OutcomeUnknown,
    is_lock_timeout,
    is_outage,
    is_rejection,
    make_outage,
)
from domain.store.pool import Connection as Connection
from domain.store.pool import NoneFree, Pool, PoolCounts
from domain.store.pooler import Edition, list_session_settings, make_connection_class, require_session_settings
from domain.store.pulse import ANSWER_SECONDS, Pulse
from domain.store.replicas import Replica, Replicas
from domain.store.roles import find_role_fault
from domain.store.schema import STALE_PLANS
from domain.store.statement_times import name_statement, record_once, record_statements
from domain.store.urls import CONNECT_ERRORS, DatabaseUrl, describe_failure, open_connection, require_url
from domain.store.use import NOTHING_WRITTEN
from domain.store.use import DatabaseUse as DatabaseUse
from domain.store.use import database_use as database_use
from domain.support.lru import Lru

T = TypeVar("T")

MAX_ATTEMPTS = 4
READ_SECONDS, WRITE_SECONDS = 10, 60
"""The default time limits of one statement."""
LOCK_SECONDS = 5
"""How long a write waits for each lock."""
MAX_PREPARED_STATEMENTS, MAX_PREPARED_CHARACTERS = 100, 16_000
"""How many statements stay prepared on a connection, and how long their text may be.

PostgreSQL's plan takes some 40 times the text's memory.
"""
MAX_REMEMBERED_STATEMENTS = 5_000
POOL_SECONDS, CONNECT_SECONDS = 5.0, 5.0
"""How long a request waits for a connection, and how long connecting may take."""
ROLLBACK_SECONDS = 2.0
MIGRATING = "The schema of the database is being changed."
IN_MIGRATION = (*STALE_PLANS, asyncpg.DeadlockDetectedError)
"""What a statement may raise while a migration runs; writers break each other's deadlocks too."""


class SnapshotChanged(Exception):
    """What a write read before it took its locks has changed meanwhile, so that its transaction must be run again."""


def transpose(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Returns rows as `width` columns, for unnest. The columns are empty if there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


class ConditionFailed(Exception):
    """The condition of a transaction did not hold when it began."""


class Database:
    """A pool of connections. Every method raises Busy if no connection is free or a statement takes too long, and
    DatabaseUnavailable, which is a Busy too.

    Settings are local to their transaction, so releasing a connection needs no round trip.
    """

    def __init__(
        self,
        pool: Pool,
        pulse: Pulse,
        read_seconds: int = READ_SECONDS,
        write_seconds: int = WRITE_SECONDS,
        ledger: Ledger | None = None,
        edition: Edition | None = None,
        replicas: Sequence[Replica] = (),
    ) -> None:
        self._pool, self._pulse = pool, pulse
        self.replicas = Replicas(replicas, self._read_primary) if replicas else None
        self._edition = edition or Edition()
        self.ledger = ledger
        self._write_limit = f"{write_seconds}s"
        self._longest_read = read_seconds + ANSWER_SECONDS
        self.failures = Counter(dict.fromkeys(FAILURES, 0))
        """How often the database was unavailable to a request, by kind."""
        self._recent_statements: Lru[int, bool] = Lru(
            "statements that ran", MAX_REMEMBERED_STATEMENTS * 300, weigh=lambda key, value: 64
        )

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        setting: str = "DATABASE_URL",
        size: int = 10,
        serving: bool = True,
        on_connect: Any = None,
        read_seconds: int = READ_SECONDS,
        write_seconds: int = WRITE_SECONDS,
        ledger: Ledger | None = None,
        pooled: bool = False,
        replica_urls: Sequence[str] = (),
    ) -> "Database":
        """Connects. A statement is stopped after `read_seconds`, in a transaction after `write_seconds`. `setting` names the
        URL in messages. What must survive a restore is written into `ledger` before it is committed. With `pooled` the URL
        may lead to a pooler in transaction mode (pooler.py). Reads may be answered by the replicas that are reached by `replica_urls`.

        With `serving`, raises DatabaseError for a role that row-level security does not confine. Also raises
        DatabaseError if PostgreSQL cannot be reached.
        """

        target, edition = require_url(url, setting), Edition()
        of_pooler = {"connection_class": make_connection_class(edition)} if pooled else {}

        async def connect(target: DatabaseUrl = target, seconds: int = write_seconds) -> Connection:
            connection = await open_connection(
                target,
                **of_pooler,
                seconds=CONNECT_SECONDS,
                statement_cache_size=MAX_PREPARED_STATEMENTS,
                max_cacheable_statement_size=MAX_PREPARED_CHARACTERS,
                command_timeout=seconds + ANSWER_SECONDS,
                server_settings={
                    "timezone": "UTC",
                    "application_name": "markonce",
                    **({} if pooled else list_session_settings(read_seconds)),
                },
            )
            if on_connect is not None:
                await on_connect(connection)
            return connection

        pool = Pool(connect, size)
        try:
            first = await pool.acquire(POOL_SECONDS)
        except CONNECT_ERRORS as problem:
            raise DatabaseError(describe_failure(problem, url, setting)) from problem
        try:
            fault = await find_role_fault(first, setting) if serving else None
            if pooled:
                await require_session_settings(first, setting, read_seconds)
        finally:
            pool.release(first, is_reusable=True)
        if fault:
            await pool.close()
            raise DatabaseError(fault)
        targets = [require_url(each, "DATABASE_REPLICA_URL") for each in replica_urls]
        replicas = [Replica(each.where, partial(connect, each, read_seconds), size) for each in targets]
        opened = cls(pool, Pulse(target), read_seconds, write_seconds, ledger, edition, replicas)
        if opened.replicas is not None:
            opened.replicas.start()
        return opened

    async def close(self) -> None:
        if self.replicas is not None:
            await self.replicas.close()
        await self._pool.close()

    def count_pool(self) -> PoolCounts:
        """Returns what the pool of connections does now."""
        return self._pool.count()

    async def explain_late(self) -> Busy:
        """Returns the error of a request for which the database took too long: it is busy, or answers nobody."""
        is_silent = not await self._pulse.is_answering()
        return make_outage(TimeoutError(), is_connected=True, loss=NOTHING_WRITTEN)[1] if is_silent else Busy(LATE)

    def _describe_outage(self, error: Exception, use: DatabaseUse, *, is_connected: bool) -> Busy:
        """Returns the error for the client, without PostgreSQL's own text, and counts its kind."""
        kind, outage = make_outage(error, is_connected=is_connected, loss=use.describe_loss())
        self.failures[kind] += 1
        return outage

    @asynccontextmanager
    async def _connection(self, *, is_writing: bool = False, name: str = "") -> AsyncIterator[Connection]:
        """Lends a connection of the pool. Raises Busy if none is free or a lock times out, and DatabaseUnavailable; other
        errors pass.
        """
        use = database_use.get() or DatabaseUse()
        connection: Connection | None = None
        timer: asyncio.TimerHandle | None = None
        is_reusable = False
        begun, edition = time.perf_counter(), self._edition.number
        try:
            connection = await self._pool.acquire(POOL_SECONDS, use.client, is_writing=is_writing)
            if not is_writing:
                timer = asyncio.get_running_loop().call_later(self._longest_read, connection.terminate)
            if use.times is None:
                yield connection
            else:
                with record_statements(connection, use.times, time.perf_counter() - begun, name):
                    yield connection
            is_reusable = True
        except OutcomeUnknown:
            raise
        except asyncpg.ReadOnlySQLTransactionError as problem:  # a standby: it was the primary, or another is by now
            self._pool.forget_idle()
            raise self._describe_outage(problem, use, is_connected=True) from problem
        except STALE_PLANS:  # is_reusable stays False: its other prepared statements are stale too
            self._edition.outdate(edition)
            raise
        except NoneFree as problem:
            is_silent = self._pool.answered_at < begun and not await self._pulse.is_answering()
            raise self._describe_outage(TimeoutError() if is_silent else problem, use, is_connected=is_silent) from problem
        except LOST as problem:
            if isinstance(problem, asyncpg.InterfaceError) and connection is not None and not connection.is_closed():
                raise  # an incorrect call of asyncpg
            raise self._describe_outage(problem, use, is_connected=connection is not None) from problem
        except Exception as problem:
            if timer is not None and timer.when() <= asyncio.get_running_loop().time():  # it has cut the connection
                raise self._describe_outage(TimeoutError(), use, is_connected=True) from problem
            is_reusable = is_rejection(problem) or not isinstance(problem, asyncpg.PostgresError)
            if is_outage(problem) or is_lock_timeout(problem):
                raise self._describe_outage(problem, use, is_connected=connection is not None) from problem
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if connection is not None:
                self._pool.release(connection, is_reusable=is_reusable)
            use.seconds += time.perf_counter() - begun

    async def read(self, statement: str, *arguments: Any, name: str = "", may_lag: bool = False) -> "asyncpg.Record | None":
        """Returns the one row of a statement that sets its caller's context itself (read/statement.py), None if there
        is no row. `name` is the statement's in traces. With `may_lag` a replica may answer, if the request's terms allow it.

        A statement that fails because of a migration is run again. A statement stays prepared from its second run on,
        so that one that is run once takes no memory of PostgreSQL.
        """
        use = database_use.get()
        if may_lag and self.replicas is not None and use is not None and use.terms is not None:
            try:
                row = await self.replicas.read(
                    use, statement, arguments, partial(self._run, name=f"replica: {name}" if name else "")
                )
            except asyncpg.QueryCanceledError as problem:  # the primary would take as long
                raise self._describe_outage(problem, use, is_connected=True) from problem
            if row is not None:
                return row
        for _ in range(MAX_ATTEMPTS):
            with suppress(*IN_MIGRATION):
                async with self._connection(name=name) as connection:
                    return await self._run(connection, statement, arguments, name)
        raise Busy(MIGRATING)

    async def _read_primary(self, statement: str) -> Any:
        async with self._connection() as connection:
            return await connection.fetchrow(statement)

    async def _run(self, connection: Connection, statement: str, arguments: Sequence[Any], name: str) -> "asyncpg.Record | None":
        if self._has_run(statement):
            return await connection.fetchrow(statement, *arguments)
        with record_once(database_use.get(), name or name_statement(statement)):
            return await self.run_once(connection, statement, *arguments)

    async def run_once(self, connection: Connection, statement: str, *arguments: Any) -> "asyncpg.Record | None":
        """Returns the one row of a statement, which does not stay prepared."""
        return await (await connection.prepare(statement, name="")).fetchrow(*arguments)

    def _has_run(self, statement: str) -> bool:
        """Whether the statement has run recently. Records that it has run from now on."""
        key = hash(statement)
        if self._recent_statements.get(key):
            return True
        self._recent_statements.put(key, True)
        return False

    @asynccontextmanager
    async def without_caller(self) -> AsyncIterator[Connection]:
        """Lends a connection without a caller, for tables that belong to no tenant: the register, clients and keys.

        Row-level security hides every row of a tenant from it.
        """
        try:
            async with self._connection() as connection:
                yield connection
        except IN_MIGRATION as problem:
            raise Busy(MIGRATING) from problem

    async def run_transaction(
        self, caller: UUID | None, work: Callable[[Connection], Awaitable[T]], condition: str = "true", tenant: UUID | None = None
    ) -> T:
        """Runs `work` in one transaction in the caller's context, and returns its result.

        The first statement names the `tenant`, if it is the only one that the transaction may write.

        Raises ConditionFailed, and does not run `work`, unless the SQL condition holds when the transaction begins.

        The transaction is run again from the start after a deadlock, a serialization failure, a unique violation
        (another transaction has just inserted the same row), SnapshotChanged or a migration, and once where
        the connection led to a standby. Raises OutcomeUnknown if COMMIT was sent and not answered.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                async with self._connection(is_writing=True) as connection:
                    return await self._transact(connection, caller, work, condition, tenant)
            except DatabaseUnavailable as problem:
                if attempt or not isinstance(problem.__cause__, asyncpg.ReadOnlySQLTransactionError):
                    raise
            except (*IN_MIGRATION, asyncpg.SerializationError, asyncpg.UniqueViolationError, SnapshotChanged) as problem:
                if attempt == MAX_ATTEMPTS - 1:
                    raise Busy(LOCKED_BY_OTHERS) from problem
                await asyncio.sleep(0.05 * 2**attempt)
        raise AssertionError("unreachable")

    async def _transact(
        self,
        connection: Connection,
        caller: UUID | None,
        work: Callable[[Connection], Awaitable[T]],
        condition: str,
        tenant: UUID | None,
    ) -> T:
        named = "" if tenant is None else f" set_config('markonce.tenant', '{tenant}', true),"
        status = await connection.execute(
            f"BEGIN; SELECT set_config('markonce.caller', '{caller or ''}', true),{named} set_config('statement_timeout', '{self._write_limit}', true),"
            f" set_config('lock_timeout', '{LOCK_SECONDS}s', true) WHERE {condition}",
            timeout=self._longest_read,
        )
        if status == "SELECT 0":
            await _roll_back(connection)
            raise ConditionFailed
        use = database_use.get()
        if use is not None:
            use.pending.clear()
        try:
            with collect_notes() as notes:
                result = await work(connection)
            entries = await write_notes(connection, self.ledger, notes) if notes else []
        except LOST:
            raise
        except Exception:
            await _roll_back(connection)
            raise
        try:
            await _commit(connection)
        except OutcomeUnknown:
            raise
        except Exception:
            await give_up_entries(self.ledger, entries)
            raise
        return result


async def _roll_back(connection: Connection) -> None:
    """Rolls the transaction back. If that fails, the connection is cut, which ends the transaction too."""
    try:
        async with asyncio.timeout(ROLLBACK_SECONDS):
            await connection.execute("ROLLBACK")
    except (*LOST, asyncpg.PostgresError):
        connection.terminate()


async def _commit(connection: Connection) -> None:
    """Commits. Raises OutcomeUnknown if PostgreSQL has not answered whether the transaction was committed."""
    use = database_use.get() or DatabaseUse()
    use.begin_commit()
    try:
        status = await connection.execute("COMMIT")
    except asyncpg.PostgresError as problem:
        if not is_rejection(problem):
            raise OutcomeUnknown from problem
        use.end_commit(has_committed=False)
        raise
    except LOST as problem:
        raise OutcomeUnknown from problem
    use.end_commit(has_committed=status == "COMMIT")
    if status != "COMMIT":  # PostgreSQL has rolled back, because an error in the transaction was ignored
        raise RuntimeError("the transaction had failed and was rolled back")
