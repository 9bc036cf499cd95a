"""Holds back the rows that change a pupil's permanent UPN and surname, at once or in two steps.

A child who is adopted or at risk may get a new UPN and names, and nothing may then lead from the new identity to the
old one (Department for Education, guide to UPNs). Such a row would join both for ever.

A system may send the new surname one night and the new UPN another. So a pupil remembers a change of each until the end
of the next academic year; a person may say that it is the same child.
"""

from datetime import date
from typing import Any

from domain.roster.pupil_keys import StoredIdentity
from domain.roster.record_pupils.changes import PupilFacts
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.identity import has_other_upn, is_same_name, list_differing_facts
from domain.roster.record_pupils.row_problem import UPN
from domain.support import clock
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch

CHANGED = "identity-changed"
MESSAGE = (
    "With this row the pupil has another permanent UPN and another surname, at once or since a change of the last two academic years."
    " If it is a new identity, use POST /v1/pupils/{id}/new-identity; if both were wrong, send the pupil's id with sameChild."
)


async def reject_changed_identities(batch: Batch[Any, Any], rows: list[PupilEntryRow]) -> list[PupilEntryRow]:
    """Returns the rows without those that change the permanent UPN and the surname of the pupil whom they mean, unless a
    person says that it is the same child.

    Such a row has no other issue. Where a key is another pupil's, nobody has a new identity: the keys contradict each
    other.
    """
    changed = set()
    async for part in iterate_in_slices(rows):
        for row in part:
            if row.pupil is not None and len(row.matched_ids) == 1 and _is_changed(row, row.pupil):
                if row.entry.same_child:
                    row.confirms_identity = True
                else:
                    changed.add(row.at)
    if changed:
        batch.take_back(changed)
        for at in sorted(changed):
            batch.reject_alone(at, "", CHANGED, MESSAGE)
    return [row for row in rows if row.at not in changed]


def _is_changed(row: PupilEntryRow, pupil: StoredIdentity) -> bool:
    has_other_surname = not is_same_name(row.entry.surname, pupil.surname)
    has_other_number = UPN in list_differing_facts(row, pupil)
    if has_other_surname and has_other_number:
        return True
    if not row.writes_facts:  # a second school's system may still have what the main school has corrected
        return False
    surname = row.entry.surname if row.is_of_source else pupil.surname
    if has_other_number and pupil.former_surname is not None and is_remembered(pupil.surname_changed_on):
        return not is_same_name(surname, pupil.former_surname)
    return not is_same_name(surname, pupil.surname) and is_remembered(pupil.upn_changed_on)


def is_remembered(changed_on: date | None) -> bool:
    """Whether a change was in this academic year or the one before."""
    first = date(clock.find_start_year(clock.read_today()) - 1, clock.FIRST_MONTH_OF_YEAR, 1)
    return changed_on is not None and changed_on >= first


def remember_changes(
    facts: PupilFacts, before: PupilFacts | None, stored_upns: dict[str, bool], *, confirms_identity: bool = False
) -> None:
    """Sets in the facts when surname and permanent UPN changed, and which surname there was before. A surname or UPN that
    comes back was not changed, and what a person has confirmed is settled.
    """
    if before is None or confirms_identity:
        return
    facts.former_surname, facts.surname_changed_on = before.former_surname, before.surname_changed_on
    facts.upn_changed_on = before.upn_changed_on
    if not is_same_name(facts.surname, before.surname):
        is_first = before.former_surname is None or not is_remembered(before.surname_changed_on)
        former = before.surname if is_first or before.former_surname is None else before.former_surname
        has_returned = is_same_name(facts.surname, former)
        facts.former_surname = None if has_returned else former
        facts.surname_changed_on = None if has_returned else clock.read_today()
    if has_other_upn(facts.upn, before.upn, stored_upns):
        facts.upn_changed_on = None if facts.upn in stored_upns else clock.read_today()
