"""expectedVersion of a bulk command's rows: rejects a row whose stored version differs, with the stored value if the
caller may read it.
"""

from typing import Annotated, Any, NamedTuple
from uuid import UUID

from msgspec import Meta, UnsetType, structs

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.errors import Current
from domain.declare.inputs import describe
from domain.declare.scopes import Scope
from domain.store.database import Connection, transpose
from domain.write.batch import Batch

ExpectedVersion = Annotated[
    Annotated[int, Meta(ge=0, le=2**31 - 1)] | UnsetType,
    describe("The version that is stored, or 0 where nothing may be stored yet. Any other version is refused."),
]
"""The field of an entry."""


class ConflictingRow(NamedTuple):
    """A row, by its index, whose stored version differs from the expected one.

    `scheme_version_no` and `grade_no` are the stored grade.
    """

    at: int
    pupil_id: UUID
    scheme_version_no: int | None
    grade_no: int | None
    current: Current


_READABLE_GRADES = f"""
SELECT c.n, g.code FROM unnest($2::uuid[], $3::smallint[], $4::smallint[]) WITH ORDINALITY AS c (pupil_id, scheme_version_no, grade_no, n)
JOIN pupils p ON p.tenant_id = $1 AND p.id = c.pupil_id
LEFT JOIN grades g ON g.tenant_id = $1 AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
WHERE {reaches_pupil_sql("$5", "p", "id", "$6")}
"""


async def reject_conflicts(
    connection: Connection, caller: Caller, scope: Scope, tenant_id: UUID, batch: Batch[Any, Any], conflicts: list[ConflictingRow]
) -> None:
    """Rejects these rows, with the stored value where the caller has `scope` at the pupil's school."""
    grades: dict[int, str | None] = {}
    if conflicts and scope in caller.scopes:
        keys = transpose([conflict[1:4] for conflict in conflicts], 3)
        rows = await connection.fetch(_READABLE_GRADES, tenant_id, *keys, caller.client_id, scope.value)
        grades = {row["n"] - 1: row["code"] for row in rows}
    for n, conflict in enumerate(conflicts):
        current = structs.replace(conflict.current, grade=grades[n]) if n in grades else None
        batch.reject(conflict.at, "expectedVersion", "version-conflict", "The stored version is not the expected one.", current)
