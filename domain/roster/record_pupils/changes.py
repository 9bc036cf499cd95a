"""What is stored of pupils, what a roll changes, and the set-based statements that write it."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql, reaches_sql
from domain.roster.characteristics import YEAR_GROUP
from domain.store.database import Connection, transpose
from domain.support.slices import iterate_in_slices, split_into_parts


@dataclass
class PupilFacts:
    """A pupil's attributes as stored, or as they are to be."""

    school_id: UUID
    upn: str | None
    surname: str
    forename: str
    date_of_birth: date
    sex: str
    year_group: str


@dataclass
class StoredPupils:
    """What is stored of the matched pupils."""

    facts: dict[UUID, PupilFacts] = field(default_factory=dict)
    versions: dict[UUID, int] = field(default_factory=dict)
    upns: dict[UUID, dict[str, bool]] = field(default_factory=dict)
    references: set[tuple[UUID, str]] = field(default_factory=set)
    spells: dict[tuple[UUID, UUID, date], tuple[str, date | None, str | None]] = field(default_factory=dict)
    open: dict[UUID, list[tuple[UUID, date, str]]] = field(default_factory=dict)
    dated: dict[tuple[UUID, str, date], tuple[str, date | None]] = field(default_factory=dict)
    years: dict[UUID, date] = field(default_factory=dict)


@dataclass
class PupilChanges:
    """Rows to write, by table; whom the batch has already moved to their row's school, shared with it or shared no longer.

    `closed` are spells (pupil, school, first day) that end on the day before another day, not before they began, and why.
    """

    new: dict[UUID, PupilFacts] = field(default_factory=dict)
    changed: dict[UUID, PupilFacts] = field(default_factory=dict)
    touched: set[UUID] = field(default_factory=set)
    moved: set[UUID] = field(default_factory=set)
    shared: set[tuple[UUID, UUID]] = field(default_factory=set)
    upns: list[tuple[str, UUID, UUID, bool]] = field(default_factory=list)
    renewed: list[tuple[str, bool]] = field(default_factory=list)
    references: list[tuple[UUID, str, UUID]] = field(default_factory=list)
    spells: list[tuple[UUID, UUID, UUID, str, date, date | None, str | None]] = field(default_factory=list)
    closed: list[tuple[UUID, UUID, date, date, str | None]] = field(default_factory=list)
    unshared: list[tuple[UUID, UUID]] = field(default_factory=list)
    dated: list[tuple[UUID, str, date, UUID, date | None, str]] = field(default_factory=list)

    def size(self) -> int:
        """How many rows are to be written."""
        tables = (self.new, self.changed, self.upns, self.renewed, self.references, self.spells, self.closed, self.dated)
        return sum(len(table) for table in tables)


_OF_PUPIL, _OF_SCHOOL = reaches_pupil_sql("$3", "x"), reaches_sql("$3", "x.tenant_id", "x.school_id")
_UPNS_KNOWN = f"SELECT x.upn, x.pupil_id, x.current FROM upns x WHERE x.tenant_id = $1 AND x.pupil_id = ANY ($2) AND {_OF_PUPIL}"
_REFERENCES_KNOWN = f"""
SELECT x.school_id, x.value FROM external_ids x
WHERE x.tenant_id = $1 AND x.id = ANY ($2) AND x.source = $3 AND x.kind = 'pupil' AND {_OF_SCHOOL}
"""
_ENROLMENTS = f"""
SELECT x.pupil_id, x.school_id, x.from_on, x.to_on, x.status, x.leaving_reason FROM enrolments x
WHERE x.tenant_id = $1 AND x.pupil_id = ANY ($2) AND {_OF_SCHOOL}
"""
_CHARACTERISTICS = f"""
SELECT x.pupil_id, x.kind, x.from_on, x.to_on, x.value FROM characteristics x
WHERE x.tenant_id = $1 AND x.pupil_id = ANY ($2) AND {_OF_PUPIL}
"""


async def read_stored(connection: Connection, caller: Caller, tenant_id: UUID, pupil_ids: list[UUID]) -> StoredPupils:
    """What is stored of these pupils, within the caller's reach. Five statements, whatever their number."""
    known = StoredPupils()
    arguments = (tenant_id, pupil_ids, caller.client_id)
    async for part in iterate_in_slices(await connection.fetch(_FACTS, *arguments)):
        for r in part:
            known.facts[r["id"]] = PupilFacts(*(r[name] for name in PupilFacts.__dataclass_fields__))
            known.versions[r["id"]] = r["version"]
    async for part in iterate_in_slices(await connection.fetch(_UPNS_KNOWN, *arguments)):
        for r in part:
            known.upns.setdefault(r["pupil_id"], {})[r["upn"]] = r["current"]
    async for part in iterate_in_slices(await connection.fetch(_REFERENCES_KNOWN, *arguments)):
        for r in part:
            known.references.add((r["school_id"], r["value"]))
    async for part in iterate_in_slices(await connection.fetch(_ENROLMENTS, *arguments)):
        for r in part:
            known.spells[r["pupil_id"], r["school_id"], r["from_on"]] = (r["status"], r["to_on"], r["leaving_reason"])
            if r["to_on"] is None:
                known.open.setdefault(r["pupil_id"], []).append((r["school_id"], r["from_on"], r["status"]))
    async for part in iterate_in_slices(await connection.fetch(_CHARACTERISTICS, *arguments)):
        for r in part:
            known.dated[r["pupil_id"], r["kind"], r["from_on"]] = (r["value"], r["to_on"])
            if r["kind"] == YEAR_GROUP:
                known.years[r["pupil_id"]] = max(r["from_on"], known.years.get(r["pupil_id"], r["from_on"]))
    return known


_FACTS = f"""
SELECT {", ".join(f"x.{name}" for name in ("id", "version", *PupilFacts.__dataclass_fields__))} FROM pupils x
WHERE x.tenant_id = $1 AND x.id = ANY ($2) AND {reaches_pupil_sql("$3", "x", "id")}
"""
_NEW = """
INSERT INTO pupils (tenant_id, id, school_id, upn, surname, forename, date_of_birth, sex, year_group)
SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::date[], $8::text[], $9::text[])
"""
_CHANGED = """
UPDATE pupils p SET upn = g.upn, surname = g.surname, forename = g.forename, date_of_birth = g.date_of_birth, sex = g.sex, year_group = g.year_group
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::date[], $8::text[], $9::text[])
    AS g (id, school_id, upn, surname, forename, date_of_birth, sex, year_group)
WHERE p.tenant_id = $1 AND p.id = g.id
"""
_UPNS = """
INSERT INTO upns (tenant_id, upn, pupil_id, school_id, current) SELECT $1, * FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::boolean[])
"""
_RENEWED = """
UPDATE upns u SET current = g.current FROM unnest($2::text[], $3::boolean[]) AS g (upn, current) WHERE u.tenant_id = $1 AND u.upn = g.upn
"""
_REFERENCES = """
INSERT INTO external_ids (tenant_id, source, kind, school_id, value, id) SELECT $1, $5, 'pupil', * FROM unnest($2::uuid[], $3::text[], $4::uuid[])
"""
_SPELLS = """
INSERT INTO enrolments (tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason)
SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::date[], $7::date[], $8::text[])
ON CONFLICT (tenant_id, pupil_id, school_id, from_on) DO UPDATE SET status = excluded.status, to_on = excluded.to_on,
    leaving_reason = excluded.leaving_reason
"""
_CLOSED = """
UPDATE enrolments e SET to_on = GREATEST(g.next_on - 1, e.from_on), leaving_reason = g.reason
FROM unnest($2::uuid[], $3::uuid[], $4::date[], $5::date[], $6::text[]) AS g (pupil_id, school_id, from_on, next_on, reason)
WHERE e.tenant_id = $1 AND e.pupil_id = g.pupil_id AND e.school_id = g.school_id AND e.from_on = g.from_on
"""
_DATED = """
INSERT INTO characteristics (tenant_id, pupil_id, kind, from_on, school_id, to_on, value)
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::date[], $5::uuid[], $6::date[], $7::text[])
ON CONFLICT (tenant_id, pupil_id, kind, from_on) DO UPDATE SET value = excluded.value, to_on = excluded.to_on
"""
SHARE = """
INSERT INTO shared_pupils (tenant_id, pupil_id, school_id) SELECT $1, * FROM unnest($2::uuid[], $3::uuid[]) ON CONFLICT DO NOTHING
RETURNING pupil_id, school_id
"""
UNSHARE = """
DELETE FROM shared_pupils s USING unnest($2::uuid[], $3::uuid[]) AS g (pupil_id, school_id)
WHERE s.tenant_id = $1 AND s.pupil_id = g.pupil_id AND s.school_id = g.school_id RETURNING s.pupil_id, s.school_id
"""
_TOUCHED = """
UPDATE pupils SET version = version + 1, changed_at = now(), xid = pg_current_xact_id() WHERE tenant_id = $1 AND id = ANY ($2)
"""


async def write_changes(connection: Connection, tenant_id: UUID, source: UUID, changes: PupilChanges) -> None:
    """Writes the changes: a fixed number of set-based statements for each part of their rows."""

    def pupils(facts: dict[UUID, PupilFacts]) -> list[tuple[Any, ...]]:
        return [(id_, *(getattr(f, name) for name in PupilFacts.__dataclass_fields__)) for id_, f in facts.items()]

    for statement, rows in (
        (_NEW, pupils(changes.new)),
        (_CHANGED, pupils(changes.changed)),
        (_UPNS, changes.upns),  # another school may have made one just now: the transaction is then run again
        (_RENEWED, changes.renewed),
        (_CLOSED, changes.closed),
        (_SPELLS, changes.spells),
        (_DATED, changes.dated),
    ):
        for part in split_into_parts(rows):
            await connection.execute(statement, tenant_id, *transpose(part, len(part[0])))
    for references in split_into_parts(changes.references):
        await connection.execute(_REFERENCES, tenant_id, *transpose(references, 3), source)
    updated = [pupil_id for pupil_id in changes.touched if pupil_id not in changes.new]
    if updated:
        await connection.execute(_TOUCHED, tenant_id, updated)
    if changes.unshared:  # last: until then row-level security shows them
        await connection.execute(UNSHARE, tenant_id, *transpose(changes.unshared, 2))
