"""A school's roll in bulk: who is on it, since when, and what is dated about them. The same roll twice changes nothing.

A pupil is matched by id or reference, then UPN, then former UPN; two hits are an error that names both, never a silent merge. Absence from a batch
removes nobody, unless it says that it is complete (leavers.py). A subsidiary or guest school adds its own spell and reference, a former one when and
why its spells ended; the rest of a pupil is the main school's to say.
"""

from datetime import date
from itertools import islice
from typing import Any
from uuid import UUID

from msgspec import UNSET, structs

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, make_invalid
from domain.declare.ids import new_id
from domain.declare.scopes import Scope
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.characteristics import YEAR_GROUP
from domain.roster.enrolments import ENROLMENT, MAIN
from domain.roster.pupils import PUPIL, match_keys, resolve_schools
from domain.roster.record_pupils import leavers
from domain.roster.record_pupils.changes import SHARE, UNSHARE, PupilChanges, PupilFacts, StoredPupils, read_stored, write_changes
from domain.roster.record_pupils.entries import PupilBatch, PupilEntry, PupilEntryRow, apply_rules
from domain.roster.roll_year import record_roll_year
from domain.roster.schools import SchoolInReach, SchoolRef, find_schools
from domain.store.database import Connection
from domain.support.slices import iterate_in_slices
from domain.write import aggregates
from domain.write.batch import Batch, Recorded, Result
from domain.write.command import command
from domain.write.locks import SchoolLocks


class RecordedRoll(Recorded, kw_only=True):
    """What became of a roll; `left` are the pupils whom a complete one took off roll, who are no part of what was received."""

    left: int = 0


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, Conflict))
async def record_pupils(connection: Connection, caller: Caller, given: Batch[PupilBatch, PupilEntry]) -> RecordedRoll:
    """Record a school's roll, or part of it. The same batch twice changes nothing; absence from a batch removes nobody, unless it is complete."""
    return await record_roll(connection, caller, given)


async def record_roll(connection: Connection, caller: Caller, given: Batch[PupilBatch, PupilEntry]) -> RecordedRoll:
    """Writes a roll in the caller's transaction, by itself or as a part of another command's."""
    as_of = given.head.as_of
    try:
        years.academic_year(as_of)
    except ValueError as problem:
        raise make_invalid([Issue("/asOf", "as-of-implausible", str(problem))]) from problem
    schools = await resolve_schools(connection, caller, Scope.PUPILS_WRITE, given)
    whole = await leavers.find_whole_roll_school(connection, caller, given, schools)
    rows = [
        row
        async for part in iterate_in_slices(given.list_good_rows())
        for at, entry in part
        if (row := apply_rules(given, at, entry, schools[at])) is not None
    ]
    tenant_id = next((school.tenant_id for school in (whole, *(row.school for row in rows)) if school is not None), None)
    if tenant_id is None:
        given.refuse_if_strict()
        return summarise(given, [])
    locks = SchoolLocks(connection, tenant_id)
    rolled = await match_and_lock(connection, caller, locks, tenant_id, rows, whole, as_of)
    rows = await reject_pupils_of_other_schools(connection, caller, given, tenant_id, rows)
    rows = await reject_ambiguous(given, rows, await find_visible(connection, caller, tenant_id, rows))
    if whole is not None:
        await leavers.check_named(connection, whole, given, rows)
        rows = remaining_rows(given, rows)
    given.refuse_if_strict()
    gone: list[leavers.OpenSpell] = []
    if whole is not None:
        share = await leavers.read_max_leavers(connection, whole, given.head.max_leavers)
        gone = leavers.find_absent(given, rolled, {row.pupil_id for row in rows}, share)
    changes = await move_and_share_pupils(connection, tenant_id, rows)
    found = [pupil_id async for part in iterate_in_slices(rows) for row in part if (pupil_id := row.pupil_id) is not None]
    known = await read_stored(connection, caller, tenant_id, found)
    async for part in iterate_in_slices(rows):
        for row in part:
            compare_with_stored(given, row, known, changes)
    if whole is not None:
        leavers.record_leavers(changes, whole, as_of, gone)
    if changes.touched:
        async with aggregates.adjust_for_pupils(locks, changes.touched):
            await write_changes(connection, tenant_id, caller.client_id, changes)
    schools_told = {row.school.id for row in rows} | ({whole.id} if whole is not None else set())
    await record_roll_year(connection, tenant_id, schools_told, as_of)
    return summarise(given, gone)


def summarise(batch: Batch[Any, Any], gone: list[leavers.OpenSpell]) -> RecordedRoll:
    """What became of the rows and, after them, of those who left."""
    recorded = batch.summarise()
    left = {spell.pupil_id: None if spell.version is None else spell.version + 1 for spell in gone}
    if recorded.results is not None:
        recorded.results += [Result(at="/complete", outcome="left", id=str(id_), version=version) for id_, version in left.items()]
    return RecordedRoll(**structs.asdict(recorded), left=len(left))


async def match_and_lock(
    connection: Connection,
    caller: Caller,
    locks: SchoolLocks,
    tenant_id: UUID,
    rows: list[PupilEntryRow],
    whole: SchoolInReach | None,
    as_of: date,
) -> list[leavers.OpenSpell]:
    """Finds whom the rows' keys belong to and who is on the roll that is given whole, and locks.

    First by what is seen without locks, so that all locks are taken in one order, then again.
    """
    school_ids = {row.school.id for row in rows} | ({whole.id} if whole is not None else set())
    locked: set[UUID] | None = None
    while True:
        keys = [key async for part in iterate_in_slices(rows) for row in part for key in row.keys]
        found = iter(await match_keys(connection, caller, tenant_id, keys))
        async for part in iterate_in_slices(rows):
            for row in part:
                row.matches = list(islice(found, len(row.keys)))
        rolled = await leavers.read_on_roll(connection, caller, whole, as_of) if whole is not None else []
        hits = {hit async for part in iterate_in_slices(rows) for row in part for hit in row.hits} | {
            spell.pupil_id for spell in rolled
        }
        if locked is not None and hits <= locked:
            return rolled
        await locks.lock(school_ids, hits)
        locked = hits


async def reject_ambiguous(batch: Batch[Any, Any], rows: list[PupilEntryRow], seen_by_client: set[UUID]) -> list[PupilEntryRow]:
    """The rows that name one pupil each; rejects what could be two children, and what the batch says twice."""
    seen: dict[object, int] = {}
    async for part in iterate_in_slices(rows):
        for row in part:
            if row.entry.id is not UNSET and row.matches[0].by_id is None:
                batch.reject(row.at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
            if len(row.hits) > 1:
                named = is_named_in(row.hits, seen_by_client)
                message = f"The keys of this row belong to {len(row.hits)} pupils, {named}. Nothing was merged."
                batch.reject(row.at, "", "pupil-merge-needed", message)
                continue
            if row.is_another_child:
                message = (
                    f"This new reference comes with the UPN of {is_named_in(row.hits, seen_by_client)}, who was born on another day or has another"
                    " forename. Nothing was merged. Correct the UPN; or if it is the same child, name the pupil by id."
                )
                batch.reject(row.at, "upn", "pupil-merge-needed", message)
                continue
            if row.pupil_id is None and not row.entry.enrolments:
                batch.reject(row.at, "enrolments", "enrolment-required", "A new pupil needs at least one spell on roll.")
            reference = f"reference {row.school.id} {row.entry.reference}" if row.entry.reference is not UNSET else None
            for key in {row.pupil_id, reference, *(f"upn {number}" for number in (row.upn, *row.former) if number)} - {None}:
                if key in seen:
                    batch.reject(row.at, "", "duplicate-in-batch", f"This is the same pupil as {batch.make_pointer(seen[key])}.")
                    break
                seen[key] = row.at
    return remaining_rows(batch, rows)


def is_named_in(pupil_ids: list[UUID], seen_by_client: set[UUID]) -> str:
    return " and ".join(str(id_) if id_ in seen_by_client else "one out of this client's reach" for id_ in pupil_ids)


_VISIBLE = f"SELECT p.id FROM pupils p WHERE p.tenant_id = $1 AND p.id = ANY ($2) AND {reaches_pupil_sql('$3', 'p', 'id')}"


async def find_visible(connection: Connection, caller: Caller, tenant_id: UUID, rows: list[PupilEntryRow]) -> set[UUID]:
    """Which of the pupils the rows' keys belong to are within the caller's reach."""
    hits = [hit async for part in iterate_in_slices(rows) for row in part for hit in row.hits]
    found = await connection.fetch(_VISIBLE, tenant_id, hits, caller.client_id)
    return {each["id"] for each in found}


def remaining_rows(batch: Batch[Any, Any], rows: list[PupilEntryRow]) -> list[PupilEntryRow]:
    good = {at for at, _ in batch.list_good_rows()}
    return [row for row in rows if row.at in good]


async def reject_pupils_of_other_schools(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], tenant_id: UUID, rows: list[PupilEntryRow]
) -> list[PupilEntryRow]:
    """The rows about pupils this client may write of; rejects a claim to a child of a school it does not reach.

    Such a child may be taken only by who knows them (name and date of birth, not the UPN alone, which can be guessed), and only when the other
    school has let go, or says itself, with a main dual spell, that there is a second school. A school that has had the child may go on telling
    when and why its own spells ended.
    """
    away = [(row, match) async for part in iterate_in_slices(rows) for row in part if (match := row.elsewhere) is not None]
    if not away:
        return rows
    refs = {match.school_id: SchoolRef(id=str(match.school_id)) for _, match in away}
    reached = dict(zip(refs, await find_schools(connection, caller, Scope.PUPILS_WRITE, list(refs.values())), strict=True))
    pupil_ids = [row.pupil_id for row, _ in away]
    shared = {tuple(each) for each in await connection.fetch(_SHARED, tenant_id, pupil_ids)}
    spells = {tuple(each) for each in await connection.fetch(_SPELLS, tenant_id, pupil_ids)}
    for row, match in away:
        own = {(row.pupil_id, row.school.id, spell.from_, spell.status) for spell in row.entry.enrolments}
        let_go = match.open_main_status == "M" if row.is_second else match.open_main_from is None and bool(row.entry.enrolments)
        if reached[match.school_id] is not None or (row.is_second and (row.pupil_id, row.school.id) in shared):
            continue
        if row.is_former and own <= spells:
            continue
        if row.entry.id is not UNSET:
            batch.reject(row.at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
        elif not (let_go and row.describes(match)):
            message = (
                "This is a pupil of another school of the trust. That school must end its main spell, or give it the status M for a second school,"
                " and the name and date of birth must be the same; or a client that reaches both schools sends it."
            )
            batch.reject(row.at, "enrolments", "pupil-elsewhere", message)
    return remaining_rows(batch, rows)


_SHARED = "SELECT pupil_id, school_id FROM shared_pupils WHERE tenant_id = $1 AND pupil_id = ANY ($2)"
_SPELLS = "SELECT pupil_id, school_id, from_on, status FROM enrolments WHERE tenant_id = $1 AND pupil_id = ANY ($2)"


async def move_and_share_pupils(connection: Connection, tenant_id: UUID, rows: list[PupilEntryRow]) -> PupilChanges:
    """Moves the pupils whose main school a row's is now, and shares those who attend it as well, as long as they do.

    It comes before anything is read of them: row-level security shows them only now.
    """
    changes = PupilChanges()
    away = [(row, row.pupil_id) for row in rows if row.elsewhere is not None and row.pupil_id is not None]
    second = [(pupil_id, row) for row, pupil_id in away if row.is_second or row.is_former]
    for statement, attends in ((SHARE, True), (UNSHARE, False)):
        pairs = [
            (pupil_id, row.school.id)
            for pupil_id, row in second
            if attends is any(spell.covers(row.as_of) for spell in row.entry.enrolments)
        ]
        if pairs:
            made = await connection.fetch(statement, tenant_id, *zip(*pairs, strict=True))
            changes.shared |= {(row["pupil_id"], row["school_id"]) for row in made}
    arrived: dict[UUID, list[UUID]] = {}
    for row, pupil_id in away:
        if row.takes_over:
            arrived.setdefault(row.school.id, []).append(pupil_id)
    for school_id, pupil_ids in arrived.items():
        await connection.execute("SELECT move_pupils($1, $2, $3)", tenant_id, pupil_ids, school_id)
        changes.moved.update(pupil_ids)
    return changes


def compare_with_stored(
    batch: Batch[PupilBatch, PupilEntry], row: PupilEntryRow, known: StoredPupils, changes: PupilChanges
) -> None:
    """Compares a row with what is stored, adds the differences to the changes and notes the outcome."""
    entry, school_id = row.entry, row.school.id
    pupil_id = row.pupil_id or new_id(PUPIL)
    before = changes.size()
    if row.elsewhere is None or pupil_id in changes.moved:
        compare_facts(row, pupil_id, known.facts.get(pupil_id), known, changes)
    if entry.reference is not UNSET and (school_id, entry.reference) not in known.references:
        changes.references.append((school_id, entry.reference, pupil_id))
    for spell in entry.enrolments:
        said = (spell.status, spell.to, spell.leaving_reason)
        if known.spells.get((pupil_id, school_id, spell.from_)) != said:
            changes.spells.append(
                (new_id(ENROLMENT), pupil_id, school_id, spell.status, spell.from_, spell.to, spell.leaving_reason)
            )
    version = known.versions.get(pupil_id)  # None where this school neither has nor shares the pupil
    if changes.size() == before and pupil_id not in changes.moved and (pupil_id, school_id) not in changes.shared:
        return batch.record_outcome(row.at, "unchanged", pupil_id, version)
    changes.touched.add(pupil_id)
    if row.pupil_id is None:
        return batch.record_outcome(row.at, "created", pupil_id, 1)
    return batch.record_outcome(row.at, "updated", pupil_id, None if version is None else version + 1)


def compare_facts(
    row: PupilEntryRow, pupil_id: UUID, stored: PupilFacts | None, known: StoredPupils, changes: PupilChanges
) -> None:
    """What only the main school says: names, UPN, year group, characteristics, and that the pupil is here now."""
    entry, school_id = row.entry, row.school.id
    year_starts = years.academic_year_range(years.parse_academic_year(years.academic_year(row.as_of)))[0]
    latest = year_starts >= known.years.get(pupil_id, year_starts)
    year_group = row.year_group if stored is None or latest else stored.year_group
    upn = _compare_upn(row, pupil_id, stored, known.upns.get(pupil_id, {}), changes)
    facts = PupilFacts(school_id, upn, entry.surname, entry.forename, entry.date_of_birth, entry.sex, year_group)
    if stored is None:
        changes.new[pupil_id] = facts
    elif stored != facts:
        changes.changed[pupil_id] = facts
    if row.main_from is not None:
        told = {spell.from_ for spell in entry.enrolments}
        for other, begun, status in known.open.get(pupil_id, []):
            left = status in MAIN and pupil_id in changes.moved if other != school_id else status not in MAIN and begun not in told
            if left:
                changes.closed.append((pupil_id, other, begun, row.main_from, None))
    for kind, value, from_, to in [
        (YEAR_GROUP, row.year_group, year_starts, None),
        *((c.kind, c.value, c.from_, c.to) for c in entry.characteristics),
    ]:
        if known.dated.get((pupil_id, kind, from_)) != (value, to):
            changes.dated.append((pupil_id, kind, from_, school_id, to, value))


def _compare_upn(
    row: PupilEntryRow, pupil_id: UUID, stored: PupilFacts | None, numbers: dict[str, bool], changes: PupilChanges
) -> str | None:
    """The pupil's UPN from now on; the others that were stored or that the row names are former ones.

    A temporary UPN never takes the place of a permanent one (Department for Education, guide to UPNs: it is given until the permanent one is known).
    Of two permanent ones, which came first is the school's to say.
    """
    before = None if stored is None else stored.upn
    stays = row.upn is None or (
        before is not None and upn_rules.check_upn(row.upn).temporary and not upn_rules.check_upn(before).temporary
    )
    current = before if stays else row.upn
    named = dict.fromkeys(number for number in (row.upn, *row.former) if number is not None)
    changes.upns += [(number, pupil_id, row.school.id, number == current) for number in named if number not in numbers]
    changes.renewed += [(number, number == current) for number, was in numbers.items() if was is not (number == current)]
    return current
