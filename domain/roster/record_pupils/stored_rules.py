"""Rules that a row must meet against what is stored: it is not older, its spells do not overlap those of other years, and
no other school has had the pupil as its own since the same day or later.
"""

from datetime import date
from typing import Any
from uuid import UUID

from msgspec import UNSET

from domain.roster.record_pupils.changes import StoredPupils
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.matching import drop_rejected
from domain.roster.record_pupils.spells import (
    YearRange,
    compare_spells,
    end_in_effect,
    find_characteristics_after,
    make_characteristic_spells,
    make_roll_spells,
)
from domain.store.database import Connection
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch


async def drop_superseded(batch: Batch[Any, Any], rows: list[PupilEntryRow], stored: StoredPupils) -> list[PupilEntryRow]:
    """Returns the rows that are not older than the newest roll that was about their pupil at their school; records the
    outcome of the others.
    """
    current = []
    async for part in iterate_in_slices(rows):
        for row in part:
            said_on = None if row.pupil_id is None else stored.said_on.get((row.pupil_id, row.school.id))
            if row.pupil_id is None or said_on is None or said_on <= row.as_of:
                current.append(row)
            else:
                batch.record_outcome(row.at, "superseded", row.pupil_id, stored.versions.get(row.pupil_id))
    return current


async def reject_overlaps(batch: Batch[Any, Any], rows: list[PupilEntryRow], stored: StoredPupils) -> list[PupilEntryRow]:
    """Returns the rows whose spells do not overlap stored ones of other academic years that stay; rejects the others."""
    async for part in iterate_in_slices(rows):
        for row in part:
            if row.pupil_id is None:
                continue
            year = YearRange.find(row.as_of)
            reject_birth_after_spells(batch, row, stored, row.pupil_id)
            if row.entry.enrolments is not UNSET:
                spells = stored.get_spells(row.pupil_id, row.school.id)
                if compare_spells(spells, make_roll_spells(row.spells), year).has_overlap:
                    message = "A spell overlaps one that is stored here of another academic year. Send that one too, as it was."
                    batch.reject(row.at, "enrolments", "spells-overlap", message)
            if row.entry.characteristics is not UNSET and row.match_at_other_school is None:
                stored_spells = stored.characteristics.get(row.pupil_id, {})
                for kind, said in make_characteristic_spells(row.entry.characteristics).items():
                    if find_characteristics_after(end_in_effect(stored_spells.get(kind, [])), said, year)[1]:
                        message = f"A spell of {kind} overlaps a stored one of another value and academic year. Send that one too."
                        batch.reject(row.at, "characteristics", "spells-overlap", message)
    return drop_rejected(batch, rows)


def reject_birth_after_spells(batch: Batch[Any, Any], row: PupilEntryRow, stored: StoredPupils, pupil_id: UUID) -> None:
    """Rejects a row that corrects the date of birth to a day after the pupil came on roll here, and does not send the
    spells.
    """
    facts, born_on = stored.facts.get(pupil_id), row.entry.date_of_birth
    if facts is None or facts.date_of_birth == born_on or row.entry.enrolments is not UNSET:
        return
    if any(spell.from_on < born_on for spell in stored.get_spells(pupil_id, row.school.id)):
        message = "The pupil was on roll here before this day. Correct the date of birth, or the spells in a roll."
        batch.reject(row.at, "dateOfBirth", "date-of-birth-implausible", message)


_MAIN_ELSEWHERE = "SELECT pupil_id, school_id, from_on, to_on FROM find_main_spells($1, $2)"


async def reject_claims(
    connection: Connection, batch: Batch[Any, Any], tenant_id: UUID, rows: list[PupilEntryRow]
) -> list[PupilEntryRow]:
    """Returns the rows that claim no pupil of another school; rejects a main spell that includes `asOf` where another
    school has a main spell on that day that began on the same day or later.

    So the first of two schools keeps the pupil, night after night, until the other has a later first day.
    """
    claims = [
        (row, row.pupil_id, row.main_from)
        for row in rows
        if row.pupil_id is not None and row.match_at_other_school is not None and row.main_from is not None
    ]
    if not claims:
        return rows
    others: dict[UUID, list[tuple[UUID, date]]] = {}
    as_of: date = batch.head.as_of
    for pupil_id, school_id, from_on, to_on in await connection.fetch(_MAIN_ELSEWHERE, tenant_id, [id_ for _, id_, _ in claims]):
        if from_on <= as_of and (to_on is None or to_on >= as_of):
            others.setdefault(pupil_id, []).append((school_id, from_on))
    for row, pupil_id, main_from in claims:
        if any(school_id != row.school.id and from_on >= main_from for school_id, from_on in others.get(pupil_id, [])):
            message = (
                "Another school of the trust has this pupil on roll since the same day or a later one. It keeps the pupil until its main"
                " spell ends, or this school's begins on a later day."
            )
            batch.reject(row.at, "enrolments", "pupil-elsewhere", message)
    return drop_rejected(batch, rows)
