"""Deletes expired rows, in batches of one transaction each. Each noun declares its Cleanups; domain/__init__.py lists
them.

Several processes may run it at the same time: a batch takes an advisory lock, and a process that finds it taken stops
and leaves the rest to the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from domain.store.database import Connection, Database

ROWS_PER_TRANSACTION = 5_000
"""Rows that one transaction deletes, so that it is short."""


@dataclass(frozen=True)
class Cleanup:
    """A kind of expired rows. `remove` is a statement that deletes at most $1 of them and returns how many it deleted."""

    kind: str
    remove: str


def clean_up_rows(kind: str, table: str, when: str) -> Cleanup:
    """Returns the cleanup of the rows of a table that meet the SQL condition `when`."""
    expired = f"SELECT ctid FROM {table} WHERE {when} LIMIT $1"
    return Cleanup(
        kind, f"WITH removed AS (DELETE FROM {table} WHERE ctid = ANY (ARRAY({expired})) RETURNING 1) SELECT count(*) FROM removed"
    )


async def clean_up(database: Database, cleanups: Iterable[Cleanup]) -> dict[str, int]:
    """Deletes the expired rows. Returns how many of each kind."""
    return {cleanup.kind: await _remove_all(database, cleanup) for cleanup in cleanups}


async def _remove_all(database: Database, cleanup: Cleanup) -> int:
    async def remove_batch(connection: Connection) -> int:
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended('markonce tidy', 0))"):
            return 0
        return int(await connection.fetchval(cleanup.remove, ROWS_PER_TRANSACTION))

    total = 0
    while removed := await database.run_transaction(None, remove_batch):
        total += removed
    return total
