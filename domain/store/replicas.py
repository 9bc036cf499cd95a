"""Replicas: streaming standbys of the database that answer reads.

What a client may do comes from the primary, at most a few seconds old, and a read says with which reach it relies on (`ReadTerms`). The statement that
reads on a replica asks there whether the replica has that reach and the versions that the client has seen (`is_caught_up`); where it has not, it
returns nothing, and the primary is asked. So a read takes one statement where the replica is good, and a grant that ended goes on nowhere.

A replica is used while it is known that everything is there which was committed at most MAX_BEHIND_SECONDS ago. Once a second the position of the primary's
log is noted with the time before it was asked for, and compared with what each replica has replayed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from domain.declare.errors import DatabaseError
from domain.store.outages import LOST, is_rejection
from domain.store.pool import Connection, Pool
from domain.store.pooler import find_pooler_faults
from domain.store.roles import find_role_fault
from domain.store.schema import STALE_PLANS
from domain.store.urls import CONNECT_ERRORS, connect, read_url
from domain.store.use import DatabaseUse

log = structlog.get_logger()

MAX_BEHIND_SECONDS = 10.0
"""How old what a replica shows may be."""
REACH_SECONDS = 5.0
"""How old the reach of a client may be with which a replica is asked."""
LOOK_SECONDS = 1.0
"""Time between two looks at the positions."""
ANSWER_SECONDS = 2.0
"""How long a replica may take to say where it is. One that takes longer is left out."""
WAIT_SECONDS = 1.0
"""How long a read waits for a connection to a replica before the primary is asked."""
AWAY_SECONDS = 30.0
"""How long a replica is left out that has what the primary has not: it followed another."""
MAX_CLOCK_DIFFERENCE = 10.0
"""Seconds by which a replica's clock may differ from the primary's, since grants end by the time."""

_OF_PRIMARY = """
SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint AS position, (SELECT system_identifier FROM pg_control_system()) AS system,
    extract(epoch FROM clock_timestamp())::float8 AS now
"""
_OF_REPLICA = """
SELECT pg_is_in_recovery() AS is_standby, COALESCE((pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint, 0) AS position,
    (SELECT system_identifier FROM pg_control_system()) AS system, extract(epoch FROM clock_timestamp())::float8 AS now
"""


@dataclass(frozen=True)
class ReadTerms:
    """What a replica must have to answer a read: the reach of the client, and the versions of tenants that the client has seen.

    The reach was read at `reach_read_at`, by time.monotonic.
    """

    client: UUID
    reach_version: int
    reach_read_at: float
    tenants: tuple[UUID, ...] = ()
    versions: tuple[int, ...] = ()


@dataclass
class ReplicaCounts:
    """How many reads replicas answered, and how many the primary did because no replica was good: none was near enough (`behind`), what the client
    has seen or may do was not there yet (`older`), or the statement failed there (`failed`)."""

    answered: int = 0
    behind: int = 0
    older: int = 0
    failed: int = 0


class Replica:
    """One replica, with a pool of its own."""

    def __init__(self, name: str, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self.name = name
        self._connect, self._size = connect, size
        self.pool = Pool(self._connect_checked, size)
        self._looking: Connection | None = None
        self.confirmed_at = self._away_until = float("-inf")
        """Everything that was committed before this moment is there, by time.monotonic."""
        self.reason = "it was not asked yet"
        """Why it is left out; empty where it is not."""

    async def _connect_checked(self) -> Connection:
        connection = await self._connect()
        fault = await find_role_fault(connection, "DATABASE_REPLICA_URL")
        if fault is not None:
            connection.terminate()
            raise DatabaseError(fault)
        return connection

    @property
    def is_near(self) -> bool:
        """Whether it has everything that was committed at most MAX_BEHIND_SECONDS ago."""
        return time.monotonic() - self.confirmed_at <= MAX_BEHIND_SECONDS

    async def read_position(self) -> asyncpg.Record | None:
        """Returns what it says of itself; None where it does not answer in time, and then it is left out."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._looking is None or self._looking.is_closed():
                    self._looking = await self._connect_checked()
                return await self._looking.fetchrow(_OF_REPLICA)
        except (*LOST, asyncpg.PostgresError, DatabaseError, TimeoutError) as problem:
            await self.leave_out(f"it does not answer ({type(problem).__name__})")
            return None

    async def leave_out(self, reason: str) -> None:
        """Uses it no more for the time being. The reads that it has are ended, and go to the primary."""
        if self._looking is not None:
            self._looking.terminate()
            self._looking = None
        self.confirmed_at = float("-inf")
        self._note(reason)
        pool, self.pool = self.pool, Pool(self._connect_checked, self._size)
        await pool.close()

    async def judge(self, said: asyncpg.Record, primary: asyncpg.Record, positions: Sequence[tuple[float, int]]) -> None:
        """Decides what is there. `said` is older than `primary`, and `positions` are those of the primary with the times before they were read."""
        now = time.monotonic()
        reason = ""
        if not said["is_standby"]:
            reason = "it is no standby"
        elif said["system"] != primary["system"]:
            reason = "it is a standby of another database"
        elif abs(said["now"] - primary["now"]) > MAX_CLOCK_DIFFERENCE + ANSWER_SECONDS:
            reason = "its clock differs from the primary's"
        elif said["position"] > primary["position"]:
            reason, self._away_until = "it has what the primary has not", now + AWAY_SECONDS
        elif now < self._away_until:
            reason = "it had what the primary had not"
        if reason:
            if reason != self.reason:
                await self.leave_out(reason)
            return
        self.confirmed_at = max((at for at, position in positions if position <= said["position"]), default=float("-inf"))
        self._note("" if self.is_near else "it is behind")

    async def close(self) -> None:
        """Closes its connections."""
        if self._looking is not None:
            self._looking.terminate()
        await self.pool.close()

    def _note(self, reason: str) -> None:
        if reason != self.reason:
            if reason:
                log.warning("replica left out", replica=self.name, reason=reason)
            else:
                log.info("replica in use", replica=self.name)
        self.reason = reason


class Replicas:
    """The replicas of a database, and which of them may answer now."""

    def __init__(self, replicas: Sequence[Replica], read_primary: Callable[[str], Awaitable[Any]]) -> None:
        self.replicas = tuple(replicas)
        self._read_primary = read_primary
        self._positions: deque[tuple[float, int]] = deque(maxlen=2 * int(MAX_BEHIND_SECONDS / LOOK_SECONDS))
        self._turn = 0
        self.counts = ReplicaCounts()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._run())

    def choose(self) -> Replica | None:
        """Returns the replica whose turn it is; None where none is near enough."""
        near = [replica for replica in self.replicas if replica.is_near]
        self._turn += 1
        return near[self._turn % len(near)] if near else None

    async def read(
        self,
        use: DatabaseUse,
        statement: str,
        arguments: Sequence[Any],
        run: Callable[[Connection, str, Sequence[Any]], Awaitable[Any]],
    ) -> asyncpg.Record | None:
        """Returns the one row of a statement from a replica, within the terms of a request. Returns None where the primary is to be asked, as it then
        is for the rest of the request. Raises QueryCanceledError.
        """
        terms, row = use.terms, None
        assert terms is not None
        use.replica = replica = use.replica or self.choose()
        if replica is None or not replica.is_near or time.monotonic() - terms.reach_read_at > REACH_SECONDS:
            use.terms = None
            self.counts.behind += 1
            return None
        statement, arguments = add_terms(statement, arguments, terms)
        begun, pool, is_reusable = time.perf_counter(), replica.pool, False
        connection: Connection | None = None
        try:
            connection = await pool.acquire(WAIT_SECONDS, use.client)
            row = await run(connection, statement, arguments)
            is_reusable = True
            self.counts.answered += row is not None
            self.counts.older += row is None
        except asyncpg.QueryCanceledError:
            is_reusable = True
            raise
        except (*LOST, asyncpg.PostgresError, DatabaseError) as problem:  # such as 40001: replay needed what the statement reads
            is_reusable = is_rejection(problem) and not isinstance(problem, STALE_PLANS)
            self.counts.failed += 1
        finally:
            if connection is not None:
                pool.release(connection, is_reusable=is_reusable)
            use.seconds += time.perf_counter() - begun
            if row is None:
                use.terms = None
        return row

    async def look(self) -> None:
        """Compares the positions once. Where the primary does not answer, none is confirmed."""
        said = await asyncio.gather(*(replica.read_position() for replica in self.replicas))
        asked_at = time.monotonic()
        primary = await self._read_primary(_OF_PRIMARY)
        if primary is None:
            return
        self._positions.append((asked_at, primary["position"]))
        for replica, each in zip(self.replicas, said, strict=True):
            if each is not None:
                await replica.judge(each, primary, tuple(self._positions))

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # the primary: it is said elsewhere
                log.warning("replicas not compared", kind=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Ends looking, and closes the connections."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for replica in self.replicas:
            await replica.close()


async def find_replica_faults(url: str, read_seconds: int, *, pooled: bool) -> list[str]:
    """Returns what keeps a server from using a replica, as sentences. One that cannot be reached now may be there later."""
    setting = "DATABASE_REPLICA_URL"
    if pooled and (faults := await find_pooler_faults(url, setting, read_seconds)):
        return faults
    try:
        connection = await connect(url, setting)
    except (*CONNECT_ERRORS, DatabaseError):
        return []
    try:
        fault = await find_role_fault(connection, setting)
        is_standby = await connection.fetchval("SELECT pg_is_in_recovery()")
    except CONNECT_ERRORS:
        return []
    finally:
        await connection.close()
    no_standby = (
        f"{setting}: {read_url(url).where} is no standby; a replica follows the database of DATABASE_URL by streaming replication"
    )
    return [*([fault] if fault else []), *([] if is_standby else [no_standby])]


def add_terms(statement: str, arguments: Sequence[Any], terms: ReadTerms) -> tuple[str, list[Any]]:
    """Returns the statement, and its arguments, that returns nothing where the terms are not met."""
    n = len(arguments)
    condition = f"is_caught_up(${n + 1}::uuid, ${n + 2}::bigint, ${n + 3}::uuid[], ${n + 4}::bigint[])"
    return (
        f"SELECT r.* FROM ({statement}) r WHERE {condition}",
        [*arguments, terms.client, terms.reach_version, list(terms.tenants), list(terms.versions)],
    )
