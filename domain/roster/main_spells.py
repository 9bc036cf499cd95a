"""Fills the last spell at the main school of pupils whose row has none yet.

`migrate` runs it (migrations/after.py); from then on triggers keep it (migration 0054). Run again, it changes nothing.
"""

from collections.abc import Callable
from uuid import UUID

from domain.store.database import Connection

ROWS = 2_000
"""Pupils of one batch, which is a transaction, so that a run that was cut short goes on where it was."""
_FIRST = UUID(int=0)
_FIND = """
SELECT tenant_id, id FROM pupils p WHERE (tenant_id, id) > ($1, $2) AND main_spell IS NULL AND EXISTS (
    SELECT 1 FROM enrolments e WHERE e.tenant_id = p.tenant_id AND e.pupil_id = p.id AND e.school_id = p.school_id
) ORDER BY tenant_id, id LIMIT $3
"""


async def fill_main_spells(connection: Connection, report: Callable[[str], None]) -> None:
    """Fills them and reports of how many pupils. The connection is the owner's."""
    total, position = 0, (_FIRST, _FIRST)
    while rows := await connection.fetch(_FIND, *position, ROWS):
        position = rows[-1]["tenant_id"], rows[-1]["id"]
        by_tenant: dict[UUID, list[UUID]] = {}
        for row in rows:
            by_tenant.setdefault(row["tenant_id"], []).append(row["id"])
        async with connection.transaction():
            for tenant_id, pupil_ids in by_tenant.items():
                await connection.execute("SELECT keep_main_spells($1, $2)", tenant_id, pupil_ids)
        total += len(rows)
    if total:
        report(f"Noted the spells at the main school of {total:,} {'pupil' if total == 1 else 'pupils'}.")
