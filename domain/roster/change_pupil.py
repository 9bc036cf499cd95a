"""Changes one pupil, for the school of main registration.

The patch is treated as a roll of one row whose other fields are as stored: the rules and the writing are the same, so
UPN and year group keep their history. It is said today: a roll of an earlier day does not undo it.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import date
from typing import Literal
from uuid import UUID

from msgspec import UNSET, UnsetType, structs

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Invalid, Issue, NotFound, PupilMerged, Stale
from domain.declare.inputs import Name
from domain.declare.scopes import Scope
from domain.roster.data_issues import SAME_CHILD
from domain.roster.merged_pupils import make_not_found
from domain.roster.record_pupils.changed_identity import reject_changed_identities
from domain.roster.record_pupils.changes import PupilChanges, StoredPupils, read_stored, record_said, write_changes
from domain.roster.record_pupils.compare import compare_facts
from domain.roster.record_pupils.compare_keys import record_decisions
from domain.roster.record_pupils.dates import check_age, find_new_age_problem, find_school_day
from domain.roster.record_pupils.doubts import report_doubts, tell_same_children
from domain.roster.record_pupils.entries import (
    PupilBatch,
    PupilEntry,
    PupilEntryRow,
    SaidBy,
    SameChild,
    apply_rules,
    check_actor,
)
from domain.roster.record_pupils.matching import match_and_lock, reject_ambiguous
from domain.roster.record_pupils.refused_rows import check_refused_rows
from domain.roster.record_pupils.retired_rows import list_identifiers
from domain.roster.record_pupils.row_problem import CONFLICT
from domain.roster.record_pupils.source import report_differences
from domain.roster.record_pupils.stored_rules import reject_birth_after_spells
from domain.roster.retired import reject_retired
from domain.roster.school_refs import SchoolInReach, SchoolRef, find_schools
from domain.roster.upn import UpnText
from domain.roster.years import YearGroupText, parse_year_group
from domain.store.database import Connection
from domain.support import clock
from domain.write.aggregates import adjust_for_pupils
from domain.write.batch import Batch
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import UNREADABLE, copy_fields
from domain.write.patch import Changed, Patch, PatchInput


class PupilChange(PatchInput, kw_only=True):
    """Fields to change. A year group holds from this academic year's 1 September; null removes the UPN or a preferred name."""

    rules = (check_actor,)

    surname: Name | UnsetType = UNSET
    forename: Name | UnsetType = UNSET
    preferred_surname: Name | UnsetType | None = UNSET
    preferred_forename: Name | UnsetType | None = UNSET
    date_of_birth: date | UnsetType = UNSET
    sex: Literal["F", "M"] | UnsetType = UNSET
    upn: UpnText | UnsetType | None = UNSET
    year_group: YearGroupText | UnsetType = UNSET
    same_child: SameChild = False
    actor: SaidBy = UNSET


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, PupilMerged, Stale))
async def update_pupil(connection: Connection, caller: Caller, patch: Patch[PupilChange]) -> Changed:
    """Correct a pupil whose main registration is at a school within reach."""
    school = await _find_main_school(connection, caller, patch)
    locks = SchoolLocks(connection, school.tenant_id)
    await locks.lock([school.id], [patch.id])
    stored = await read_stored(connection, caller, school.tenant_id, [patch.id])
    facts = stored.facts.get(patch.id)
    if facts is None or facts.school_id != school.id:  # the pupil has moved since
        raise await make_not_found(connection, caller, patch.id, Scope.PUPILS_WRITE)
    version = stored.versions[patch.id]
    today, checks = clock.read_today(), Checks()
    roll: Batch[PupilBatch, PupilEntry] = Batch(PupilBatch(as_of=today, entries=[]), [], 1)
    with checks.attempt():
        patch.check_version(version)
    row = await _make_row(connection, caller, locks, school, stored, patch, roll)
    if roll.issues or row is None:
        checks.add(*_point_into_patch(roll.issues))
        checks.refuse()
    checks.refuse_if_any()
    year_group_from = stored.find_year_group_from(patch.id, today) or today
    changes = PupilChanges()
    # the stored year group keeps its first day; another one replaces it from this academic year on
    row.as_of = year_group_from if row.year_group == facts.year_group else max(year_group_from, today)
    report_differences(roll, row, stored, keeps_spelling=False)
    compare_facts(row, patch.id, stored, changes)
    record_decisions(roll, row, changes)
    if patch.fields.upn is None and facts.upn is not None:  # in a roll, a row without a UPN keeps the stored one
        changes.changed_pupils[patch.id] = replace(changes.changed_pupils.get(patch.id, facts), upn=None)
        changes.changed_upns.append((facts.upn, patch.id, False))
    if row.is_of_source:
        await record_said(connection, school.tenant_id, {(patch.id, school.id)}, today)
    if not changes.row_count:
        return patch.make_result("unchanged", version, _point_into_patch(roll.list_warnings()))
    changes.touched_ids.add(patch.id)
    async with adjust_for_pupils(locks, changes.touched_ids):
        await write_changes(connection, school.tenant_id, caller.client_id, changes)
    for message in (await tell_same_children(connection, caller, school.tenant_id, changes)).values():
        roll.warn(row.at, "", SAME_CHILD, message)
    return patch.make_result("updated", version + 1, _point_into_patch(roll.list_warnings()))


_MAIN_SCHOOL = f"SELECT p.school_id FROM pupils p WHERE p.id = $2 AND {reaches_sql('$1', 'p.tenant_id', 'p.school_id', '$3')}"


async def _find_main_school(connection: Connection, caller: Caller, patch: Patch[PupilChange]) -> SchoolInReach:
    school_id = await connection.fetchval(_MAIN_SCHOOL, caller.client_id, patch.id, Scope.PUPILS_WRITE.value)
    if school_id is None:
        raise await make_not_found(connection, caller, patch.id, Scope.PUPILS_WRITE)
    (school,) = await find_schools(connection, caller, Scope.PUPILS_WRITE, [SchoolRef(id=str(school_id))])
    if school is None:
        raise NotFound()
    return school


async def _make_row(
    connection: Connection,
    caller: Caller,
    locks: SchoolLocks,
    school: SchoolInReach,
    stored: StoredPupils,
    patch: Patch[PupilChange],
    roll: Batch[PupilBatch, PupilEntry],
) -> PupilEntryRow | None:
    """Returns the patched pupil as the row of a roll, with its issues and warnings in `roll`; None where it does not meet a
    roll's rules.
    """
    facts = stored.facts[patch.id]
    upn = getattr(patch.fields, "upn", UNREADABLE)
    merged = patch.merge_over(vars(facts) | {"actor": UNSET}) | {"upn": None if upn is UNSET else upn}
    entry = copy_fields(patch.fields, PupilEntry, **merged, id=str(patch.id))
    roll.add_row(0, entry)
    row = apply_rules(roll, 0, entry, school, checks_age=False)
    if row is not None:
        _check_birthday(roll, row, stored, patch.id)
        if await reject_retired(connection, roll, school.tenant_id, list_identifiers(caller.client_id, [row])):
            return None  # nothing more is said of such a row
        await match_and_lock(connection, caller, locks, school.tenant_id, [row], None, roll.head.as_of)
        rows = await reject_changed_identities(roll, [row])
        await reject_ambiguous(connection, caller, roll, school.tenant_id, rows)
        report_doubts(roll, school.tenant_id, [row])
        return row
    for refused in await check_refused_rows(connection, caller, roll, {0: school}, []):
        year_text = merged["year_group"]
        with suppress(ValueError):
            if UNREADABLE not in (merged["date_of_birth"], year_text):
                refused.year_group = parse_year_group(year_text)
                _check_birthday(roll, refused, stored, patch.id)
    return None


def _point_into_patch(issues: list[Issue]) -> list[Issue]:
    """Returns the issues of the row with pointers into the patch. What is wrong with the whole row is about its keys, and
    the UPN is the only key in a patch; but two facts that differ are the patch itself.
    """

    def find_pointer(issue: Issue) -> str:
        return issue.at.removeprefix("/entries/0") or ("" if issue.code in (CONFLICT, SAME_CHILD) else "/upn")

    return [structs.replace(issue, at=find_pointer(issue)) for issue in issues]


def _check_birthday(roll: Batch[PupilBatch, PupilEntry], row: PupilEntryRow, stored: StoredPupils, pupil_id: UUID) -> None:
    """Rejects the row, or warns, where the date of birth or the year group makes the age less likely than it is stored,
    or the pupil was on roll before birth. What was wrong before may be corrected in steps.
    """
    facts, day = stored.facts[pupil_id], row.as_of
    if row.year_group == facts.year_group:  # of a leaver, a year group of long ago
        day = stored.find_year_group_from(pupil_id, day) or day
    day = find_school_day(((spell.from_on, spell.to_on) for of in stored.spells.get(pupil_id, {}).values() for spell in of), day)
    before, after = (facts.date_of_birth, facts.year_group), (row.entry.date_of_birth, row.year_group)
    check_age(roll, 0, find_new_age_problem(before, after, day))
    reject_birth_after_spells(roll, row, stored, pupil_id)
