"""Compares the rows of a roll with the stored pupils, and collects the changes to write."""

from uuid import UUID

from msgspec import UNSET

from domain.declare.ids import new_id
from domain.declare.type_numbers import ENROLMENT, PUPIL
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.characteristics import YEAR_GROUP
from domain.roster.enrolments import MAIN
from domain.roster.record_pupils.changes import PupilChanges, PupilFacts, StoredPupils
from domain.roster.record_pupils.entries import PupilBatch, PupilEntry, PupilEntryRow
from domain.write.batch import Batch


def compare_with_stored(
    batch: Batch[PupilBatch, PupilEntry], row: PupilEntryRow, stored: StoredPupils, changes: PupilChanges
) -> None:
    """Compares a row with what is stored, adds the differences to the changes and records the outcome."""
    entry, school_id = row.entry, row.school.id
    pupil_id = row.pupil_id or new_id(PUPIL)
    before = changes.row_count
    if row.match_at_other_school is None or pupil_id in changes.moved_ids:
        compare_facts(row, pupil_id, stored, changes)
    if entry.reference is not UNSET and (school_id, entry.reference) not in stored.references:
        changes.references.append((school_id, entry.reference, pupil_id))
    for spell in entry.enrolments:
        values = (spell.status, spell.to, spell.leaving_reason)
        if stored.spells.get((pupil_id, school_id, spell.from_)) != values:
            changes.spells.append(
                (new_id(ENROLMENT), pupil_id, school_id, spell.status, spell.from_, spell.to, spell.leaving_reason)
            )
    version = stored.versions.get(pupil_id)  # None where this school neither has nor shares the pupil
    if changes.row_count == before and pupil_id not in changes.moved_ids and (pupil_id, school_id) not in changes.shared_pairs:
        return batch.record_outcome(row.at, "unchanged", pupil_id, version)
    changes.touched_ids.add(pupil_id)
    if row.pupil_id is None:
        return batch.record_outcome(row.at, "created", pupil_id, 1)
    return batch.record_outcome(row.at, "updated", pupil_id, None if version is None else version + 1)


def compare_facts(row: PupilEntryRow, pupil_id: UUID, stored: StoredPupils, changes: PupilChanges) -> None:
    """Adds the differences in what only the main school may write: names, UPN, year group, characteristics and the
    spells that end elsewhere.
    """
    entry, school_id = row.entry, row.school.id
    before = stored.facts.get(pupil_id)
    year_starts = years.academic_year_range(years.parse_academic_year(years.academic_year_of(row.as_of)))[0]
    is_newest = year_starts >= stored.year_group_from.get(pupil_id, year_starts)
    year_group = row.year_group if before is None or is_newest else before.year_group
    upn = _compare_upn(row, pupil_id, None if before is None else before.upn, stored.upns.get(pupil_id, {}), changes)
    facts = PupilFacts(school_id, upn, entry.surname, entry.forename, entry.date_of_birth, entry.sex, year_group)
    if before is None:
        changes.new_pupils[pupil_id] = facts
    elif before != facts:
        changes.changed_pupils[pupil_id] = facts
    if row.main_from is not None:
        given_days = {spell.from_ for spell in entry.enrolments}
        for open_school_id, from_on, status in stored.open_spells.get(pupil_id, []):
            is_left = open_school_id != school_id and status in MAIN and pupil_id in changes.moved_ids
            is_replaced = open_school_id == school_id and status not in MAIN and from_on not in given_days
            if is_left or is_replaced:
                changes.ended_spells.append((pupil_id, open_school_id, from_on, row.main_from, None))
    for kind, value, from_, to in [
        (YEAR_GROUP, row.year_group, year_starts, None),
        *((c.kind, c.value, c.from_, c.to) for c in entry.characteristics),
    ]:
        if stored.characteristics.get((pupil_id, kind, from_)) != (value, to):
            changes.characteristics.append((pupil_id, kind, from_, school_id, to, value))


def _compare_upn(
    row: PupilEntryRow, pupil_id: UUID, before: str | None, stored_upns: dict[str, bool], changes: PupilChanges
) -> str | None:
    """Returns the pupil's UPN from now on, and adds the changes: every other UPN that is stored or in the row is a
    former one.

    A temporary UPN never replaces a permanent one (Department for Education, guide to UPNs: it is allocated until the
    permanent one is known). Of two permanent ones the row's is current.
    """
    is_kept = row.upn is None or (
        before is not None and upn_rules.parse_upn(row.upn).is_temporary and not upn_rules.parse_upn(before).is_temporary
    )
    current = before if is_kept else row.upn
    given_upns = dict.fromkeys(number for number in (row.upn, *row.former_upns) if number is not None)
    changes.new_upns += [(number, pupil_id, row.school.id, number == current) for number in given_upns if number not in stored_upns]
    changes.changed_upns += [
        (number, number == current) for number, was_current in stored_upns.items() if was_current is not (number == current)
    ]
    return current
