"""The stored facts about pupils, the rows that a roll changes, and the set-based statements that read and write them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Self
from uuid import UUID

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql, reaches_sql
from domain.roster.characteristics import YEAR_GROUP
from domain.roster.names import NAME_KEYS, make_name_keys
from domain.roster.pupil_keys import replace_references_sql
from domain.roster.record_pupils.spells import CharacteristicSpell, RollSpell
from domain.store.database import Connection, transpose
from domain.store.ledger_notes import note
from domain.support.slices import iterate_in_slices, split_into_parts


@dataclass
class PupilFacts:
    """A pupil's columns, as stored or as they are to be. The last three are what changed_identity.py remembers."""

    school_id: UUID
    upn: str | None
    surname: str
    forename: str
    date_of_birth: date
    sex: str
    year_group: str
    preferred_surname: str | None = None
    preferred_forename: str | None = None
    former_surname: str | None = None
    surname_changed_on: date | None = None
    upn_changed_on: date | None = None

    @property
    def name_keys(self) -> tuple[str | int | None, ...]:
        """The values of NAME_KEYS."""
        return make_name_keys(self.surname, self.forename, self.preferred_surname, self.preferred_forename)


@dataclass
class StoredPupils:
    """What is stored of the matched pupils, by pupil.

    `upns` say of each UPN whether it is current; `references` are this client's, by pupil and school. `spells` are by pupil
    and school, `characteristics` by pupil and kind, with their last days as stored. `year_groups` are by pupil and first
    day. `said_on` is the day of the newest roll that was about a pupil, by pupil and school.
    """

    facts: dict[UUID, PupilFacts] = field(default_factory=dict)
    versions: dict[UUID, int] = field(default_factory=dict)
    upns: dict[UUID, dict[str, bool]] = field(default_factory=dict)
    references: dict[tuple[UUID, UUID], set[str]] = field(default_factory=dict)
    spells: dict[UUID, dict[UUID, list[RollSpell]]] = field(default_factory=dict)
    characteristics: dict[UUID, dict[str, list[CharacteristicSpell]]] = field(default_factory=dict)
    year_groups: dict[UUID, dict[date, str]] = field(default_factory=dict)
    said_on: dict[tuple[UUID, UUID], date] = field(default_factory=dict)

    def get_spells(self, pupil_id: UUID | None, school_id: UUID) -> list[RollSpell]:
        """Returns the stored spells of a pupil at a school."""
        return [] if pupil_id is None else self.spells.get(pupil_id, {}).get(school_id, [])

    def find_year_group_from(self, pupil_id: UUID, day: date) -> date | None:
        """Returns the first day of the newest year group that has begun by a day; None without one."""
        return max((from_on for from_on in self.year_groups.get(pupil_id, {}) if from_on <= day), default=None)

    def replace_pupils(self, other: Self) -> None:
        """Takes over what is stored of the pupils in `other`, who were read later."""
        for name in ("facts", "versions", "upns", "references", "spells", "characteristics", "year_groups", "said_on"):
            getattr(self, name).update(getattr(other, name))


@dataclass
class PupilChanges:
    """The rows to write, and what the batch has already written.

    `touched_ids` are the pupils whose version grows. `said_pairs` are the (pupil, school) that the roll is about and of
    whom no roll of its day was. `moved_ids` are the pupils already moved to their row's school;
    `shared_pairs` are the (pupil, school) whose sharing has already begun or ended. `changed_upns` are stored UPNs that
    become current or former; `released_upns` are taken from their pupils, whose schools are told unless the batch
    corrects the pupil too. `ended_references` are (school, reference). `decisions` are
    what the identity history keeps: pupil, kind, differing facts, actor and the school where it was said. `ended_spells` are (spell, the day after the
    last day, leaving reason); a spell never ends before it begins. What a spell or characteristic was before it is
    written, ended or withdrawn goes into history.
    """

    new_pupils: dict[UUID, PupilFacts] = field(default_factory=dict)
    changed_pupils: dict[UUID, PupilFacts] = field(default_factory=dict)
    touched_ids: set[UUID] = field(default_factory=set)
    moved_ids: set[UUID] = field(default_factory=set)
    said_pairs: set[tuple[UUID, UUID]] = field(default_factory=set)
    shared_pairs: set[tuple[UUID, UUID]] = field(default_factory=set)
    new_upns: list[tuple[str, UUID, UUID, bool]] = field(default_factory=list)
    changed_upns: list[tuple[str, UUID, bool]] = field(default_factory=list)
    released_upns: list[tuple[str, UUID, bool]] = field(default_factory=list)
    references: list[tuple[UUID, str, UUID]] = field(default_factory=list)
    ended_references: list[tuple[UUID, str]] = field(default_factory=list)
    decisions: list[tuple[UUID, str, str | None, str | None, UUID]] = field(default_factory=list)
    spells: list[tuple[UUID, UUID, UUID, str, date, date | None, str | None]] = field(default_factory=list)
    withdrawn_spells: list[tuple[UUID]] = field(default_factory=list)
    ended_spells: list[tuple[UUID, date, str | None]] = field(default_factory=list)
    ended_shares: list[tuple[UUID, UUID]] = field(default_factory=list)
    characteristics: list[tuple[UUID, str, date, UUID, date | None, str]] = field(default_factory=list)
    withdrawn_characteristics: list[tuple[UUID, str, date]] = field(default_factory=list)

    @property
    def row_count(self) -> int:
        """The number of rows to write."""
        pupils = len(self.new_pupils) + len(self.changed_pupils)
        history = len(self.new_upns) + len(self.changed_upns) + len(self.references)
        dated = len(self.characteristics) + len(self.withdrawn_characteristics) + len(self.spells) + len(self.withdrawn_spells)
        return pupils + history + dated + len(self.ended_spells)


_OF_PUPIL, _OF_SCHOOL = reaches_pupil_sql("$3", "x"), reaches_sql("$3", "x.tenant_id", "x.school_id")
_READ_UPNS = f"SELECT x.upn, x.pupil_id, x.current FROM upns x WHERE x.tenant_id = $1 AND x.pupil_id = ANY ($2) AND {_OF_PUPIL}"
_READ_REFERENCES = f"""
SELECT x.id, x.school_id, x.value FROM external_ids x
WHERE x.tenant_id = $1 AND x.id = ANY ($2) AND x.source = $3 AND x.kind = 'pupil' AND {_OF_SCHOOL}
"""
_READ_SPELLS = f"""
SELECT x.pupil_id, x.school_id, NULL::date AS as_of, x.from_on, x.to_on, x.status, x.leaving_reason, x.id FROM enrolments x
WHERE x.tenant_id = $1 AND x.pupil_id = ANY ($2) AND {_OF_SCHOOL}
UNION ALL
SELECT x.pupil_id, x.school_id, x.as_of, NULL, NULL, NULL, NULL, NULL FROM pupil_rolls x
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
            stored.references.setdefault((r["id"], r["school_id"]), set()).add(r["value"])
    async for part in iterate_in_slices(await connection.fetch(_READ_SPELLS, *arguments)):
        for pupil_id, school_id, as_of, *values in part:
            if as_of is not None:
                stored.said_on[pupil_id, school_id] = as_of
            else:
                stored.spells.setdefault(pupil_id, {}).setdefault(school_id, []).append(RollSpell(*values))
    async for part in iterate_in_slices(await connection.fetch(_READ_CHARACTERISTICS, *arguments)):
        for pupil_id, kind, from_on, to_on, value in part:
            if kind == YEAR_GROUP:
                stored.year_groups.setdefault(pupil_id, {})[from_on] = value
            else:
                of_kind = stored.characteristics.setdefault(pupil_id, {}).setdefault(kind, [])
                of_kind.append(CharacteristicSpell(from_on, to_on, value))
    return stored


_READ_PUPILS = f"""
SELECT {", ".join(f"x.{name}" for name in ("id", "version", *PupilFacts.__dataclass_fields__))} FROM pupils x
WHERE x.tenant_id = $1 AND x.id = ANY ($2) AND {reaches_pupil_sql("$3", "x", "id")}
"""
_COLUMN_TYPES = {
    "id": "uuid",
    "school_id": "uuid",
    "date_of_birth": "date",
    "surname_changed_on": "date",
    "upn_changed_on": "date",
    "names_rule": "smallint",
}
_WRITTEN = ("id", *PupilFacts.__dataclass_fields__, *NAME_KEYS)
_WRITTEN_ARRAYS = ", ".join(f"${n}::{_COLUMN_TYPES.get(name, 'text')}[]" for n, name in enumerate(_WRITTEN, 2))
_INSERT_PUPILS = f"INSERT INTO pupils (tenant_id, changed_at, {', '.join(_WRITTEN)}) SELECT $1, clock_timestamp(), * FROM unnest({_WRITTEN_ARRAYS})"
_UPDATE_PUPILS = f"""
UPDATE pupils p SET {", ".join(f"{name} = g.{name}" for name in _WRITTEN if name not in ("id", "school_id"))}
FROM unnest({_WRITTEN_ARRAYS}) AS g ({", ".join(_WRITTEN)})
WHERE p.tenant_id = $1 AND p.id = g.id
"""
_INSERT_UPNS = """
INSERT INTO upns (tenant_id, upn, pupil_id, school_id, current) SELECT $1, * FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::boolean[])
"""
_UPDATE_UPNS = """
UPDATE upns u SET current = g.current FROM unnest($2::text[], $3::uuid[], $4::boolean[]) AS g (upn, pupil_id, current)
WHERE u.tenant_id = $1 AND u.upn = g.upn AND u.pupil_id = g.pupil_id
"""
_RELEASE_UPNS = """
SELECT release_upns($1, $2, $3, $5),
    report_released_upns($1, ARRAY(SELECT g.pupil_id FROM unnest($3::uuid[], $4::boolean[]) AS g (pupil_id, is_told) WHERE g.is_told), $5)
"""
_INSERT_DECISIONS = """
INSERT INTO identity_history (tenant_id, client_id, pupil_id, kind, facts, actor, school_id)
SELECT $1, $7, * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[])
"""
_REPLACE_REFERENCES = replace_references_sql("unnest($2::uuid[], $3::text[])", source="$4")
_INSERT_REFERENCES = """
INSERT INTO external_ids (tenant_id, source, kind, school_id, value, id) SELECT $1, $5, 'pupil', * FROM unnest($2::uuid[], $3::text[], $4::uuid[])
"""
_KEEP_SPELLS = """
    INSERT INTO enrolment_history (tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason, until)
    SELECT e.tenant_id, e.id, e.pupil_id, e.school_id, e.status, e.from_on, e.to_on, e.leaving_reason, clock_timestamp()
"""
_DELETE_SPELLS = f"""
WITH e AS (DELETE FROM enrolments WHERE tenant_id = $1 AND id = ANY ($2) RETURNING *)
{_KEEP_SPELLS} FROM e
"""
_END_SPELLS = f"""
WITH g AS (SELECT * FROM unnest($2::uuid[], $3::date[], $4::text[]) AS g (id, next_on, reason)), kept AS (
    {_KEEP_SPELLS} FROM g JOIN enrolments e ON e.tenant_id = $1 AND e.id = g.id
)
UPDATE enrolments e SET to_on = GREATEST(g.next_on - 1, e.from_on), leaving_reason = g.reason FROM g WHERE e.tenant_id = $1 AND e.id = g.id
"""
_WRITE_SPELLS = f"""
WITH g AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::date[], $7::date[], $8::text[])
        AS g (id, pupil_id, school_id, status, from_on, to_on, leaving_reason)
), kept AS (
    {_KEEP_SPELLS} FROM g JOIN enrolments e ON e.tenant_id = $1 AND e.id = g.id
)
INSERT INTO enrolments (tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason) SELECT $1, * FROM g
ON CONFLICT (tenant_id, id) DO UPDATE SET status = excluded.status, from_on = excluded.from_on, to_on = excluded.to_on,
    leaving_reason = excluded.leaving_reason
"""
_KEEP_CHARACTERISTICS = """
    INSERT INTO characteristic_history (tenant_id, pupil_id, kind, from_on, school_id, to_on, value, until)
    SELECT c.tenant_id, c.pupil_id, c.kind, c.from_on, c.school_id, c.to_on, c.value, clock_timestamp()
"""
_SAME = "c.tenant_id = $1 AND c.pupil_id = g.pupil_id AND c.kind = g.kind AND c.from_on = g.from_on"
_DELETE_CHARACTERISTICS = f"""
WITH c AS (
    DELETE FROM characteristics c USING unnest($2::uuid[], $3::text[], $4::date[]) AS g (pupil_id, kind, from_on) WHERE {_SAME} RETURNING c.*
)
{_KEEP_CHARACTERISTICS} FROM c
"""
_WRITE_CHARACTERISTICS = f"""
WITH g AS (
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::date[], $5::uuid[], $6::date[], $7::text[])
        AS g (pupil_id, kind, from_on, school_id, to_on, value)
), kept AS (
    {_KEEP_CHARACTERISTICS} FROM g JOIN characteristics c ON {_SAME}
)
INSERT INTO characteristics (tenant_id, pupil_id, kind, from_on, school_id, to_on, value) SELECT $1, * FROM g
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
_TOUCH = """
UPDATE pupils SET version = version + 1, changed_at = clock_timestamp(), xid = pg_current_xact_id() WHERE tenant_id = $1 AND id = ANY ($2)
"""


async def touch_pupils(connection: Connection, tenant_id: UUID, pupil_ids: Collection[UUID]) -> None:
    """Increments the versions of pupils of whom something was written that stands in another table."""
    await connection.execute(_TOUCH, tenant_id, list(pupil_ids))


def note_released_upns(tenant_id: UUID, client_id: UUID, released: Sequence[tuple[str, UUID]]) -> None:
    """Notes for the ledger which UPNs were taken from which pupils."""
    note(
        "upns",
        {"tenant": str(tenant_id), "client": str(client_id), "released": [[upn, str(pupil_id)] for upn, pupil_id in released]},
    )


async def write_changes(connection: Connection, tenant_id: UUID, source: UUID, changes: PupilChanges) -> None:
    """Writes the changes: a fixed number of set-based statements for each part of the rows. `source` is the client."""

    async def list_rows(facts: dict[UUID, PupilFacts]) -> list[tuple[Any, ...]]:
        return [
            (id_, *(getattr(f, name) for name in PupilFacts.__dataclass_fields__), *f.name_keys)
            async for part in iterate_in_slices(facts.items())
            for id_, f in part
        ]

    for released in split_into_parts(changes.released_upns):
        await connection.execute(_RELEASE_UPNS, tenant_id, *transpose(released, 3), source)
        note_released_upns(tenant_id, source, [(upn, pupil_id) for upn, pupil_id, _ in released])
    for statement, rows in (
        (_INSERT_PUPILS, await list_rows(changes.new_pupils)),
        (_UPDATE_PUPILS, await list_rows(changes.changed_pupils)),
        (_INSERT_UPNS, changes.new_upns),  # another school may have inserted one just now: the transaction is then run again
        (_UPDATE_UPNS, changes.changed_upns),
        (_DELETE_SPELLS, changes.withdrawn_spells),
        (_END_SPELLS, changes.ended_spells),
        (_WRITE_SPELLS, changes.spells),
        (_DELETE_CHARACTERISTICS, changes.withdrawn_characteristics),
        (_WRITE_CHARACTERISTICS, changes.characteristics),
    ):
        for part in split_into_parts(rows):
            await connection.execute(statement, tenant_id, *transpose(part, len(part[0])))
    for statement, rows in (
        (_REPLACE_REFERENCES, changes.ended_references),
        (_INSERT_REFERENCES, changes.references),
        (_INSERT_DECISIONS, changes.decisions),
    ):
        for part in split_into_parts(rows):
            await connection.execute(statement, tenant_id, *transpose(part, len(part[0])), source)
    updated = [pupil_id for pupil_id in changes.touched_ids if pupil_id not in changes.new_pupils]
    if updated:
        await touch_pupils(connection, tenant_id, updated)
    if changes.ended_shares:  # last: until then row-level security shows these pupils
        await connection.execute(UNSHARE, tenant_id, *transpose(changes.ended_shares, 2))


_RECORD_SAID = """
INSERT INTO pupil_rolls AS r (tenant_id, pupil_id, school_id, as_of) SELECT $1, pupil_id, school_id, $4
FROM unnest($2::uuid[], $3::uuid[]) AS g (pupil_id, school_id)
ON CONFLICT (tenant_id, pupil_id, school_id) DO UPDATE SET as_of = excluded.as_of WHERE r.as_of < excluded.as_of
"""


async def record_said(connection: Connection, tenant_id: UUID, pairs: set[tuple[UUID, UUID]], as_of: date) -> None:
    """Records that a roll of this day was about these (pupil, school), so that an older one changes nothing of them."""
    for part in split_into_parts(sorted(pairs)):
        await connection.execute(_RECORD_SAID, tenant_id, *transpose(part, 2), as_of)
