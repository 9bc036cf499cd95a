"""Keeps the aggregates (cells and totals) up to date within the transaction of a write, and increments the schools'
data versions.

Judgements add their difference, which the database reads from their history. A small change of the roll subtracts what
its pupils contributed before and adds what they contribute afterwards. A large change counts the locked schools' cells
again.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

from domain.write.locks import SchoolLocks

MAX_ADJUSTED_PUPILS = 100
"""Pupils up to which the difference is applied. Beyond it a rebuild is cheaper."""


@asynccontextmanager
async def adjust_for_pupils(locks: SchoolLocks, pupil_ids: Collection[UUID]) -> AsyncIterator[None]:
    """Surrounds a write that changes what these pupils contribute to windows, planned ones included: these open by
    themselves.
    """
    windows = await locks.connection.fetchval(
        "SELECT COALESCE(array_agg(no), '{}') FROM windows WHERE tenant_id = $1", locks.tenant_id
    )
    if len(pupil_ids) <= MAX_ADJUSTED_PUPILS:
        await _adjust(locks, pupil_ids, windows, -1)
        yield
        await _adjust(locks, pupil_ids, windows, 1)
    else:
        yield
        await rebuild(locks, windows)
    await locks.increment_versions()


async def adjust_for_judgements(locks: SchoolLocks, pupil_ids: Collection[UUID], windows: Collection[int]) -> set[tuple[UUID, int]]:
    """Follows a write of judgements of these pupils in these windows, which has put the replaced judgements into their
    history. Returns the pupils who count in none of a window's cells, with the window's number.
    """
    locks.has_incremented = True
    rows = await locks.connection.fetch(_COUNT, locks.tenant_id, list(pupil_ids), list(windows), locks.school_ids)
    return {(row["pupil_id"], row["window_no"]) for row in rows if row["pupil_id"] is not None}


_COUNT = "SELECT c.pupil_id, c.window_no FROM bump_versions($1, $4) LEFT JOIN count_contributions($1, $2, $3) c ON true"


@asynccontextmanager
async def adjust_for_discount(locks: SchoolLocks, pupil_id: UUID, window_no: int) -> AsyncIterator[None]:
    """Surrounds a write that changes whether a pupil is discounted in a window."""
    await _adjust(locks, [pupil_id], [window_no], -1)
    yield
    await _adjust(locks, [pupil_id], [window_no], 1)


async def rebuild(locks: SchoolLocks, windows: Collection[int]) -> None:
    """Counts the cells of the locked schools again, for these windows."""
    if windows:
        await locks.connection.execute("SELECT rebuild_cells($1, $2, $3)", locks.tenant_id, locks.school_ids, list(windows))


async def _adjust(locks: SchoolLocks, pupil_ids: Collection[UUID], windows: Collection[int], sign: int) -> None:
    if windows:
        await locks.connection.execute("SELECT adjust_cells($1, $2, $3, $4)", locks.tenant_id, list(pupil_ids), list(windows), sign)
