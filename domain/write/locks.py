"""The schools that a write locks, and the data versions that it increments."""

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.store.database import Connection, Database, database_use


@dataclass
class LockWaits:
    """How often the process has locked schools, and the seconds that this took."""

    count: int = 0
    seconds: float = 0.0


lock_waits = LockWaits()

_tracked: ContextVar["list[SchoolLocks] | None"] = ContextVar("tracked_locks", default=None)


@contextmanager
def track_locks() -> "Iterator[list[SchoolLocks]]":
    """Yields the list of the locks that are taken within the block."""
    locks: list[SchoolLocks] = []
    token = _tracked.set(locks)
    try:
        yield locks
    finally:
        _tracked.reset(token)


class SchoolLocks:
    """The schools of one tenant that a transaction has locked.

    A write first locks every school that it may change, in the order of their ids, so that two writes never wait for
    each other. Before the transaction ends, the data versions of the schools are incremented: ETags and cached
    responses depend on them. `perform` does so after every command that has written something.
    """

    def __init__(self, connection: Connection, tenant_id: UUID) -> None:
        self.connection = connection
        self.tenant_id = tenant_id
        self.school_ids: list[UUID] = []
        self.has_incremented = False
        if (use := database_use.get()) is not None:
            use.tenant = tenant_id
        if (tracked := _tracked.get()) is not None:
            tracked.append(self)

    async def lock(self, school_ids: Collection[UUID], pupil_ids: Collection[UUID]) -> None:
        """Locks these schools and every school where these pupils are or were on roll."""
        begun = time.perf_counter()
        lock_waits.count += 1
        try:
            locked = await self.connection.fetchval(
                "SELECT lock_schools($1, $2, $3)", self.tenant_id, list(school_ids), list(pupil_ids)
            )
        finally:
            lock_waits.seconds += time.perf_counter() - begun
        self.school_ids = locked or []

    async def leave_unchanged(self, school_ids: Collection[UUID], pupil_ids: Collection[UUID]) -> None:
        """Leaves the versions of all other locked schools as they are: the write has changed rows of these schools and pupils alone."""
        if len(self.school_ids) > 1:
            found = await self.connection.fetchval("SELECT find_schools_of($1, $2)", self.tenant_id, list(pupil_ids))
            changed = {*school_ids, *found}
            self.school_ids = [school_id for school_id in self.school_ids if school_id in changed]

    async def increment_versions(self) -> None:
        """Increments the data versions of the locked schools."""
        self.has_incremented = True
        await self.connection.execute("SELECT bump_versions($1, $2)", self.tenant_id, self.school_ids)


async def end_write(connection: Connection, database: Database, locks: Collection[SchoolLocks], other: UUID | None) -> None:
    """Notes the versions that the tenants of the locks, or else the `other`, have with this transaction, where there are replicas: a client that names
    them reads what it has written. It is the last statement of the transaction, since it locks the versions of whole tenants.
    """
    tenants = sorted({each.tenant_id for each in locks} or {other} - {None}, key=str)
    if database.replicas is not None and tenants:
        _note(await connection.fetch("SELECT tenant_id, version FROM end_write($1)", tenants))


async def note_versions(connection: Connection, database: Database, tenant_id: UUID | None) -> None:
    """Notes the version of a tenant that was written before, where there are replicas."""
    if database.replicas is not None and tenant_id is not None:
        _note(await connection.fetch("SELECT tenant_id, version FROM tenant_versions WHERE tenant_id = $1", tenant_id))


def _note(rows: Iterable[Any]) -> None:
    if (use := database_use.get()) is not None:
        use.pending |= {row["tenant_id"]: row["version"] for row in rows}
