"""Keeps cells, totals and school versions true to what they count, inside the transaction of the write.

A write first locks the version rows of every school it may touch, in id order. Judgements then add the difference that they make, which the database
reads off their history; a small change of the roll adds what the pupils contribute afterwards to what it took away before, and a large one
rebuilds the touched schools' cells. All bump the schools' versions.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

from domain.store.database import Connection

MAX_ADJUSTED_PUPILS = 100
"""Up to this many pupils the difference is applied; beyond it a rebuild is cheaper."""


class AggregateMaintenance:
    """The locks and counts of one transaction in one tenant."""

    def __init__(self, connection: Connection, tenant_id: UUID) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._held: list[UUID] = []
        self.version: int | None = None

    async def lock(self, school_ids: Collection[UUID], pupil_ids: Collection[UUID]) -> None:
        """Locks these schools and every school where these pupils are or were on roll."""
        self._held = (
            await self._connection.fetchval("SELECT lock_schools($1, $2, $3)", self._tenant_id, list(school_ids), list(pupil_ids))
            or []
        )

    @asynccontextmanager
    async def of_pupils(self, pupil_ids: Collection[UUID]) -> AsyncIterator[None]:
        """Around a write that changes what these pupils contribute to the windows that have opened."""
        windows = await self._connection.fetchval(
            "SELECT COALESCE(array_agg(no), '{}') FROM windows WHERE tenant_id = $1 AND state <> 'planned'", self._tenant_id
        )
        if len(pupil_ids) <= MAX_ADJUSTED_PUPILS:
            await self._adjust(pupil_ids, windows, -1)
            yield
            await self._adjust(pupil_ids, windows, 1)
        else:
            yield
            await self.rebuild(windows)
        await self.bump()

    async def of_judgements(self, pupil_ids: Collection[UUID], windows: Collection[int]) -> None:
        """After a write of judgements of these pupils in these windows, which put what it replaced into history."""
        await self._connection.execute(
            "SELECT adjust_cells($1, $2, $3), bump_versions($1, $4)", self._tenant_id, list(pupil_ids), list(windows), self._held
        )

    async def _adjust(self, pupil_ids: Collection[UUID], windows: Collection[int], sign: int) -> None:
        if windows:
            await self._connection.execute(
                "SELECT adjust_cells($1, $2, $3, $4)", self._tenant_id, list(pupil_ids), list(windows), sign
            )

    async def rebuild(self, windows: Collection[int]) -> None:
        """Counts the locked schools afresh for these windows."""
        if windows:
            await self._connection.execute("SELECT rebuild_cells($1, $2, $3)", self._tenant_id, self._held, list(windows))

    async def bump(self) -> None:
        self.version = await self._connection.fetchval("SELECT bump_versions($1, $2)", self._tenant_id, self._held)
