"""A school's roll in bulk: who is on it, since when, and what is dated about them. The same roll twice changes nothing.

A pupil is matched by id or reference, then UPN, then former UPN; two hits are an error that names both, never a silent merge. Absence from a batch
removes nobody. A subsidiary or guest school adds its own spell and reference; the rest of a pupil is the main school's to say.
"""

from dataclasses import dataclass, field
from datetime import date
from itertools import islice, pairwise
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.engine.access import Caller, Scope
from domain.engine.command import Batch, Input, Recorded, Text, command
from domain.engine.counting import Counting
from domain.engine.database import Connection
from domain.engine.errors import Conflict, Invalid, Issue, NotFound, invalid
from domain.engine.ids import new_id
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.changes import SHARE, UNSHARE, Changes, Facts, Known, read_known, write
from domain.roster.characteristics import YEAR_GROUP, Characteristic
from domain.roster.enrolments import ENROLMENT, MAIN, Spell
from domain.roster.pupils import PUPIL, Match, match_pupils, settle_schools
from domain.roster.rollover import note_roll
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

    def __post_init__(self) -> None:
        if self.id is UNSET and self.reference is UNSET and self.upn is None:
            raise ValueError("Name the pupil by reference, UPN or id: without one a second sending would make a second child")


class PupilBatch(Input, kw_only=True):
    """A roll, or part of one, as it stood on a day. The year groups given hold from that academic year's 1 September."""

    school: SchoolRef | UnsetType = UNSET
    as_of: date
    entries: list[PupilEntry]


@dataclass
class Row:
    """An entry with its rules applied: canonical UPN, former UPNs and year group, and whom its keys belong to."""

    at: int
    entry: PupilEntry
    school: Reached
    upn: str | None
    former: list[str]
    year_group: str
    matches: list[Match] = field(default_factory=list)

    @property
    def keys(self) -> list[tuple[UUID, str | None, str | None, str | None]]:
        """What to look up: all that names the pupil, then each further former UPN by itself, since it may be another child's."""
        first = " ".join([self.upn or "-", *self.former[:1]])
        own = (self.school.id, self.entry.id or None, self.entry.reference or None, first)
        return [own, *((self.school.id, None, None, f"- {former}") for former in self.former[1:])]

    @property
    def hits(self) -> list[UUID]:
        return list(dict.fromkeys(hit for match in self.matches for hit in match.hits))

    @property
    def pupil_id(self) -> UUID | None:
        return next(iter(self.hits), None)

    @property
    def elsewhere(self) -> Match | None:
        """The match of a pupil whose main school is stored as another one."""
        return next((m for m in self.matches if m.hits and m.school_id != self.school.id), None)

    def takes_over(self, as_of: date) -> bool:
        """Whether the row says that its school is the main one on that day, and no later main spell has begun where the pupil is now."""
        begun = max((spell.from_ for spell in self.entry.enrolments if spell.status in MAIN and spell.covers(as_of)), default=None)
        there = None if self.elsewhere is None else self.elsewhere.open_main_from
        return begun is not None and (there is None or begun >= there)

    def describes(self, match: Match) -> bool:
        """Whether the row knows the child: born the same day, and with the surname or the forename that is stored."""
        mine, theirs = (self.entry.surname, self.entry.forename), (match.surname or "", match.forename or "")
        alike = any(given.casefold() == stored.casefold() for given, stored in zip(mine, theirs, strict=True))
        return alike and self.entry.date_of_birth == match.date_of_birth

    @property
    def is_second(self) -> bool:
        return bool(self.entry.enrolments) and all(spell.status not in MAIN for spell in self.entry.enrolments)


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, Conflict))
async def record_pupils(connection: Connection, caller: Caller, given: Batch[PupilBatch, PupilEntry]) -> Recorded:
    """Record a school's roll, or part of it. The same batch twice changes nothing; absence from a batch removes nobody."""
    try:
        years.academic_year(given.head.as_of)
    except ValueError as problem:
        raise invalid([Issue("/asOf", "as-of-implausible", str(problem))]) from problem
    schools = await settle_schools(connection, caller, Scope.PUPILS_WRITE, given)
    rows = [row for at, entry in given.good() if (row := checked(given, at, entry, schools[at])) is not None]
    if not rows:
        given.check()
        return given.recorded()
    tenant_id = rows[0].school.tenant_id
    counting = Counting(connection, tenant_id)
    await matched(connection, caller, counting, tenant_id, rows)
    rows = await admitted(connection, caller, given, tenant_id, rows)
    rows = identified(given, rows, await visible(connection, tenant_id, rows))
    given.check()
    changes = await taken(connection, tenant_id, rows, given.head.as_of)
    found = [row.pupil_id for row in rows if row.pupil_id is not None]
    known = await read_known(connection, tenant_id, caller.client_id, found)
    for row in rows:
        decide(given, row, known, changes)
    if changes.touched:
        async with counting.of_pupils(changes.touched):
            await write(connection, tenant_id, caller.client_id, changes)
    await note_roll(connection, tenant_id, {row.school.id for row in rows}, given.head.as_of)
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


async def matched(connection: Connection, caller: Caller, counting: Counting, tenant_id: UUID, rows: list[Row]) -> None:
    """Finds whom the rows' keys belong to, and locks: first by what is seen without locks, so that all locks are taken in one order, then again."""
    locked: set[UUID] | None = None
    while True:
        found = iter(await match_pupils(connection, caller, tenant_id, [key for row in rows for key in row.keys]))
        for row in rows:
            row.matches = list(islice(found, len(row.keys)))
        hits = {hit for row in rows for hit in row.hits}
        if locked is not None and hits <= locked:
            return
        await counting.lock({row.school.id for row in rows}, hits)
        locked = hits


def identified(batch: Batch[Any, Any], rows: list[Row], seen_by_client: set[UUID]) -> list[Row]:
    """The rows that name one pupil each; rejects what could be two children, and what the batch says twice."""
    seen: dict[object, int] = {}
    for row in rows:
        if row.entry.id is not UNSET and row.matches[0].by_id is None:
            batch.reject(row.at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
        if len(row.hits) > 1:
            named = " and ".join(str(hit) if hit in seen_by_client else "one out of this client's reach" for hit in row.hits)
            message = f"The keys of this row belong to {len(row.hits)} pupils, {named}. Nothing was merged."
            batch.reject(row.at, "", "pupil-merge-needed", message)
        if row.pupil_id is None and not row.entry.enrolments:
            batch.reject(row.at, "enrolments", "enrolment-required", "A new pupil needs at least one spell on roll.")
        reference = f"reference {row.school.id} {row.entry.reference}" if row.entry.reference is not UNSET else None
        for key in {row.pupil_id, reference, *(f"upn {number}" for number in (row.upn, *row.former) if number)} - {None}:
            if key in seen:
                batch.reject(row.at, "", "duplicate-in-batch", f"This is the same pupil as /entries/{seen[key]}.")
                break
            seen[key] = row.at
    return still_good(batch, rows)


async def visible(connection: Connection, tenant_id: UUID, rows: list[Row]) -> set[UUID]:
    """Which of the pupils the rows' keys belong to are within the caller's reach."""
    hits = [hit for row in rows for hit in row.hits]
    found = await connection.fetch("SELECT id FROM pupils WHERE tenant_id = $1 AND id = ANY ($2)", tenant_id, hits)
    return {each["id"] for each in found}


def still_good(batch: Batch[Any, Any], rows: list[Row]) -> list[Row]:
    good = {at for at, _ in batch.good()}
    return [row for row in rows if row.at in good]


async def admitted(connection: Connection, caller: Caller, batch: Batch[Any, Any], tenant_id: UUID, rows: list[Row]) -> list[Row]:
    """The rows about pupils this client may write of; rejects a claim to a child of a school it does not reach.

    Such a child may be taken only by who knows them (name and date of birth, not the UPN alone, which can be guessed), and only when the other
    school has let go, or says itself, with a main dual spell, that there is a second school.
    """
    away = [(row, match) for row in rows if (match := row.elsewhere) is not None]
    refs = {match.school_id: SchoolRef(id=str(match.school_id)) for _, match in away}
    reached = (
        dict(zip(refs, await find_schools(connection, caller, Scope.PUPILS_WRITE, list(refs.values())), strict=True))
        if refs
        else {}
    )
    pupil_ids = [row.pupil_id for row, _ in away]
    sharing = await connection.fetch(
        "SELECT pupil_id, school_id FROM shared_pupils WHERE tenant_id = $1 AND pupil_id = ANY ($2)", tenant_id, pupil_ids
    )
    shared = {(each["pupil_id"], each["school_id"]) for each in sharing}
    for row, match in away:
        let_go = match.open_main_status == "M" if row.is_second else match.open_main_from is None and bool(row.entry.enrolments)
        if reached[match.school_id] is not None or (row.is_second and (row.pupil_id, row.school.id) in shared):
            continue
        if row.entry.id is not UNSET:
            batch.reject(row.at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
        elif not (let_go and row.describes(match)):
            message = (
                "This is a pupil of another school of the trust. That school must end its main spell, or give it the status M for a second school,"
                " and the name and date of birth must be the same; or a client that reaches both schools sends it."
            )
            batch.reject(row.at, "enrolments", "pupil-elsewhere", message)
    return still_good(batch, rows)


async def taken(connection: Connection, tenant_id: UUID, rows: list[Row], as_of: date) -> Changes:
    """Moves the pupils whose main school a row's is now, and shares those who attend it as well, as long as they do.

    It comes before anything is read of them: row-level security shows them only now.
    """
    changes = Changes()
    away = [(row, row.pupil_id) for row in rows if row.elsewhere is not None and row.pupil_id is not None]
    second = [(pupil_id, row) for row, pupil_id in away if row.is_second]
    for statement, attends in ((SHARE, True), (UNSHARE, False)):
        pairs = [
            (pupil_id, row.school.id) for pupil_id, row in second if attends is any(s.covers(as_of) for s in row.entry.enrolments)
        ]
        if pairs:
            made = await connection.fetch(statement, tenant_id, *zip(*pairs, strict=True))
            changes.shared |= {(row["pupil_id"], row["school_id"]) for row in made}
    arrived: dict[UUID, list[UUID]] = {}
    for row, pupil_id in away:
        if row.takes_over(as_of):
            arrived.setdefault(row.school.id, []).append(pupil_id)
    for school_id, pupil_ids in arrived.items():
        await connection.execute("SELECT move_pupils($1, $2, $3)", tenant_id, pupil_ids, school_id)
        changes.moved.update(pupil_ids)
    return changes


def decide(batch: Batch[PupilBatch, PupilEntry], row: Row, known: Known, changes: Changes) -> None:
    """Compares a row with what is stored, adds the differences to the changes and notes the outcome."""
    entry, school_id = row.entry, row.school.id
    pupil_id = row.pupil_id or new_id(PUPIL)
    before = changes.size()
    if row.elsewhere is None or pupil_id in changes.moved:
        _decide_facts(row, pupil_id, known.facts.get(pupil_id), known, changes, batch.head.as_of)
    if entry.reference is not UNSET and (school_id, entry.reference) not in known.references:
        changes.references.append((school_id, entry.reference, pupil_id))
    for spell in entry.enrolments:
        if known.spells.get((pupil_id, school_id, spell.from_)) != (spell.status, spell.to):
            changes.spells.append((new_id(ENROLMENT), pupil_id, school_id, spell.status, spell.from_, spell.to))
    version = known.versions.get(pupil_id)  # None where this school neither has nor shares the pupil
    if changes.size() == before and pupil_id not in changes.moved and (pupil_id, school_id) not in changes.shared:
        return batch.note(row.at, "unchanged", pupil_id, version)
    changes.touched.add(pupil_id)
    if row.pupil_id is None:
        return batch.note(row.at, "created", pupil_id, 1)
    return batch.note(row.at, "updated", pupil_id, None if version is None else version + 1)


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
    if pupil_id in changes.moved:
        starts = min(spell.from_ for spell in entry.enrolments if spell.status in MAIN and spell.covers(as_of))
        changes.closed += [
            (pupil_id, other, begun, starts) for other, begun in known.open_main.get(pupil_id, []) if other != school_id
        ]
    numbers = known.upns.get(pupil_id, {})
    for former in row.former:
        if former not in numbers:
            changes.upns.append((former, pupil_id, school_id, False))
    if row.upn is not None and numbers.get(row.upn) is not True:
        changes.renewed += [(number, False) for number, current in numbers.items() if current]
        if row.upn in numbers:
            changes.renewed.append((row.upn, True))
        else:
            changes.upns.append((row.upn, pupil_id, school_id, True))
    for kind, value, from_, to in [
        (YEAR_GROUP, row.year_group, year_starts, None),
        *((c.kind, c.value, c.from_, c.to) for c in entry.characteristics),
    ]:
        if known.dated.get((pupil_id, kind, from_)) != (value, to):
            changes.dated.append((pupil_id, kind, from_, school_id, to, value))
