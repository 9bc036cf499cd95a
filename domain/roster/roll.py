"""A school's roll in bulk: who is on it, since when, and what is dated about them. The same roll twice changes nothing.

A pupil is matched by id or reference, then UPN, then former UPN; two hits are an error that names both, never a silent merge. Absence from a batch
removes nobody. A subsidiary or guest school adds its own spell and reference; the rest of a pupil is the main school's to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.engine.access import Caller, Scope
from domain.engine.command import Batch, Input, Recorded, Text, command
from domain.engine.counting import Counting
from domain.engine.database import Connection
from domain.engine.errors import Conflict, Invalid, NotFound
from domain.engine.ids import new_id
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.characteristics import YEAR_GROUP, Characteristic
from domain.roster.enrolments import ENROLMENT, MAIN, Spell
from domain.roster.pupils import PUPIL, Match, match_pupils, settle_schools
from domain.roster.schools import Reached, SchoolRef, find_schools

Name = Annotated[str, Meta(min_length=1, max_length=100)]


class PupilEntry(Input, kw_only=True):
    """A pupil as the school's MIS knows them."""

    id: str | UnsetType = UNSET
    reference: Text | UnsetType = UNSET
    upn: str | None = None
    former_upns: Annotated[list[str], Meta(max_length=10)] = []
    surname: Name
    forename: Name
    date_of_birth: date
    sex: Literal["F", "M"]
    year_group: str
    enrolments: Annotated[list[Spell], Meta(max_length=50)] = []
    characteristics: Annotated[list[Characteristic], Meta(max_length=200)] = []
    school: SchoolRef | UnsetType = UNSET


class PupilBatch(Input, kw_only=True):
    """A roll, or part of one, as it stood on a day. The year groups given hold from that academic year's 1 September."""

    school: SchoolRef | UnsetType = UNSET
    as_of: date
    entries: list[PupilEntry]


@dataclass
class Facts:
    """A pupil's attributes as stored, or as they are to be."""

    school_id: UUID
    upn: str | None
    surname: str
    forename: str
    date_of_birth: date
    sex: str
    year_group: str


@dataclass
class Known:
    """What is stored of the matched pupils."""

    facts: dict[UUID, Facts] = field(default_factory=dict)
    versions: dict[UUID, int] = field(default_factory=dict)
    upns: dict[UUID, dict[str, bool]] = field(default_factory=dict)
    references: set[tuple[UUID, str]] = field(default_factory=set)
    spells: dict[tuple[UUID, UUID, date], tuple[str, date | None]] = field(default_factory=dict)
    open_main: dict[UUID, list[tuple[UUID, date]]] = field(default_factory=dict)
    dated: dict[tuple[UUID, str, date], tuple[str, date | None]] = field(default_factory=dict)
    years: dict[UUID, date] = field(default_factory=dict)
    shared: set[tuple[UUID, UUID]] = field(default_factory=set)


@dataclass
class Changes:
    """Rows to write, by table."""

    new: dict[UUID, Facts] = field(default_factory=dict)
    changed: dict[UUID, Facts] = field(default_factory=dict)
    touched: set[UUID] = field(default_factory=set)
    moved: dict[UUID, list[UUID]] = field(default_factory=dict)
    upns: list[tuple[str, UUID, UUID, bool]] = field(default_factory=list)
    references: list[tuple[UUID, str, UUID]] = field(default_factory=list)
    spells: list[tuple[UUID, UUID, UUID, str, date, date | None]] = field(default_factory=list)
    closed: list[tuple[UUID, UUID, date, date]] = field(default_factory=list)
    dated: list[tuple[UUID, str, date, UUID, date | None, str]] = field(default_factory=list)
    shared: list[tuple[UUID, UUID]] = field(default_factory=list)

    def size(self) -> int:
        """How many rows are to be written."""
        tables = (self.new, self.changed, self.upns, self.references, self.spells, self.closed, self.dated, self.shared)
        return sum(len(table) for table in tables)


@dataclass
class Row:
    """An entry with its rules applied: canonical UPN, former UPNs and year group, and the pupil it turned out to be."""

    at: int
    entry: PupilEntry
    school: Reached
    upn: str | None
    former: list[str]
    year_group: str
    pupil_id: UUID | None = None

    def is_main(self, as_of: date) -> bool:
        """Whether the row says that its school is the main one on that day."""
        return any(spell.status in MAIN and spell.covers(as_of) for spell in self.entry.enrolments)

    @property
    def is_second(self) -> bool:
        return bool(self.entry.enrolments) and all(spell.status not in MAIN for spell in self.entry.enrolments)


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, Conflict))
async def record_pupils(connection: Connection, caller: Caller, given: Batch[PupilBatch, PupilEntry]) -> Recorded:
    """Record a school's roll, or part of it. The same batch twice changes nothing; absence from a batch removes nobody."""
    schools = await settle_schools(connection, caller, Scope.PUPILS_WRITE, given)
    rows = [row for at, entry in given.good() if (row := checked(given, at, entry, schools[at])) is not None]
    given.check()
    if not rows:
        return given.recorded()
    tenant_id = rows[0].school.tenant_id
    counting = Counting(connection, tenant_id)
    await counting.lock({row.school.id for row in rows}, [])
    keys = [
        (row.school.id, row.entry.id or None, row.entry.reference or None, " ".join([row.upn or "-", *row.former])) for row in rows
    ]
    matches = await match_pupils(connection, caller, tenant_id, keys)
    matched_by_row = {row.at: match for row, match in zip(rows, matches, strict=True)}
    rows = await movable(connection, caller, given, identified(given, rows, matches), matched_by_row)
    given.check()
    matched = [row.pupil_id for row in rows if row.pupil_id is not None]
    await counting.lock({row.school.id for row in rows}, matched)
    known = await read_known(connection, tenant_id, caller.client_id, matched)
    changes = Changes()
    for row in rows:
        decide(given, row, known, changes)
    if changes.touched:
        async with counting.of_pupils(changes.touched):
            await write(connection, tenant_id, caller.client_id, changes)
    return given.recorded()


def checked(batch: Batch[Any, Any], at: int, entry: PupilEntry, school: Reached) -> Row | None:
    """The row with its rules applied, or None after rejecting it with every issue."""
    before = len(batch.issues)
    numbers: list[str | None] = []
    for where, given in [("upn", entry.upn)] + [(f"formerUpns/{i}", former) for i, former in enumerate(entry.former_upns)]:
        try:
            numbers.append(None if given is None else upn_rules.check(given).text)
        except ValueError as problem:
            batch.reject(at, where, "upn-invalid", str(problem))
    year_group = ""
    try:
        year_group = years.canonical(entry.year_group)
    except ValueError as problem:
        batch.reject(at, "yearGroup", "year-group-invalid", str(problem))
    if not (entry.date_of_birth.year >= 1900 and entry.date_of_birth <= batch.head.as_of):
        batch.reject(at, "dateOfBirth", "date-of-birth-implausible", "The date of birth lies after asOf or before 1900.")
    if len({spell.from_ for spell in entry.enrolments}) < len(entry.enrolments):
        batch.reject(at, "enrolments", "spells-overlap", "Two spells begin on the same day.")
    main = sorted((spell for spell in entry.enrolments if spell.status in MAIN), key=lambda spell: spell.from_)
    if any(earlier.to is None or earlier.to >= later.from_ for earlier, later in pairwise(main)):
        batch.reject(at, "enrolments", "spells-overlap", "Two main spells at this school overlap.")
    if len({(c.kind, c.from_) for c in entry.characteristics}) < len(entry.characteristics):
        batch.reject(at, "characteristics", "spells-overlap", "Two spells of one kind begin on the same day.")
    if len(batch.issues) > before:
        return None
    return Row(at, entry, school, numbers[0], [n for n in numbers[1:] if n], year_group)


def identified(batch: Batch[Any, Any], rows: list[Row], matches: Sequence[Match]) -> list[Row]:
    """The rows with their pupils; rejects what could be two children, and what the batch says twice."""
    seen: dict[object, int] = {}
    for row, match in zip(rows, matches, strict=True):
        hits = list(
            dict.fromkeys(hit for hit in (match.by_id, match.by_reference, match.by_upn, match.by_former_upn) if hit is not None)
        )
        if row.entry.id is not UNSET and match.by_id is None:
            batch.reject(row.at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
        if len(hits) > 1:
            named = " and ".join(str(hit) for hit in hits)
            batch.reject(
                row.at, "", "pupil-merge-needed", f"The keys of this row belong to two pupils, {named}. Nothing was merged."
            )
        row.pupil_id = hits[0] if hits else None
        if row.pupil_id is None and not row.entry.enrolments:
            batch.reject(row.at, "enrolments", "enrolment-required", "A new pupil needs at least one spell on roll.")
        reference = f"reference {row.school.id} {row.entry.reference}" if row.entry.reference is not UNSET else None
        for key in {row.pupil_id, reference, *(f"upn {number}" for number in (row.upn, *row.former) if number)} - {None}:
            if key in seen:
                batch.reject(row.at, "", "duplicate-in-batch", f"This is the same pupil as /entries/{seen[key]}.")
                break
            seen[key] = row.at
    return still_good(batch, rows)


def still_good(batch: Batch[Any, Any], rows: list[Row]) -> list[Row]:
    good = {at for at, _ in batch.good()}
    return [row for row in rows if row.at in good]


async def movable(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], rows: list[Row], matches: dict[int, Match]
) -> list[Row]:
    """Rejects a row that would take a pupil from a school where their main spell is still open and which this client does not reach."""
    leaving = {
        row.at: match.school_id
        for row in rows
        if (match := matches[row.at]).school_id not in (None, row.school.id) and match.has_open_main and not row.is_second
    }
    refs = {school_id: SchoolRef(id=str(school_id)) for school_id in leaving.values()}
    found = (
        dict(zip(refs, await find_schools(connection, caller, Scope.PUPILS_WRITE, list(refs.values())), strict=True))
        if refs
        else {}
    )
    for at, school_id in leaving.items():
        if found[school_id] is None:
            message = "This pupil's main spell at another school of the trust is open. That school, or a client that reaches both, must end it first."
            batch.reject(at, "enrolments", "pupil-elsewhere", message)
    return still_good(batch, rows)


async def read_known(connection: Connection, tenant_id: UUID, source: UUID, pupil_ids: list[UUID]) -> Known:
    """What is stored of these pupils, within the caller's reach. Six statements, whatever their number."""
    known = Known()
    arguments = (tenant_id, pupil_ids)
    for r in await connection.fetch("SELECT * FROM pupils WHERE tenant_id = $1 AND id = ANY ($2)", *arguments):
        known.facts[r["id"]] = Facts(*(r[name] for name in Facts.__dataclass_fields__))
        known.versions[r["id"]] = r["version"]
    for r in await connection.fetch(
        "SELECT upn, pupil_id, current FROM upns WHERE tenant_id = $1 AND pupil_id = ANY ($2)", *arguments
    ):
        known.upns.setdefault(r["pupil_id"], {})[r["upn"]] = r["current"]
    for r in await connection.fetch(
        "SELECT school_id, value FROM external_ids WHERE tenant_id = $1 AND id = ANY ($2) AND source = $3 AND kind = 'pupil'",
        *arguments,
        source,
    ):
        known.references.add((r["school_id"], r["value"]))
    for r in await connection.fetch("SELECT * FROM enrolments WHERE tenant_id = $1 AND pupil_id = ANY ($2)", *arguments):
        known.spells[r["pupil_id"], r["school_id"], r["from_on"]] = (r["status"], r["to_on"])
        if r["status"] in MAIN and r["to_on"] is None:
            known.open_main.setdefault(r["pupil_id"], []).append((r["school_id"], r["from_on"]))
    for r in await connection.fetch("SELECT * FROM characteristics WHERE tenant_id = $1 AND pupil_id = ANY ($2)", *arguments):
        known.dated[r["pupil_id"], r["kind"], r["from_on"]] = (r["value"], r["to_on"])
        if r["kind"] == YEAR_GROUP:
            known.years[r["pupil_id"]] = max(r["from_on"], known.years.get(r["pupil_id"], r["from_on"]))
    for r in await connection.fetch(
        "SELECT pupil_id, school_id FROM shared_pupils WHERE tenant_id = $1 AND pupil_id = ANY ($2)", *arguments
    ):
        known.shared.add((r["pupil_id"], r["school_id"]))
    return known


def decide(batch: Batch[PupilBatch, PupilEntry], row: Row, known: Known, changes: Changes) -> None:
    """Compares a row with what is stored, adds the differences to the changes and notes the outcome."""
    as_of, entry, school_id = batch.head.as_of, row.entry, row.school.id
    stored = known.facts.get(row.pupil_id) if row.pupil_id else None
    pupil_id = row.pupil_id or new_id(PUPIL)
    before = changes.size()
    elsewhere = stored is not None and stored.school_id != school_id and not row.is_main(as_of)
    if not elsewhere:
        _decide_facts(row, pupil_id, stored, known, changes, as_of)
    elif row.is_second and (pupil_id, school_id) not in known.shared:
        changes.shared.append((pupil_id, school_id))
    if entry.reference is not UNSET and (school_id, entry.reference) not in known.references:
        changes.references.append((school_id, entry.reference, pupil_id))
    for spell in entry.enrolments:
        if known.spells.get((pupil_id, school_id, spell.from_)) != (spell.status, spell.to):
            changes.spells.append((new_id(ENROLMENT), pupil_id, school_id, spell.status, spell.from_, spell.to))
    if changes.size() == before:
        return batch.note(row.at, "unchanged", pupil_id, known.versions.get(pupil_id))
    changes.touched.add(pupil_id)
    if stored is None:
        return batch.note(row.at, "created", pupil_id, 1)
    return batch.note(row.at, "updated", pupil_id, known.versions[pupil_id] + 1)


def _decide_facts(row: Row, pupil_id: UUID, stored: Facts | None, known: Known, changes: Changes, as_of: date) -> None:
    """What only the main school says: names, UPN, year group, characteristics, and that the pupil is here now."""
    entry, school_id = row.entry, row.school.id
    year_starts = years.academic_year_range(years.parse_academic_year(years.academic_year(as_of)))[0]
    latest = year_starts >= known.years.get(pupil_id, year_starts)
    year_group = row.year_group if stored is None or latest else stored.year_group
    upn = row.upn if row.upn is not None or stored is None else stored.upn
    facts = Facts(school_id, upn, entry.surname, entry.forename, entry.date_of_birth, entry.sex, year_group)
    if stored is None:
        changes.new[pupil_id] = facts
    elif stored != facts:
        changes.changed[pupil_id] = facts
        if stored.school_id != school_id:
            changes.moved.setdefault(school_id, []).append(pupil_id)
            starts = min(spell.from_ for spell in entry.enrolments if spell.status in MAIN and spell.covers(as_of))
            changes.closed += [
                (pupil_id, other, begun, starts) for other, begun in known.open_main.get(pupil_id, []) if other != school_id
            ]
    numbers = known.upns.get(pupil_id, {})
    for former in row.former:
        if former not in numbers:
            changes.upns.append((former, pupil_id, school_id, False))
    if row.upn is not None and numbers.get(row.upn) is not True:
        changes.upns += [(number, pupil_id, school_id, False) for number, current in numbers.items() if current]
        changes.upns.append((row.upn, pupil_id, school_id, True))
    for kind, value, from_, to in [
        (YEAR_GROUP, row.year_group, year_starts, None),
        *((c.kind, c.value, c.from_, c.to) for c in entry.characteristics),
    ]:
        if known.dated.get((pupil_id, kind, from_)) != (value, to):
            changes.dated.append((pupil_id, kind, from_, school_id, to, value))


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
ON CONFLICT (tenant_id, upn) DO UPDATE SET current = excluded.current WHERE upns.pupil_id = excluded.pupil_id
"""
_REFERENCES = """
INSERT INTO external_ids (tenant_id, source, kind, school_id, value, id) SELECT $1, $5, 'pupil', * FROM unnest($2::uuid[], $3::text[], $4::uuid[])
"""
_SPELLS = """
INSERT INTO enrolments (tenant_id, id, pupil_id, school_id, status, from_on, to_on)
SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::date[], $7::date[])
ON CONFLICT (tenant_id, pupil_id, school_id, from_on) DO UPDATE SET status = excluded.status, to_on = excluded.to_on
"""
_CLOSED = """
UPDATE enrolments e SET to_on = GREATEST(g.next_on - 1, e.from_on)
FROM unnest($2::uuid[], $3::uuid[], $4::date[], $5::date[]) AS g (pupil_id, school_id, from_on, next_on)
WHERE e.tenant_id = $1 AND e.pupil_id = g.pupil_id AND e.school_id = g.school_id AND e.from_on = g.from_on
"""
_DATED = """
INSERT INTO characteristics (tenant_id, pupil_id, kind, from_on, school_id, to_on, value)
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::date[], $5::uuid[], $6::date[], $7::text[])
ON CONFLICT (tenant_id, pupil_id, kind, from_on) DO UPDATE SET value = excluded.value, to_on = excluded.to_on
"""
_SHARED = "INSERT INTO shared_pupils (tenant_id, pupil_id, school_id) SELECT $1, * FROM unnest($2::uuid[], $3::uuid[]) ON CONFLICT DO NOTHING"
_TOUCHED = """
UPDATE pupils SET version = version + 1, xid = pg_current_xact_id() WHERE tenant_id = $1 AND id = ANY ($2)
"""


async def write(connection: Connection, tenant_id: UUID, source: UUID, changes: Changes) -> None:
    """Writes the changes: a fixed number of set-based statements."""

    def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
        return [list(column) for column in zip(*rows, strict=True)]

    def pupils(facts: dict[UUID, Facts]) -> list[tuple[Any, ...]]:
        return [(id_, *(getattr(f, name) for name in Facts.__dataclass_fields__)) for id_, f in facts.items()]

    for school_id, pupil_ids in changes.moved.items():
        await connection.execute("SELECT move_pupils($1, $2, $3)", tenant_id, pupil_ids, school_id)
    for statement, rows in (
        (_NEW, pupils(changes.new)),
        (_CHANGED, pupils(changes.changed)),
        (_UPNS, sorted(changes.upns, key=lambda row: row[3])),
        (_CLOSED, changes.closed),
        (_SPELLS, changes.spells),
        (_SHARED, changes.shared),
        (_DATED, changes.dated),
    ):
        if rows:
            await connection.execute(statement, tenant_id, *columns(rows))
    if changes.references:
        await connection.execute(_REFERENCES, tenant_id, *columns(changes.references), source)
    updated = [pupil_id for pupil_id in changes.touched if pupil_id not in changes.new]
    if updated:
        await connection.execute(_TOUCHED, tenant_id, updated)
