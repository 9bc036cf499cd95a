"""Checks whether a server is ready (GET /health/ready): the database must answer, accept writes, and have a schema, a
signing key and a clock that fit.

Each check opens a new connection. An open one may still work where a new one would be refused or read-only, and the
answer must not wait for a pool whose connections are all in use. Requests within half a second share one check.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from domain.declare.errors import DatabaseError, DomainError
from domain.store.database import Database
from domain.store.pool import Connection
from domain.store.roles import find_role_fault
from domain.store.schema import explain_misfit, read_schema
from domain.store.urls import CONNECT_ERRORS, connect, describe_failure

CHECK_SECONDS = 2.0
"""How long a check may take."""
SHARED_SECONDS = 0.5
"""Seconds for which a result is used again."""
MAX_CLOCK_DIFFERENCE = 10.0
"""Seconds by which the clocks of server and database may differ: well below the leeway with which tokens are verified."""

_FACTS = """
SELECT pg_is_in_recovery() AS is_standby, current_setting('transaction_read_only')::boolean AS is_read_only, clock_timestamp() AS now
"""
_WRITE = """
SELECT set_config('work_mem', '64kB', true), set_config('temp_tablespaces', '', true);
SELECT count(*) FROM generate_series(1, 8000);
SELECT pg_logical_emit_message(true, 'markonce', 'ready')
"""
"""One transaction that needs the disk and stores nothing.

The rows exceed work_mem and are written to a temporary file beside the tables, which fails on a full disk; an update of
one row would not. The message is a record of the write-ahead log, and the commit waits until it is on disk.
"""


@dataclass(frozen=True)
class Failure:
    """A failed check: database, writing, schema, clock or signing-key. The message holds no secret."""

    check: str
    message: str
    kind: str = ""
    """The type and SQLSTATE of the exception, for the log."""


class Readiness:
    """The checks of one server.

    `check_key` raises DatabaseError if no token can be signed; `clock` returns the seconds since 1970.
    """

    def __init__(
        self, url: str, check_key: Callable[[Connection], Awaitable[None]], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._url = url
        self._check_key = check_key
        self._clock = clock
        self._checking: asyncio.Task[tuple[Failure, ...]] | None = None
        self._fresh_until = float("-inf")

    async def find_failures(self, database: Database) -> tuple[Failure, ...]:
        """Returns the checks that fail; none if the server is ready."""
        checking = self._checking
        if checking is None or (checking.done() and (checking.cancelled() or time.monotonic() > self._fresh_until)):
            checking = self._checking = asyncio.create_task(self._run_checks(database))
        return await asyncio.shield(checking)

    async def _run_checks(self, database: Database) -> tuple[Failure, ...]:
        step, failures = "database", list[Failure]()
        try:
            async with asyncio.timeout(CHECK_SECONDS), self._connect(database) as connection:
                failures += await self.check_without_writing(connection)
                if not any(failure.check == "writing" for failure in failures):
                    step = "writing"
                    await connection.execute(_WRITE)
        except Exception as problem:  # the request gets an answer, whatever was raised
            failures.append(_describe_failure(step, problem))
        self._fresh_until = time.monotonic() + SHARED_SECONDS
        return tuple(failures)

    @asynccontextmanager
    async def _connect(self, database: Database) -> AsyncIterator[Connection]:
        """Opens a connection. Uses one of the pool if PostgreSQL allows no more, since the server still works with
        those.
        """
        try:
            connection = await connect(self._url, statement_cache_size=0, server_settings={"application_name": "markonce ready"})
        except asyncpg.TooManyConnectionsError:
            async with database.without_caller() as pooled:
                yield pooled
            return
        try:
            yield connection
            await connection.close()
        finally:
            connection.terminate()

    async def check_without_writing(self, connection: Connection) -> list[Failure]:
        """Returns the failures that can be found without writing."""
        failures = []
        before = self._clock()
        facts = await connection.fetchrow(_FACTS)
        after = self._clock()
        assert facts is not None
        if facts["is_standby"]:
            failures.append(Failure("writing", "The database is a standby, which takes no writes."))
        elif facts["is_read_only"]:
            failures.append(Failure("writing", "The database is read-only."))
        now = facts["now"].timestamp()
        apart = max(before - now, now - after)
        if apart > MAX_CLOCK_DIFFERENCE:
            failures.append(
                Failure(
                    "clock",
                    f"The clock of this server and that of the database are {apart:,.0f} s apart, and may be {MAX_CLOCK_DIFFERENCE:.0f}: tokens"
                    " that one stamps are refused by the other. Set both by NTP.",
                )
            )
        if reason := explain_misfit(await read_schema(connection)):
            return [*failures, Failure("schema", reason)]
        try:
            await self._check_key(connection)
        except DatabaseError as problem:
            failures.append(Failure("signing-key", problem.detail))
        return failures


_REASONS = {
    "25006": "The database is read-only.",
    "53100": "The database's disk is full.",
    "53300": "All connections that the database allows are taken.",
    "53": "The database is out of memory or of another resource.",
    "28": "The database refuses the login of this server.",
    "3D": "There is no such database.",
    "42501": "The role of this server lacks a right that it needs.",
    "57P": "The database is starting or stopping.",
    "58": "The database cannot read or write its files.",
}
"""Messages by SQLSTATE or its beginning, the longer first."""


def _describe_failure(check: str, problem: Exception) -> Failure:
    """Returns the failure that an exception means.

    The exception's own text is not used, since it may name roles and addresses.
    """
    sqlstate = str(getattr(problem, "sqlstate", None) or "")
    kind = f"{type(problem).__name__} {sqlstate}".strip()
    for begins, reason in _REASONS.items():
        if sqlstate.startswith(begins):
            return Failure(check, reason, kind)
    if isinstance(problem, TimeoutError):
        late = "A write was not on disk" if check == "writing" else "The database did not answer"
        return Failure(check, f"{late} within {CHECK_SECONDS:.0f} s.", kind)
    if isinstance(problem, DomainError):
        return Failure(check, problem.detail, kind)
    if sqlstate and not isinstance(problem, asyncpg.PostgresConnectionError):
        return Failure(check, f"The database answers with an error (SQLSTATE {sqlstate}).", kind)
    return Failure(check, "The database cannot be reached.", kind)


async def find_faults_of_url(url: str, setting: str, readiness: Readiness) -> list[str]:
    """Returns what keeps a server from starting with a database, as sentences for its operator. A database that takes no
    writes at the moment does not."""
    try:
        connection = await connect(url, setting)
    except DatabaseError as problem:
        return [problem.detail]
    except CONNECT_ERRORS as problem:
        return [describe_failure(problem, url, setting)]
    try:
        role = await find_role_fault(connection, setting)
        failures = await readiness.check_without_writing(connection)
    except (*CONNECT_ERRORS, DatabaseError) as problem:
        return [getattr(problem, "detail", None) or describe_failure(problem, url, setting)]
    finally:
        await connection.close()
    return [*([role] if role else []), *(failure.message for failure in failures if failure.check != "writing")]
