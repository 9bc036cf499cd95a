"""The stored facts about pupils, the rows that a roll changes, and the set-based statements that read and write them."""

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
    """A pupil's columns, as stored or as they are to be."""

    school_id: UUID
    upn: str | None
    surname: str
    forename: str
    date_of_birth: date
    sex: str
    year_group: str


@dataclass
class StoredPupils:
    """What is stored of the matched pupils, by pupil.

    `upns` say of each UPN whether it is current; `references` are (school, reference). `spells` are by pupil, school
    and first day: status, last day and leaving reason; `open_spells` are those without a last day: school, first day
    and status. `characteristics` are by pupil, kind and first day: value and last day; `year_group_from` is the first
    day of the newest year group.
    """

    facts: dict[UUID, PupilFacts] = field(default_factory=dict)
    versions: dict[UUID, int] = field(default_factory=dict)
    upns: dict[UUID, dict[str, bool]] = field(default_factory=dict)
    references: set[tuple[UUID, str]] = field(default_factory=set)
    spells: dict[tuple[UUID, UUID, date], tuple[str, date | None, str | None]] = field(default_factory=dict)
    open_spells: dict[UUID, list[tuple[UUID, date, str]]] = field(default_factory=dict)
    characteristics: dict[tuple[UUID, str, date], tuple[str, date | None]] = field(default_factory=dict)
    year_group_from: dict[UUID, date] = field(default_factory=dict)


@dataclass
class PupilChanges:
    """The rows to write, and what the batch has already written.

    `touched_ids` are the pupils whose version grows. `moved_ids` are the pupils already moved to their row's school;
    `shared_pairs` are the (pupil, school) whose sharing has already begun or ended. `changed_upns` are stored UPNs that
    become current or former. `ended_spells` are (pupil, school, first day, the day after the last day, leaving reason);
    a spell never ends before it begins.
    """

    new_pupils: dict[UUID, PupilFacts] = field(default_factory=dict)
    changed_pupils: dict[UUID, PupilFacts] = field(default_factory=dict)
    touched_ids: set[UUID] = field(default_factory=set)
    moved_ids: set[UUID] = field(default_factory=set)
    shared_pairs: set[tuple[UUID, UUID]] = field(default_factory=set)
    new_upns: list[tuple[str, UUID, UUID, bool]] = field(default_factory=list)
    changed_upns: list[tuple[str, bool]] = field(default_factory=list)
    references: list[tuple[UUID, str, UUID]] = field(default_factory=list)
    spells: list[tuple[UUID, UUID, UUID, str, date, date | None, str | None]] = field(default_factory=list)
    ended_spells: list[tuple[UUID, UUID, date, date, str | None]] = field(default_factory=list)
    ended_shares: list[tuple[UUID, UUID]] = field(default_factory=list)
    characteristics: list[tuple[UUID, str, date, UUID, date | None, str]] = field(default_factory=list)

    @property
    def row_count(self) -> int:
        """The number of rows to write."""
        pupils = len(self.new_pupils) + len(self.changed_pupils)
        history = len(self.new_upns) + len(self.changed_upns) + len(self.references) + len(self.characteristics)
        return pupils + history + len(self.spells) + len(self.ended_spells)


_OF_PUPIL, _OF_SCHOOL = reaches_pupil_sql("$3", "x"), reaches_sql("$3", "x.tenant_id", "x.school_id")
_READ_UPNS = f"SELECT x.upn, x.pupil_id, x.current FROM upns x WHERE x.tenant_id = $1 AND x.pupil_id = ANY ($2) AND {_OF_PUPIL}"
_READ_REFERENCES = f"""
SELECT x.school_id, x.value FROM external_ids x
WHERE x.tenant_id = $1 AND x.id = ANY ($2) AND x.source = $3 AND x.kind = 'pupil' AND {_OF_SCHOOL}
"""
_READ_SPELLS = f"""
SELECT x.pupil_id, x.school_id, x.from_on, x.to_on, x.status, x.leaving_reason FROM enrolments x
WHERE x.tenant_id = $1 AND x.pupil_id = ANY ($2) AND {_OF_SCHOOL}
"""
_READ_CHARACTERISTICS = f"""
SELECT x.pupil_id, x.kind, x.from_on, x.to_on, x.value FROM characteristics x
WHERE x.tenant_id = $1 AND x.pupil_id = ANY ($2) AND {_OF_PUPIL}
"""


async def read_stored(connection: Connection, caller: Caller, tenant_id: UUID, pupil_ids: list[UUID]) -> StoredPupils:
    """Returns what is stored of these pupils, within the caller's reach.

    Five statements, whatever the number of pupils.
    """
    stored = StoredPupils()
    arguments = (tenant_id, pupil_ids, caller.client_id)
    async for part in iterate_in_slices(await connection.fetch(_READ_PUPILS, *arguments)):
        for r in part:
            stored.facts[r["id"]] = PupilFacts(*(r[name] for name in PupilFacts.__dataclass_fields__))
            stored.versions[r["id"]] = r["version"]
    async for part in iterate_in_slices(await connection.fetch(_READ_UPNS, *arguments)):
        for r in part:
            stored.upns.setdefault(r["pupil_id"], {})[r["upn"]] = r["current"]
    async for part in iterate_in_slices(await connection.fetch(_READ_REFERENCES, *arguments)):
        for r in part:
            stored.references.add((r["school_id"], r["value"]))
    async for part in iterate_in_slices(await connection.fetch(_READ_SPELLS, *arguments)):
        for r in part:
            stored.spells[r["pupil_id"], r["school_id"], r["from_on"]] = (r["status"], r["to_on"], r["leaving_reason"])
            if r["to_on"] is None:
                stored.open_spells.setdefault(r["pupil_id"], []).append((r["school_id"], r["from_on"], r["status"]))
    async for part in iterate_in_slices(await connection.fetch(_READ_CHARACTERISTICS, *arguments)):
        for r in part:
            stored.characteristics[r["pupil_id"], r["kind"], r["from_on"]] = (r["value"], r["to_on"])
            if r["kind"] == YEAR_GROUP:
                stored.year_group_from[r["pupil_id"]] = max(r["from_on"], stored.year_group_from.get(r["pupil_id"], r["from_on"]))
    return stored


_READ_PUPILS = f"""
SELECT {", ".join(f"x.{name}" for name in ("id", "version", *PupilFacts.__dataclass_fields__))} FROM pupils x
WHERE x.tenant_id = $1 AND x.id = ANY ($2) AND {reaches_pupil_sql("$3", "x", "id")}
"""
_INSERT_PUPILS = """
INSERT INTO pupils (tenant_id, id, school_id, upn, surname, forename, date_of_birth, sex, year_group)
SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::date[], $8::text[], $9::text[])
"""
_UPDATE_PUPILS = """
UPDATE pupils p SET upn = g.upn, surname = g.surname, forename = g.forename, date_of_birth = g.date_of_birth, sex = g.sex, year_group = g.year_group
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::date[], $8::text[], $9::text[])
    AS g (id, school_id, upn, surname, forename, date_of_birth, sex, year_group)
WHERE p.tenant_id = $1 AND p.id = g.id
"""
_INSERT_UPNS = """
INSERT INTO upns (tenant_id, upn, pupil_id, school_id, current) SELECT $1, * FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::boolean[])
"""
_UPDATE_UPNS = """
UPDATE upns u SET current = g.current FROM unnest($2::text[], $3::boolean[]) AS g (upn, current) WHERE u.tenant_id = $1 AND u.upn = g.upn
"""
_INSERT_REFERENCES = """
INSERT INTO external_ids (tenant_id, source, kind, school_id, value, id) SELECT $1, $5, 'pupil', * FROM unnest($2::uuid[], $3::text[], $4::uuid[])
"""
_UPSERT_SPELLS = """
INSERT INTO enrolments (tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason)
SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::date[], $7::date[], $8::text[])
ON CONFLICT (tenant_id, pupil_id, school_id, from_on) DO UPDATE SET status = excluded.status, to_on = excluded.to_on,
    leaving_reason = excluded.leaving_reason
"""
_END_SPELLS = """
UPDATE enrolments e SET to_on = GREATEST(g.next_on - 1, e.from_on), leaving_reason = g.reason
FROM unnest($2::uuid[], $3::uuid[], $4::date[], $5::date[], $6::text[]) AS g (pupil_id, school_id, from_on, next_on, reason)
WHERE e.tenant_id = $1 AND e.pupil_id = g.pupil_id AND e.school_id = g.school_id AND e.from_on = g.from_on
"""
_UPSERT_CHARACTERISTICS = """
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
_BUMP_VERSIONS = """
UPDATE pupils SET version = version + 1, changed_at = now(), xid = pg_current_xact_id() WHERE tenant_id = $1 AND id = ANY ($2)
"""


async def write_changes(connection: Connection, tenant_id: UUID, source: UUID, changes: PupilChanges) -> None:
    """Writes the changes: a fixed number of set-based statements for each part of the rows. `source` is the client."""

    def list_rows(facts: dict[UUID, PupilFacts]) -> list[tuple[Any, ...]]:
        return [(id_, *(getattr(f, name) for name in PupilFacts.__dataclass_fields__)) for id_, f in facts.items()]

    for statement, rows in (
        (_INSERT_PUPILS, list_rows(changes.new_pupils)),
        (_UPDATE_PUPILS, list_rows(changes.changed_pupils)),
        (_INSERT_UPNS, changes.new_upns),  # another school may have inserted one just now: the transaction is then run again
        (_UPDATE_UPNS, changes.changed_upns),
        (_END_SPELLS, changes.ended_spells),
        (_UPSERT_SPELLS, changes.spells),
        (_UPSERT_CHARACTERISTICS, changes.characteristics),
    ):
        for part in split_into_parts(rows):
            await connection.execute(statement, tenant_id, *transpose(part, len(part[0])))
    for references in split_into_parts(changes.references):
        await connection.execute(_INSERT_REFERENCES, tenant_id, *transpose(references, 3), source)
    updated = [pupil_id for pupil_id in changes.touched_ids if pupil_id not in changes.new_pupils]
    if updated:
        await connection.execute(_BUMP_VERSIONS, tenant_id, updated)
    if changes.ended_shares:  # last: until then row-level security shows these pupils
        await connection.execute(UNSHARE, tenant_id, *transpose(changes.ended_shares, 2))
