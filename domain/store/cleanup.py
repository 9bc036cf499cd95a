"""Removes what has expired, in batches of a transaction each. A noun declares what of it expires; the catalogue lists them all.

Any number of processes may tidy at the same time: an advisory lock lets one batch at a time through, and who finds it taken leaves the rest
to the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from domain.store.database import Connection, Database

ROWS_PER_TRANSACTION = 5_000
"""Rows a transaction, so that none is long."""


@dataclass(frozen=True)
class Cleanup:
    """`kind` says what it is, in the plural; `remove` is a statement that removes at most $1 of them and answers how many it removed."""

    kind: str
    remove: str


def clean_up_rows(kind: str, table: str, when: str) -> Cleanup:
    """The rows of a table that the app's role may delete from, once `when` holds."""
    chosen = f"SELECT ctid FROM {table} WHERE {when} LIMIT $1"
    return Cleanup(
        kind, f"WITH removed AS (DELETE FROM {table} WHERE ctid = ANY (ARRAY({chosen})) RETURNING 1) SELECT count(*) FROM removed"
    )


async def clean_up(database: Database, expiring: Iterable[Cleanup]) -> dict[str, int]:
    """How many of each kind were removed."""
    return {each.kind: await _remove_all(database, each) for each in expiring}


async def _remove_all(database: Database, expiring: Cleanup) -> int:
    async def batch(connection: Connection) -> int:
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended('markonce tidy', 0))"):
            return 0
        return int(await connection.fetchval(expiring.remove, ROWS_PER_TRANSACTION))

    total = 0
    while removed := await database.run_transaction(None, batch):
        total += removed
    return total
