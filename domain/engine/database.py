"""The door to PostgreSQL: a pool of asyncpg connections with two intents, read() and writing().

A read is one auto-commit statement that sets its own row-level-security context, so it costs no round trip for it; a write is a transaction
whose context is set once. Nothing relies on session state, so a transaction-mode pooler works in between.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import MetaData

from domain.engine.errors import Busy, DatabaseError
from domain.engine.pool import Connection as Connection
from domain.engine.pool import Pool
from domain.engine.references import References
from domain.engine.schema import STALE_PLANS

metadata = MetaData()

T = TypeVar("T")

RETRIES = 4
_BEGIN_WRITING = "SELECT set_config('markonce.caller', $1, true), set_config('statement_timeout', $2, true)"
_LOST = "The connection to the database was lost; nothing of this request was written."
READ_SECONDS, WRITE_SECONDS = 10, 60
"""How long one statement may take, unless the installation says otherwise."""
STATEMENTS = 500
"""Statements that stay prepared on a connection."""
POOL_SECONDS = 5.0
"""How long a request waits for a connection."""


@dataclass
class Stopwatch:
    """Seconds spent with the database, waiting for a connection included."""

    seconds: float = 0.0


stopwatch: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)
"""Whoever wants to know sets one before it asks."""


def columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows as the `width` arrays that unnest takes, empty where there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


class Database:
    """One pool. `read()` and `writing()` raise Busy when no connection is to be had or a statement takes too long (503 at the door).

    Every context is local to its transaction, so giving a connection back costs no round trip.
    """

    def __init__(self, pool: Pool, write_seconds: int = WRITE_SECONDS) -> None:
        self._pool = pool
        self._write_limit = f"{write_seconds}s"
        self.references = References()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        size: int = 10,
        serving: bool = True,
        on_connect: Any = None,
        read_seconds: int = READ_SECONDS,
        write_seconds: int = WRITE_SECONDS,
    ) -> "Database":
        """Connects; a statement is stopped after `read_seconds`, in writing() after `write_seconds`.

        With `serving`, refuses a role that owns tables or bypasses row-level security: the second wall must stand.
        """

        async def connect() -> Connection:
            connection = await asyncpg.connect(
                url,
                statement_cache_size=STATEMENTS,
                max_cacheable_statement_size=0,
                server_settings={
                    "timezone": "UTC",
                    "jit": "off",
                    "statement_timeout": f"{read_seconds}s",
                    "plan_cache_mode": "force_generic_plan",
                    "application_name": "markonce",
                },
            )
            if on_connect is not None:
                await on_connect(connection)
            return connection

        pool = Pool(connect, size)
        try:
            first = await pool.lend(POOL_SECONDS)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
            raise DatabaseError(f"PostgreSQL could not be reached: {type(problem).__name__}: {problem}") from problem
        try:
            unsafe = serving and await first.fetchval(
                "SELECT rolsuper OR rolbypassrls OR EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = 'public' AND c.relowner = r.oid) FROM pg_roles r WHERE rolname = current_user"
            )
        finally:
            pool.give_back(first)
        if unsafe:
            await pool.close()
            raise DatabaseError(
                "DATABASE_URL names a superuser, the owner of the tables or a role that bypasses row-level security; name the app role."
            )
        return cls(pool, write_seconds)

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Connection]:
        used: Connection | None = None
        begun = time.perf_counter()
        try:
            used = await self._pool.lend(POOL_SECONDS)
            yield used
        except (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError) as problem:
            raise Busy(_LOST) from problem
        except STALE_PLANS:
            if used is not None:
                await used.reload_schema_state()  # the others that it has prepared are as old
            raise
        except asyncpg.InterfaceError as problem:  # also what a rollback raises on a connection that has died
            if used is not None and not used.is_closed():
                raise
            raise Busy(_LOST) from problem
        except (
            TimeoutError,
            asyncpg.QueryCanceledError,
            asyncpg.TooManyConnectionsError,
            asyncpg.CannotConnectNowError,
            ConnectionError,
        ) as problem:
            raise Busy("The database did not answer in time.") from problem
        finally:
            if used is not None:
                self._pool.give_back(used)
            if watch := stopwatch.get():
                watch.seconds += time.perf_counter() - begun

    async def read(self, statement: str, *arguments: Any) -> "asyncpg.Record | None":
        """The one row of a statement that sets its caller's context itself (query.finish); once more where a migration was in the way."""
        with suppress(*STALE_PLANS, asyncpg.DeadlockDetectedError):
            async with self._lent() as connection:
                return await connection.fetchrow(statement, *arguments)
        async with self._lent() as connection:
            return await connection.fetchrow(statement, *arguments)

    @asynccontextmanager
    async def register(self) -> AsyncIterator[Connection]:
        """A connection with no caller, for what is nobody's: the register, clients and keys. Tenant tables are empty to it."""
        try:
            async with self._lent() as connection:
                yield connection
        except (*STALE_PLANS, asyncpg.DeadlockDetectedError) as problem:
            raise Busy("The schema of the database is being changed.") from problem

    async def writing(self, caller: UUID | None, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Runs `work` in one transaction in the caller's context; again, from the start, when PostgreSQL broke a deadlock or another
        transaction has just made the same row, or a statement was planned before a migration."""
        for attempt in range(RETRIES):
            try:
                async with self._lent() as connection, connection.transaction():
                    await connection.execute(_BEGIN_WRITING, str(caller) if caller else "", self._write_limit)
                    return await work(connection)
            except (
                asyncpg.DeadlockDetectedError,
                asyncpg.SerializationError,
                asyncpg.UniqueViolationError,
                *STALE_PLANS,
            ) as problem:
                if attempt == RETRIES - 1:
                    raise Busy("Other writes to the same schools are in the way.") from problem
                await asyncio.sleep(0.05 * 2**attempt)
        raise AssertionError("unreachable")


async def in_one_transaction(url: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Runs `work` in one transaction on a connection of its own: the operator's work at the command line. Raises DatabaseError."""
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except (OSError, asyncpg.PostgresError, ValueError, TimeoutError) as problem:
        raise DatabaseError(f"PostgreSQL could not be reached: {type(problem).__name__}: {problem}") from problem
    try:
        async with connection.transaction():
            return await work(connection)
    finally:
        await connection.close()
