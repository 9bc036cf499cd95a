"""Finds the windows that are about the same pupils: editions of two of them would tell by their difference who changed."""

from uuid import UUID

from domain.store.database import Connection

_SAME_PUPILS = """
SELECT o.code FROM windows w JOIN windows o ON o.tenant_id = w.tenant_id AND o.no <> w.no AND o.census_on = w.census_on
WHERE w.tenant_id = $1 AND w.no = $2 AND o.year_groups && w.year_groups
    AND EXISTS (SELECT 1 FROM publications p WHERE p.tenant_id = o.tenant_id AND p.window_no = o.no
        AND (p.published_at IS NOT NULL OR p.state = ANY ($3)))
    AND EXISTS (
        SELECT 1 FROM pins a JOIN pins b ON b.tenant_id = a.tenant_id AND b.school_id = a.school_id AND b.window_no = o.no
        WHERE a.tenant_id = w.tenant_id AND a.window_no = w.no
    )
ORDER BY o.code LIMIT 1
"""


async def find_same_pupils(connection: Connection, tenant_id: UUID, no: int, *states: str) -> str | None:
    """Returns the code of another window about the same pupils that has an edition, or a publication in one of the states."""
    code: str | None = await connection.fetchval(_SAME_PUPILS, tenant_id, no, list(states))
    return code
