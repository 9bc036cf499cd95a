"""Who stays on roll though no row of a planned complete roll is recorded for them.

These are the pupils to whom the rows point that were rejected when the roll was sent, and those of later plans of the
school: a later plan sets the rows of an earlier one about its pupils aside, which are recorded if it is withdrawn or
refused. Where the later plan is of a later day, and the pupil is on roll on the earlier one by both, both are recorded.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.access.caller import Caller
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.declare.value_types import MAX_TEXT
from domain.roster.merged_pupils import find_replacements
from domain.roster.pupil_keys import find_indicated
from domain.roster.record_pupils.rejected_rows import RejectedRow, list_rejected_rows
from domain.roster.references import may_repeat
from domain.roster.retired import find_retired
from domain.roster.school_refs import SchoolInReach
from domain.store.database import Connection, transpose
from domain.support.slices import split_into_parts
from domain.write.batch import Batch


@dataclass(frozen=True)
class PlannedStay:
    """A row that was rejected when its roll was sent: the codes of its issues, and what may lead to its pupil."""

    issue_codes: list[str]
    pupil_id: UUID | None = None
    reference: str | None = None
    upns: tuple[str, ...] = ()


async def list_stays(
    connection: Connection,
    caller: Caller,
    batch: Batch[Any, Any],
    schools: dict[int, SchoolInReach],
    planned: Collection[SchoolInReach],
) -> dict[SchoolInReach, list[PlannedStay]]:
    """Returns the rejected rows of the batch, by the school whose roll is planned.

    What a row named its pupil by is kept for a complete roll alone, and nothing of a row with a retired identifier: on
    the day of the roll, every child with a new identity stays.
    """
    only_school = next(iter(planned)) if len(planned) == 1 else None
    codes: dict[int, set[str]] = {}
    for issue in batch.issues:
        codes.setdefault(batch.find_index(issue), set()).add(issue.code)
    rows = [(row, school) for row in list_rejected_rows(batch) if (school := schools.get(row.at, only_school)) in planned]
    texts = [(row.at, text) for row, school in rows if school for text in row.list_identifiers(caller.client_id, school.id)]
    tenant_id = next(iter(planned)).tenant_id if planned else None
    retired = await find_retired(connection, tenant_id, texts) if tenant_id is not None else set()
    stays: dict[SchoolInReach, list[PlannedStay]] = {}
    for row, school in rows:
        if school is not None:
            named = _name_pupil(row) if batch.head.complete and row.at not in retired else {}
            stays.setdefault(school, []).append(PlannedStay(sorted(codes.get(row.at, ())), **named))
    return stays


def _name_pupil(row: RejectedRow) -> dict[str, Any]:
    reference = row.reference if row.reference and len(row.reference) <= MAX_TEXT and may_repeat(row.reference) else None
    pupil_id = None if row.id is None else parse_id(row.id)
    return {"pupil_id": pupil_id, "reference": reference, "upns": tuple(row.upns)}


_INSERT = """
INSERT INTO planned_stays (tenant_id, planned_roll_id, school_id, n, is_rejected, issue_codes, pupil_id, reference, upns)
SELECT $1, $2, $3, g.n, true, string_to_array(g.codes, ' '), g.pupil_id, g.reference, string_to_array(g.upns, ' ')
FROM unnest($4::integer[], $5::text[], $6::uuid[], $7::text[], $8::text[]) AS g (n, codes, pupil_id, reference, upns)
"""


async def store_stays(
    connection: Connection, tenant_id: UUID, roll_id: UUID, school_id: UUID, stays: Iterable[PlannedStay]
) -> None:
    """Stores the rejected rows of a planned roll."""
    rows = [(n, " ".join(stay.issue_codes), stay.pupil_id, stay.reference, " ".join(stay.upns)) for n, stay in enumerate(stays)]
    for part in split_into_parts(rows):
        await connection.execute(_INSERT, tenant_id, roll_id, school_id, *transpose(part, 5))


_SET_ASIDE = """
WITH own AS MATERIALIZED (SELECT x.* FROM planned_pupils x WHERE x.tenant_id = $1 AND x.planned_roll_id = $2),
later AS (SELECT * FROM planned_rolls WHERE tenant_id = $1 AND id = $2),
others AS MATERIALIZED (
    SELECT x.*, p.as_of, p.client_id = later.client_id AS is_of_client, later.as_of > p.as_of AS is_earlier
    FROM later JOIN planned_rolls p ON p.tenant_id = $1 AND p.school_id = later.school_id AND p.academic_year = later.academic_year
        AND p.state = 'planned' AND p.replaced_by IS NULL AND p.id <> $2
    JOIN planned_pupils x ON x.tenant_id = $1 AND x.planned_roll_id = p.id
), pairs AS (
    SELECT o.planned_roll_id, o.n, own.n AS own_n FROM others o JOIN own ON own.pupil_id = o.pupil_id
    UNION SELECT o.planned_roll_id, o.n, own.n FROM others o JOIN own ON own.reference = o.reference WHERE o.is_of_client
    UNION SELECT o.planned_roll_id, o.n, own.n FROM (SELECT planned_roll_id, n, unnest(upns) AS upn FROM others) o
        JOIN (SELECT n, unnest(upns) AS upn FROM own) own ON own.upn = o.upn
), said_otherwise AS (
    SELECT DISTINCT o.planned_roll_id, o.n FROM pairs JOIN others o ON o.planned_roll_id = pairs.planned_roll_id AND o.n = pairs.n
    JOIN own ON own.n = pairs.own_n
    CROSS JOIN LATERAL (
        SELECT cardinality(o.upns) > 0 AND cardinality(own.upns) > 0 AND NOT o.upns && own.upns AS upn,
            o.entry->>'dateOfBirth' <> own.entry->>'dateOfBirth' AS birthday, lower(o.entry->>'forename') <> lower(own.entry->>'forename') AS forename,
            lower(o.entry->>'surname') <> lower(own.entry->>'surname') AS surname
    ) differs
    WHERE NOT o.is_earlier
        OR (own.entry ? 'enrolments' AND NOT EXISTS (
            SELECT 1 FROM jsonb_array_elements(own.entry->'enrolments') AS s (said)
            WHERE (said->>'from')::date <= o.as_of AND COALESCE((said->>'to')::date >= o.as_of, true)
        ))
        OR differs.upn::integer + differs.birthday::integer + differs.forename::integer > 1 OR (differs.upn AND differs.surname)
)
UPDATE planned_pupils x SET replaced_by = array_append(x.replaced_by, $2::uuid) FROM said_otherwise s
WHERE x.tenant_id = $1 AND x.planned_roll_id = s.planned_roll_id AND x.n = s.n
"""
_REPLACE_EMPTY = """
UPDATE planned_rolls p SET replaced_by = later.id FROM planned_rolls later
WHERE later.tenant_id = $1 AND later.id = $2 AND p.tenant_id = $1 AND p.id <> $2 AND p.school_id = later.school_id
    AND p.academic_year = later.academic_year AND p.state = 'planned' AND p.replaced_by IS NULL
    AND p.client_id = later.client_id AND NOT p.complete AND NOT EXISTS (
        SELECT 1 FROM planned_pupils x WHERE x.tenant_id = $1 AND x.planned_roll_id = p.id AND NOT $2 = ANY (x.replaced_by)
    )
"""


async def set_rows_aside(connection: Connection, tenant_id: UUID, roll_id: UUID) -> None:
    """Sets the rows of earlier plans aside that this planned roll says instead. A roll of the same client that is not
    complete is replaced where none of its rows is left.

    Rows of an earlier day stay where the pupil is on roll on that day by both rolls, unless so many facts differ that
    the later row would be refused as another child's once the earlier one is recorded.
    """
    await connection.execute(_SET_ASIDE, tenant_id, roll_id)
    await connection.execute(_REPLACE_EMPTY, tenant_id, roll_id)


_FORGET = """
DELETE FROM planned_rolls p USING planned_rolls before
WHERE p.tenant_id = $1 AND p.school_id = $2 AND p.academic_year = $3 AND p.state = 'planned' AND before.tenant_id = $1
    AND before.id = p.replaced_by AND before.complete
"""
_REPLACE = """
WITH replaced AS (
    UPDATE planned_rolls p SET replaced_by = $4
    WHERE p.tenant_id = $1 AND p.school_id = $2 AND p.academic_year = $3 AND p.state = 'planned' AND p.replaced_by IS NULL
    RETURNING p.id
)
UPDATE planned_pupils x SET replaced_by = array_append(x.replaced_by, $4::uuid) FROM replaced
WHERE x.tenant_id = $1 AND x.planned_roll_id = replaced.id
"""


async def replace_rolls(connection: Connection, tenant_id: UUID, school_id: UUID, academic_year: int, roll_id: UUID) -> None:
    """Sets the planned rolls of a school and year aside for a complete one, which says all of their rows instead.

    What an earlier complete roll had replaced is deleted: a withdrawal goes back to the last complete roll, and systems
    send one each night.
    """
    await connection.execute(_FORGET, tenant_id, school_id, academic_year)
    await connection.execute(_REPLACE, tenant_id, school_id, academic_year, roll_id)


_GIVE_BACK = """
UPDATE planned_pupils x SET replaced_by = array_remove(x.replaced_by, $2::uuid) WHERE x.tenant_id = $1 AND $2 = ANY (x.replaced_by)
RETURNING x.replaced_by = '{}' AS stands
"""
_GIVE_ROLLS_BACK = """
UPDATE planned_rolls SET replaced_by = NULL
WHERE tenant_id = $1 AND replaced_by = $2 AND ($3 OR NOT (SELECT complete FROM planned_rolls WHERE tenant_id = $1 AND id = $2))
"""


async def give_rows_back(connection: Connection, tenant_id: UUID, roll_id: UUID, *, with_rolls: bool = False) -> int:
    """Takes up again what was set aside for a roll, which is withdrawn or refused; returns how many rows stand again.

    The rolls that a complete one replaced stand again only `with_rolls`: where it was refused, children whom it had and
    they lack would leave.
    """
    await connection.execute(_GIVE_ROLLS_BACK, tenant_id, roll_id, with_rolls)
    return sum(row["stands"] for row in await connection.fetch(_GIVE_BACK, tenant_id, roll_id))


_KEEP = """
INSERT INTO planned_stays (tenant_id, planned_roll_id, school_id, n, is_rejected, pupil_id)
SELECT $1, p.id, p.school_id, row_number() OVER (PARTITION BY p.id ORDER BY g.id) + COALESCE(
    (SELECT max(x.n) FROM planned_stays x WHERE x.tenant_id = $1 AND x.planned_roll_id = p.id), -1), false, g.id
FROM planned_rolls d JOIN planned_rolls p ON p.tenant_id = $1 AND p.school_id = d.school_id AND p.academic_year = d.academic_year
    AND p.state = 'planned' AND p.replaced_by IS NULL AND p.complete AND p.id <> d.id AND p.received_at < d.received_at
CROSS JOIN unnest($3::uuid[]) AS g (id)
WHERE d.tenant_id = $1 AND d.id = $2
"""


async def keep_pupils(connection: Connection, tenant_id: UUID, roll_id: UUID, pupil_ids: Collection[UUID]) -> None:
    """Lets the pupils of a roll that is recorded now stay in a complete one of the school that was planned before and is of
    a later day.
    """
    await connection.execute(_KEEP, tenant_id, roll_id, list(pupil_ids))


_STAYS = """
SELECT d.client_id, d.school_id, x.pupil_id, x.reference, x.upns FROM planned_rolls d
JOIN planned_stays x ON x.tenant_id = $1 AND x.planned_roll_id = d.id WHERE d.tenant_id = $1 AND d.id = $2
UNION ALL
SELECT p.client_id, p.school_id, x.pupil_id, x.reference, x.upns FROM planned_rolls d
JOIN planned_rolls p ON p.tenant_id = $1 AND p.school_id = d.school_id AND p.academic_year = d.academic_year
    AND p.state = 'planned' AND p.replaced_by IS NULL
JOIN planned_pupils x ON x.tenant_id = $1 AND x.planned_roll_id = p.id AND (p.id <> d.id OR x.replaced_by <> '{}')
WHERE d.tenant_id = $1 AND d.id = $2 AND d.complete
"""


async def find_stays(connection: Connection, caller: Caller, tenant_id: UUID, roll_id: UUID) -> set[UUID]:
    """Returns the pupils who stay on roll on the day of a planned roll though no good row of it is theirs: those of its
    rejected rows, and those whom later plans are about. At most two statements for each client that planned, and two.
    """
    rows = await connection.fetch(_STAYS, tenant_id, roll_id)
    stays = {row["pupil_id"] for row in rows if row["pupil_id"] is not None}
    for client_id in {row["client_id"] for row in rows}:
        own = [row for row in rows if row["client_id"] == client_id]
        keys = [(row["school_id"], None, row["reference"], None) for row in own if row["reference"] is not None]
        keys += [(row["school_id"], None, None, upn) for row in own for upn in row["upns"]]
        sender = Caller(client_id, caller.scopes)
        stays = stays.union(*await find_indicated(connection, sender, tenant_id, keys, Scope.PUPILS_WRITE))
    return stays | {*(await find_replacements(connection, caller, list(stays), Scope.PUPILS_WRITE)).values()}


_REJECTED = """
SELECT count(*)::integer AS n, ARRAY(
    SELECT DISTINCT code FROM planned_stays y CROSS JOIN unnest(y.issue_codes) AS code WHERE y.tenant_id = $1 AND y.planned_roll_id = $2
) AS codes FROM planned_stays x WHERE x.tenant_id = $1 AND x.planned_roll_id = $2 AND x.is_rejected
"""


async def count_rejected(connection: Connection, tenant_id: UUID, roll_id: UUID) -> tuple[int, set[str]]:
    """Returns how many rows were rejected when the roll was sent, and the codes of their issues."""
    (row,) = await connection.fetch(_REJECTED, tenant_id, roll_id)
    return row["n"], {*row["codes"]}


_DELETE_REPLACED = """
WITH RECURSIVE replaced AS (
    SELECT id FROM planned_rolls WHERE tenant_id = $1 AND replaced_by = $2
    UNION SELECT p.id FROM planned_rolls p JOIN replaced ON p.tenant_id = $1 AND p.replaced_by = replaced.id
)
DELETE FROM planned_rolls p USING replaced WHERE p.tenant_id = $1 AND p.id = replaced.id
"""
_DELETE_STAYS = "DELETE FROM planned_stays WHERE tenant_id = $1 AND planned_roll_id = $2"
_DELETE_ROWS = """
DELETE FROM planned_pupils x USING planned_rolls d, planned_rolls p
WHERE d.tenant_id = $1 AND d.id = $2 AND p.tenant_id = $1 AND p.school_id = d.school_id AND p.state <> 'planned' AND x.tenant_id = $1
    AND x.planned_roll_id = p.id AND (p.state = 'refused' OR NOT EXISTS (
        SELECT 1 FROM planned_rolls q WHERE q.tenant_id = $1 AND q.id = ANY (x.replaced_by) AND q.state = 'planned'
    ))
"""


async def delete_rows(connection: Connection, tenant_id: UUID, roll_id: UUID) -> None:
    """Deletes the rows of a roll that was recorded or refused, and what it had replaced.

    A row that was set aside for a roll which is still planned stays, since that roll may be withdrawn.
    """
    await connection.execute(_DELETE_REPLACED, tenant_id, roll_id)
    await connection.execute(_DELETE_STAYS, tenant_id, roll_id)
    await connection.execute(_DELETE_ROWS, tenant_id, roll_id)
