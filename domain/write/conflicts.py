"""expectedVersion: a row made from another version than the stored one is refused, and told what is stored if its caller may read that."""

from typing import Annotated, Any, NamedTuple
from uuid import UUID

from msgspec import Meta, structs

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.errors import Current
from domain.declare.scopes import Scope
from domain.store.database import Connection, transpose
from domain.write.batch import Batch

Version = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class ConflictingRow(NamedTuple):
    """A row by its index, whom it is about, the grade that is stored, and what else is stored."""

    at: int
    pupil_id: UUID
    scheme_version_no: int | None
    grade_no: int | None
    current: Current


_READABLE = f"""
SELECT c.n, g.code FROM unnest($2::uuid[], $3::smallint[], $4::smallint[]) WITH ORDINALITY AS c (pupil_id, scheme_version_no, grade_no, n)
JOIN pupils p ON p.tenant_id = $1 AND p.id = c.pupil_id
LEFT JOIN grades g ON g.tenant_id = $1 AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
WHERE {reaches_pupil_sql("$5", "p", "id", "$6")}
"""


async def reject_conflicts(
    connection: Connection, caller: Caller, scope: Scope, tenant_id: UUID, batch: Batch[Any, Any], conflicts: list[ConflictingRow]
) -> None:
    """Rejects these rows, with the current value where the caller holds `scope` at the pupil's school. One statement, or none."""
    readable: dict[int, str | None] = {}
    if conflicts and scope in caller.scopes:
        keys = transpose([conflict[1:4] for conflict in conflicts], 3)
        rows = await connection.fetch(_READABLE, tenant_id, *keys, caller.client_id, scope.value)
        readable = {row["n"] - 1: row["code"] for row in rows}
    for n, conflict in enumerate(conflicts):
        current = structs.replace(conflict.current, grade=readable[n]) if n in readable else None
        batch.reject(
            conflict.at, "expectedVersion", "version-conflict", "Another version than the one expected is stored.", current
        )
