"""Compares the rows of a roll with the stored pupils, and collects the changes to write."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from msgspec import UNSET

from domain.declare.ids import new_id
from domain.declare.type_numbers import PUPIL
from domain.roster.characteristics import YEAR_GROUP
from domain.roster.names import keep_spelling
from domain.roster.record_pupils.changed_identity import remember_changes
from domain.roster.record_pupils.changes import PupilChanges, PupilFacts, StoredPupils
from domain.roster.record_pupils.compare_keys import compare_reference, compare_upns, record_decisions
from domain.roster.record_pupils.entries import PupilBatch, PupilEntry, PupilEntryRow
from domain.roster.record_pupils.spells import (
    YearRange,
    compare_spells,
    end_in_effect,
    find_characteristics_after,
    make_characteristic_spells,
    make_roll_spells,
)
from domain.support import clock
from domain.write.batch import Batch


def compare_with_stored(
    batch: Batch[PupilBatch, PupilEntry],
    row: PupilEntryRow,
    stored: StoredPupils,
    changes: PupilChanges,
    batch_references: Collection[tuple[UUID, str]],
) -> None:
    """Compares a row with what is stored, adds the differences to the changes and records the outcome.

    `batch_references` are the references at each school that stand in the batch, in rejected rows too.
    """
    entry, school_id = row.entry, row.school.id
    pupil_id = row.pupil_id or new_id(PUPIL)
    before = changes.row_count
    if row.is_of_source and stored.said_on.get((pupil_id, school_id)) != row.as_of:
        changes.said_pairs.add((pupil_id, school_id))
    if row.match_at_other_school is None or pupil_id in changes.moved_ids:
        compare_facts(row, pupil_id, stored, changes, keeps_spelling=True)
        record_decisions(batch, row, changes)
    compare_reference(batch, row, pupil_id, stored, changes, batch_references)
    if entry.enrolments is not UNSET:
        compare_row_spells(row, pupil_id, stored, changes)
    version = stored.versions.get(pupil_id)  # None where this school neither has nor shares the pupil
    if changes.row_count == before and pupil_id not in changes.moved_ids and (pupil_id, school_id) not in changes.shared_pairs:
        return batch.record_outcome(row.at, "unchanged", pupil_id, version)
    changes.touched_ids.add(pupil_id)
    if row.pupil_id is None:
        return batch.record_outcome(row.at, "created", pupil_id, 1)
    return batch.record_outcome(row.at, "updated", pupil_id, None if version is None else version + 1)


def compare_facts(
    row: PupilEntryRow, pupil_id: UUID, stored: StoredPupils, changes: PupilChanges, *, keeps_spelling: bool = False
) -> None:
    """Adds the differences in what only the main school may write: names, UPN, year group, characteristics and the
    spells that end elsewhere.

    With `keeps_spelling`, another kind of apostrophe or hyphen in a name is no difference. Names and year group of a
    pupil are those of the source.
    """
    entry, school_id = row.entry, row.school.id
    before = stored.facts.get(pupil_id)
    year = YearRange.find(row.as_of)
    newest_from = stored.find_year_group_from(pupil_id, max(row.as_of, clock.read_today()))
    is_newest = newest_from is None or year.first >= newest_from
    is_kept = before is not None and not row.is_of_source
    year_group = row.year_group if before is None or (is_newest and not is_kept) else before.year_group
    upn = compare_upns(row, pupil_id, None if before is None else before.upn, stored.upns.get(pupil_id, {}), changes)
    facts = PupilFacts(
        school_id=school_id,
        upn=upn,
        date_of_birth=entry.date_of_birth,
        sex=entry.sex,
        year_group=year_group,
        **_find_names(None if is_kept else entry, before, keeps_spelling),
    )
    remember_changes(facts, before, stored.upns.get(pupil_id, {}), confirms_identity=row.confirms_identity)
    if before is None:
        changes.new_pupils[pupil_id] = facts
    elif before != facts:
        changes.changed_pupils[pupil_id] = facts
    if row.main_from is not None and pupil_id in changes.moved_ids:
        for open_school_id, spells in stored.spells.get(pupil_id, {}).items():
            for spell in spells if open_school_id != school_id else ():
                if spell.is_main and spell.to_on is None:
                    changes.ended_spells.append((spell.id, row.main_from, None))
    if not is_kept and stored.year_groups.get(pupil_id, {}).get(year.first) != row.year_group:
        changes.characteristics.append((pupil_id, YEAR_GROUP, year.first, school_id, None, row.year_group))
    if entry.characteristics is not UNSET:
        compare_row_characteristics(row, pupil_id, stored, changes)


def compare_row_spells(row: PupilEntryRow, pupil_id: UUID, stored: StoredPupils, changes: PupilChanges) -> None:
    """Adds the differences in the spells on roll at the row's school."""
    school_id = row.school.id
    compared = compare_spells(stored.get_spells(pupil_id, school_id), make_roll_spells(row.spells), YearRange.find(row.as_of))
    changes.spells += [
        (spell.id, pupil_id, school_id, spell.status, spell.from_on, spell.to_on, spell.leaving_reason)
        for spell in compared.written
    ]
    changes.withdrawn_spells += [(spell.id,) for spell in compared.withdrawn]


def compare_row_characteristics(row: PupilEntryRow, pupil_id: UUID, stored: StoredPupils, changes: PupilChanges) -> None:
    """Adds the differences in characteristics. A kind that the row leaves out is unknown in the row's year, not false."""
    assert row.entry.characteristics is not UNSET
    said, stored_spells = make_characteristic_spells(row.entry.characteristics), stored.characteristics.get(pupil_id, {})
    for kind in {**stored_spells, **said}:
        before = end_in_effect(stored_spells.get(kind, []))
        after, _ = find_characteristics_after(before, said.get(kind, []), YearRange.find(row.as_of))
        if after == before:
            continue
        stored_of, after_of = ({spell.from_on: spell for spell in spells} for spells in (stored_spells.get(kind, []), after))
        for from_on, spell in after_of.items():
            if stored_of.get(from_on) != spell:
                changes.characteristics.append((pupil_id, kind, from_on, row.school.id, spell.to_on, spell.value))
        changes.withdrawn_characteristics += [(pupil_id, kind, from_on) for from_on in stored_of.keys() - after_of.keys()]


def _find_names(entry: PupilEntry | None, before: PupilFacts | None, keeps_spelling: bool) -> dict[str, Any]:
    """Returns the pupil's names from now on. What the entry leaves out stays as it is."""
    names: dict[str, Any] = {}
    for name in ("surname", "forename", "preferred_surname", "preferred_forename"):
        text, stored = getattr(entry, name, UNSET), getattr(before, name, None)
        text = stored if text is UNSET else text
        names[name] = keep_spelling(text, stored) if keeps_spelling else text
    return names
