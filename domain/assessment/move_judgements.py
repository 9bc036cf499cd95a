"""Moves the judgements and targets of one record of a pupil to another, with their history.

Where both records have a value for the same natural key, the one with the later recordedAt stands, and the other
becomes history. A chain of versions is never torn: the versions of the record that goes come after those of the one
that remains.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.assessment.judgements import judgements
from domain.assessment.targets import targets
from domain.store.database import Connection, transpose

_JUDGEMENT = ", ".join((*judgements.columns.keys(), "xid"))
_TARGET = ", ".join((*targets.columns.keys(), "xid"))
_KEY = "academic_year, window_no, subject_no, aspect_no"
_SAME_KEY = (
    "b.academic_year = a.academic_year AND b.window_no = a.window_no AND b.subject_no = a.subject_no AND b.aspect_no = a.aspect_no"
)
_SAME_TARGET = (
    "b.subject_no = a.subject_no AND b.aspect_no = a.aspect_no AND b.horizon_year = a.horizon_year"
    " AND b.horizon_point = a.horizon_point AND b.basis = a.basis"
)

_READ_JUDGEMENTS = f"""
SELECT {", ".join(f"a.{name}" for name in _KEY.split(", "))}, a.version, b.version AS into_version, b.recorded_at >= a.recorded_at AS into_stands,
    (a.scheme_version_no, a.grade_no, a.mark, a.status_code) IS DISTINCT FROM (b.scheme_version_no, b.grade_no, b.mark, b.status_code) AS differs,
    w.code AS window, w.state, s.code AS subject, x.code AS aspect
FROM judgements a
LEFT JOIN judgements b ON b.tenant_id = a.tenant_id AND b.pupil_id = $3 AND {_SAME_KEY}
JOIN windows w ON w.tenant_id = a.tenant_id AND w.no = a.window_no
JOIN subjects s ON s.tenant_id = a.tenant_id AND s.no = a.subject_no
JOIN aspects x ON x.tenant_id = a.tenant_id AND x.no = a.aspect_no
WHERE a.tenant_id = $1 AND a.pupil_id = $2 ORDER BY {", ".join(f"a.{name}" for name in _KEY.split(", "))}
"""
_READ_TARGETS = f"""
SELECT a.id, b.id AS into_id, b.recorded_at >= a.recorded_at AS into_stands, s.code AS subject, x.code AS aspect,
    (a.scheme_version_no, a.grade_no) IS DISTINCT FROM (b.scheme_version_no, b.grade_no) AS differs
FROM targets a
LEFT JOIN targets b ON b.tenant_id = a.tenant_id AND b.pupil_id = $3 AND {_SAME_TARGET}
JOIN subjects s ON s.tenant_id = a.tenant_id AND s.no = a.subject_no
JOIN aspects x ON x.tenant_id = a.tenant_id AND x.no = a.aspect_no
WHERE a.tenant_id = $1 AND a.pupil_id = $2 ORDER BY a.id
"""


@dataclass
class MovingValues:
    """The judgements and targets of the record that goes. Where both records have one, `into_version` or `into_id` is
    that of the record that remains.
    """

    judgements: list[Any]
    targets: list[Any]

    def list_replaced_targets(self) -> list[UUID]:
        """Returns the ids of the targets that do not stand."""
        return [row["id"] if row["into_stands"] else row["into_id"] for row in self.targets if row["into_id"] is not None]


async def read_moving_values(connection: Connection, tenant_id: UUID, from_id: UUID, into_id: UUID) -> MovingValues:
    """Returns the values of `from_id`, each with that of `into_id` for the same key."""
    arguments = (tenant_id, from_id, into_id)
    return MovingValues(await connection.fetch(_READ_JUDGEMENTS, *arguments), await connection.fetch(_READ_TARGETS, *arguments))


_MOVE_HISTORY = f"""
UPDATE judgement_history a SET pupil_id = $3, version = a.version + COALESCE(
    (SELECT b.version FROM judgements b WHERE b.tenant_id = $1 AND b.pupil_id = $3 AND {_SAME_KEY}), 0)
WHERE a.tenant_id = $1 AND a.pupil_id = $2
"""
_GIVEN = "unnest($4::smallint[], $5::smallint[], $6::smallint[], $7::smallint[], $8::integer[]) AS b (academic_year, window_no, subject_no, aspect_no, version)"
_TO_HISTORY = f"""
INSERT INTO judgement_history ({_JUDGEMENT}, until)
SELECT {", ".join({"pupil_id": "$3", "version": "b.version"}.get(name, f"a.{name}") for name in _JUDGEMENT.split(", "))},
    GREATEST(clock_timestamp(), a.received_at)
FROM judgements a JOIN {_GIVEN} ON {_SAME_KEY} WHERE a.tenant_id = $1 AND a.pupil_id = $2
"""
_DELETE = (
    f"DELETE FROM judgements a USING {_GIVEN} WHERE a.tenant_id = $1 AND a.pupil_id = $2 AND $3::uuid IS NOT NULL AND {_SAME_KEY}"
)
_STAND = f"""
UPDATE judgements a SET pupil_id = $3, version = b.version, xid = pg_current_xact_id(),
    changed_at = GREATEST(a.changed_at, clock_timestamp())
FROM {_GIVEN} WHERE a.tenant_id = $1 AND a.pupil_id = $2 AND {_SAME_KEY}
"""


async def move_judgements(connection: Connection, tenant_id: UUID, from_id: UUID, into_id: UUID, values: MovingValues) -> None:
    """Moves the judgements, and the history of both. Seven statements at most."""
    keys = _KEY.split(", ")
    both = [row for row in values.judgements if row["into_version"] is not None]
    lost = [row for row in both if row["into_stands"]]
    won = [row for row in both if not row["into_stands"]]
    alone = [row for row in values.judgements if row["into_version"] is None]

    async def run(statement: str, of_pupil: UUID, to_pupil: UUID, rows: list[Any], versions: list[int]) -> None:
        if rows:
            columns = transpose([tuple(row[key] for key in keys) for row in rows], 4)
            await connection.execute(statement, tenant_id, of_pupil, to_pupil, *columns, versions)

    await connection.execute(_MOVE_HISTORY, tenant_id, from_id, into_id)
    sums = [row["version"] + row["into_version"] for row in lost]
    await run(_TO_HISTORY, from_id, into_id, lost, sums)
    await run(_DELETE, from_id, into_id, lost, sums)
    await run(_STAND, into_id, into_id, lost, [version + 1 for version in sums])
    await run(_TO_HISTORY, into_id, into_id, won, [row["into_version"] for row in won])
    await run(_DELETE, into_id, into_id, won, [0] * len(won))
    moved = [*won, *alone]
    await run(_STAND, from_id, into_id, moved, [row["version"] + (row["into_version"] or 0) for row in moved])


_TARGETS_TO_HISTORY = f"""
INSERT INTO target_history ({_TARGET}, until)
SELECT {_TARGET}, GREATEST(clock_timestamp(), received_at) FROM targets WHERE tenant_id = $1 AND id = ANY ($2)
"""


async def move_targets(connection: Connection, tenant_id: UUID, values: MovingValues) -> None:
    """Puts the targets that do not stand into history. The others follow their pupil."""
    if lost := values.list_replaced_targets():
        await connection.execute(_TARGETS_TO_HISTORY, tenant_id, lost)
        await connection.execute("DELETE FROM targets WHERE tenant_id = $1 AND id = ANY ($2)", tenant_id, lost)
