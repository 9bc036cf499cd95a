"""Rows of a client at a school that has named another one as the source of names, enrolments and characteristics.

What they say of these is not written. Where it differs from what is stored, the sender is told and it is listed as a
data issue (`not-source`); everything else of the row is written as ever.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from msgspec import UNSET

from domain.declare.errors import Issue
from domain.roster.characteristics import YEAR_GROUP
from domain.roster.record_pupils.changes import PupilChanges, StoredPupils
from domain.roster.record_pupils.compare import compare_facts, compare_row_spells
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.leavers import OpenSpell
from domain.roster.record_pupils.row_problem import NOT_SOURCE
from domain.roster.school_refs import SchoolInReach
from domain.write.batch import Batch
from domain.write.findings import Finding, get_findings

_NAMES = {
    "surname": "surname",
    "forename": "forename",
    "preferred_surname": "preferredSurname",
    "preferred_forename": "preferredForename",
}
MESSAGE = (
    "This differs and was not written: the school has named another client as the source of names, enrolments and characteristics."
)
NO_LEAVERS = "Nobody was taken off roll: the school has named another client as the source of enrolments."


def report_differences(batch: Batch[Any, Any], row: PupilEntryRow, stored: StoredPupils, *, keeps_spelling: bool = True) -> None:
    """Warns of each field of the row that differs from what is stored and is another client's to write, and reports
    them as a data issue of the pupil.
    """
    if row.pupil_id is None or row.said is None:
        return
    said = replace(row, entry=row.said, said=None)
    fields = tuple(_list_differing(said, row.pupil_id, stored, keeps_spelling))
    for name in fields:
        batch.warn(row.at, name, NOT_SOURCE, MESSAGE)
    if fields:
        get_findings().report(Finding(NOT_SOURCE, row.school.tenant_id, row.school.id, (row.pupil_id,), fields))


def _list_differing(said: PupilEntryRow, pupil_id: UUID, stored: StoredPupils, keeps_spelling: bool) -> Iterator[str]:
    """Yields the fields that the row would change if the source had sent it."""
    changes, before = PupilChanges(), stored.facts.get(pupil_id)
    if said.match_at_other_school is None and before is not None:
        compare_facts(said, pupil_id, stored, changes, keeps_spelling=keeps_spelling)
        after = changes.changed_pupils.get(pupil_id, before)
        yield from (name for column, name in _NAMES.items() if getattr(before, column) != getattr(after, column))
        kinds = {change[1] for change in (*changes.characteristics, *changes.withdrawn_characteristics)}
        if YEAR_GROUP in kinds:
            yield YEAR_GROUP
        if kinds - {YEAR_GROUP}:
            yield "characteristics"
    if said.entry.enrolments is not UNSET:
        compare_row_spells(said, pupil_id, stored, changes)
    if changes.spells or changes.withdrawn_spells:
        yield "enrolments"


def report_leavers(batch: Batch[Any, Any], school: SchoolInReach, absent: list[OpenSpell]) -> None:
    """Warns that a complete roll of a client that is not the source took nobody off roll, and reports whom it left out."""
    for pupil_id in {spell.pupil_id for spell in absent}:
        get_findings().report(Finding(NOT_SOURCE, school.tenant_id, school.id, (pupil_id,), ("enrolments",)))
    if absent:
        batch.warnings.append(Issue("/complete", NOT_SOURCE, NO_LEAVERS))
