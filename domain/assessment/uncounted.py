"""Warns of judgements that are accepted and do not count: their pupil is not of the window's census.

Who counts is on roll as a main registration on the census day, in one of the window's year groups (the census view).
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from domain.store.database import Connection

NOT_COUNTED = "not-counted"
"""The code of the warning."""
PupilInWindow = tuple[UUID, int]
"""A pupil's id and a window's number."""

_WHY = """
SELECT g.pupil_id, g.window_no, w.census_on, EXISTS (
    SELECT 1 FROM enrolments e WHERE e.tenant_id = $1 AND e.pupil_id = g.pupil_id AND e.status NOT IN ('S', 'G')
        AND e.from_on <= w.census_on AND COALESCE(e.to_on, 'infinity') >= w.census_on
) AS on_roll
FROM unnest($2::uuid[], $3::smallint[]) AS g (pupil_id, window_no)
JOIN windows w ON w.tenant_id = $1 AND w.no = g.window_no
WHERE NOT EXISTS (SELECT 1 FROM census c WHERE c.tenant_id = $1 AND c.pupil_id = g.pupil_id AND c.window_no = g.window_no)
"""


class Warner(Protocol):
    """What takes warnings about rows: a batch."""

    def warn(self, index: int, field_path: str, code: str, message: str) -> None: ...


async def warn_of_uncounted(
    connection: Connection,
    tenant_id: UUID,
    warner: Warner,
    rows: Sequence[tuple[int, PupilInWindow]],
    uncounted: set[PupilInWindow],
) -> int:
    """Warns of each row whose pupil counts in none of its window's cells, and says why; returns how many there are.

    `rows` are the indexes of judgements that were written, with their pupil and window. `uncounted` are the pupils to
    whom nothing of the window is attributed, of whom those of the census count where the window collects.
    """
    affected = [(index, pair) for index, pair in rows if pair in uncounted]
    if not affected:
        return 0
    pupil_ids, window_nos = zip(*{pair for _, pair in affected}, strict=True)
    found = await connection.fetch(_WHY, tenant_id, pupil_ids, window_nos)
    reasons = {
        (row["pupil_id"], row["window_no"]): "the pupil's year group on the census day is not one of the window's"
        if row["on_roll"]
        else f"the pupil was not on roll on the census day, {row['census_on']}"
        for row in found
    }
    not_counted = [(index, reasons[pair]) for index, pair in affected if pair in reasons]
    for index, reason in not_counted:
        warner.warn(index, "", NOT_COUNTED, f"Accepted and not counted: {reason}.")
    return len(not_counted)
