"""The discounts of two records of a pupil that become one, and of one record that becomes two.

A pupil has one discount in force in a window. Where both records of a merge have one, that of the record that goes is
withdrawn, and stands again where the merge is undone.
"""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from domain.assessment.stored_merges import StoredMerge
from domain.store.database import Connection

_READ = """
SELECT a.id, a.withdrawn_at IS NULL AND b.id IS NOT NULL AS is_doubled, w.code AS window FROM discounts a
JOIN windows w ON w.tenant_id = a.tenant_id AND w.no = a.window_no
LEFT JOIN discounts b ON b.tenant_id = a.tenant_id AND b.pupil_id = $3 AND b.window_no = a.window_no AND b.withdrawn_at IS NULL
WHERE a.tenant_id = $1 AND a.pupil_id = $2 ORDER BY a.id
"""
_WITHDRAW = """
UPDATE discounts SET withdrawn_at = clock_timestamp(), withdrawn_by = $3, withdrawn_at_school_id = school_id, version = version + 1
WHERE tenant_id = $1 AND id = ANY ($2)
"""
WITHDRAWN_BY = "merge of two records"
_MOVE = "UPDATE discounts SET pupil_id = $3 WHERE tenant_id = $1 AND pupil_id = $2 AND window_no = ANY ($4)"
_MOVE_OF_MERGE = f"{_MOVE} AND (id = ANY ($5) OR created_at >= $6)"
_RESTORE = """
UPDATE discounts SET withdrawn_at = NULL, withdrawn_by = NULL, withdrawn_at_school_id = NULL, version = version + 1
WHERE tenant_id = $1 AND pupil_id = $2 AND id = ANY ($3) AND withdrawn_by = $4
"""


async def read_moving_discounts(connection: Connection, tenant_id: UUID, from_id: UUID, into_id: UUID) -> list[Any]:
    """Returns the discounts of `from_id`: their ids and windows' codes; `is_doubled` where `into_id` has one in force too."""
    return list(await connection.fetch(_READ, tenant_id, from_id, into_id))


async def withdraw_doubled(connection: Connection, tenant_id: UUID, discounts: Collection[Any]) -> None:
    """Withdraws the discounts that the remaining record has too. The others follow their pupil."""
    if doubled := [row["id"] for row in discounts if row["is_doubled"]]:
        await connection.execute(_WITHDRAW, tenant_id, doubled, WITHDRAWN_BY)


async def split_discounts(
    connection: Connection,
    tenant_id: UUID,
    pupil_id: UUID,
    new_id: UUID,
    window_numbers: Collection[int],
    merge: StoredMerge | None,
) -> None:
    """Gives the new record the discounts of these windows. Where a merge is undone, the discounts that the record itself
    had before stay with it.
    """
    arguments = (tenant_id, pupil_id, new_id, list(window_numbers))
    if merge is None:
        await connection.execute(_MOVE, *arguments)
        return
    await connection.execute(_MOVE_OF_MERGE, *arguments, merge.list_discounts("discounts"), merge.merged_at)
    await connection.execute(_RESTORE, tenant_id, new_id, merge.list_discounts("withdrawnDiscounts"), WITHDRAWN_BY)
