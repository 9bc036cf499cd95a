"""One pupil corrected by the school of main registration: a roll of one, whose fields left out are what is stored.

The rules are those of a roll, and so is the writing: UPN and year group keep their history.
"""

from dataclasses import replace
from datetime import date
from typing import Literal

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Invalid, Issue, NotFound, Stale, make_invalid
from domain.declare.scopes import Scope
from domain.roster.record_pupils.changes import PupilChanges, PupilFacts, read_stored, write_changes
from domain.roster.record_pupils.command import compare_facts, find_visible, match_and_lock, reject_ambiguous
from domain.roster.record_pupils.entries import Name, PupilBatch, PupilEntry, PupilEntryRow, apply_rules
from domain.roster.schools import SchoolInReach, SchoolRef, find_schools
from domain.store.database import Connection
from domain.write import aggregates
from domain.write.batch import Batch
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.patch import Changed, Patch, PatchInput


class PupilChange(PatchInput, kw_only=True):
    """What is to change of a pupil. A year group holds from this academic year's 1 September; null takes the UPN away."""

    surname: Name | UnsetType = UNSET
    forename: Name | UnsetType = UNSET
    date_of_birth: date | UnsetType = UNSET
    sex: Literal["F", "M"] | UnsetType = UNSET
    upn: str | UnsetType | None = UNSET
    year_group: str | UnsetType = UNSET


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, Stale))
async def update_pupil(connection: Connection, caller: Caller, given: Patch[PupilChange]) -> Changed:
    """Correct what is known of a pupil whose main registration is at a school within reach."""
    school = await _main_school(connection, caller, given)
    locks = SchoolLocks(connection, school.tenant_id)
    await locks.lock([school.id], [given.id])
    known = await read_stored(connection, caller, school.tenant_id, [given.id])
    stored = known.facts.get(given.id)
    if stored is None or stored.school_id != school.id:  # it has moved since it was found
        raise NotFound()
    version = known.versions[given.id]
    given.check_version(version)
    today: date = await connection.fetchval("SELECT current_date")
    row = await _as_roll(connection, caller, locks, school, stored, given, today)
    said_for = known.years.get(given.id, today)
    changes = PupilChanges()
    # the year group that is stored holds since when it was said; another one takes its place from this year on
    row.as_of = said_for if row.year_group == stored.year_group else max(said_for, today)
    compare_facts(row, given.id, stored, known, changes)
    if given.fields.upn is None and stored.upn is not None:  # a roll that gives no UPN keeps it
        changes.changed[given.id] = replace(changes.changed.get(given.id, stored), upn=None)
        changes.renewed.append((stored.upn, False))
    if not changes.size():
        return given.make_result("unchanged", version)
    changes.touched.add(given.id)
    async with aggregates.adjust_for_pupils(locks, changes.touched):
        await write_changes(connection, school.tenant_id, caller.client_id, changes)
    return given.make_result("updated", version + 1)


_MAIN_SCHOOL = f"SELECT p.school_id FROM pupils p WHERE p.id = $2 AND {reaches_sql('$1', 'p.tenant_id', 'p.school_id', '$3')}"


async def _main_school(connection: Connection, caller: Caller, given: Patch[PupilChange]) -> SchoolInReach:
    school_id = await connection.fetchval(_MAIN_SCHOOL, caller.client_id, given.id, Scope.PUPILS_WRITE.value)
    if school_id is None:
        raise NotFound()
    (school,) = await find_schools(connection, caller, Scope.PUPILS_WRITE, [SchoolRef(id=str(school_id))])
    if school is None:
        raise NotFound()
    return school


async def _as_roll(
    connection: Connection,
    caller: Caller,
    locks: SchoolLocks,
    school: SchoolInReach,
    stored: PupilFacts,
    given: Patch[PupilChange],
    today: date,
) -> PupilEntryRow:
    """The pupil as the row of a roll, with a roll's rules applied; raises Invalid with every issue, named by its place in the change."""
    upn = None if given.fields.upn is UNSET else given.fields.upn
    entry = PupilEntry(id=str(given.id), **given.merge_over(vars(stored)) | {"upn": upn})
    roll: Batch[PupilBatch, PupilEntry] = Batch(PupilBatch(as_of=today, entries=[]), [(0, entry)], 1)
    row = apply_rules(roll, 0, entry, school)
    if row is not None:
        await match_and_lock(connection, caller, locks, school.tenant_id, [row], None, today)
        await reject_ambiguous(roll, [row], await find_visible(connection, caller, school.tenant_id, [row]))
    if roll.issues or row is None:
        # what is said of the whole row is said of its keys, and the only one given is the UPN
        places = [(issue, issue.at.removeprefix("/entries/0") or "/upn") for issue in roll.issues]
        raise make_invalid([Issue(at, issue.code, issue.message) for issue, at in places])
    return row
