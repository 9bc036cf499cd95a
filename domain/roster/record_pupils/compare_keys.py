"""Compares the UPNs and the reference of a row of a roll with those stored of its pupil, and collects the changes."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from msgspec import UNSET

from domain.roster.record_pupils.changes import PupilChanges, StoredPupils
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.identity import is_wholly_same, list_contradictions
from domain.roster.record_pupils.row_problem import SURNAME, UPN
from domain.roster.upn import is_temporary
from domain.write.batch import Batch

RELEASED = "This UPN was recorded for another pupil before, in error. It was taken from that pupil, and is this one's now."
REFERENCE_REPLACED = (
    "The pupil had another reference at this school. This one replaces it, since UPN, names, sex and date of birth agree."
)


def compare_upns(
    row: PupilEntryRow, pupil_id: UUID, before: str | None, stored_upns: dict[str, bool], changes: PupilChanges
) -> str | None:
    """Returns the pupil's UPN from now on, and adds the changes: every other UPN that is stored or in the row is a
    former one.

    A temporary UPN never replaces a permanent one (Department for Education, guide to UPNs: it is allocated until the
    permanent one is known). Of two permanent ones the row's is current.
    """
    is_kept = row.upn is None or (before is not None and is_temporary(row.upn) and not is_temporary(before))
    current = before if is_kept else row.upn
    row_upns = dict.fromkeys(number for number in (row.upn, *row.former_upns_to_record) if number is not None)
    changes.released_upns += [(number, owner_id, row.taken_from is None) for number, owner_id in row.released_upns]
    changes.new_upns += [(number, pupil_id, row.school.id, number == current) for number in row_upns if number not in stored_upns]
    changes.changed_upns += [
        (number, pupil_id, number == current)
        for number, was_current in stored_upns.items()
        if was_current is not (number == current)
    ]
    return current


def record_decisions(batch: Batch[Any, Any], row: PupilEntryRow, changes: PupilChanges) -> None:
    """Warns of the UPNs that the row takes from other pupils, and keeps in history that a person said that it is the
    same child.
    """
    if row.released_upns:
        batch.warn(row.at, "upn", "upn-released", RELEASED)
    if row.entry.same_child and row.pupil is not None:
        facts = list_contradictions(row, row.pupil)
        if row.confirms_identity:
            facts += [fact for fact in (UPN, SURNAME) if fact not in facts]
        if len(facts) > 1:
            actor = None if row.entry.actor is UNSET else row.entry.actor
            changes.decisions.append((row.pupil.id, "same child", " ".join(facts), actor, row.school.id))


def compare_reference(
    batch: Batch[Any, Any],
    row: PupilEntryRow,
    pupil_id: UUID,
    stored: StoredPupils,
    changes: PupilChanges,
    batch_references: Collection[tuple[UUID, str]],
) -> None:
    """Adds a new reference. It replaces the pupil's others at the school where permanent UPN, whole name, sex and birthday
    agree and none of the others stands in the batch; elsewhere it stands beside them.
    """
    reference, school_id = row.entry.reference, row.school.id
    references = stored.references.get((pupil_id, school_id), set())
    if reference is UNSET or reference in references:
        return
    changes.references.append((school_id, reference, pupil_id))
    if (
        references
        and row.pupil is not None
        and row.upn is not None
        and not is_temporary(row.upn)
        and row.upn == row.pupil.upn
        and is_wholly_same(row, row.pupil)
        and not any((school_id, other) in batch_references for other in references)
    ):
        changes.ended_references += [(school_id, other) for other in references]
        changes.decisions.append((pupil_id, "reference replaced", None, None, school_id))
        batch.warn(row.at, "reference", "reference-replaced", REFERENCE_REPLACED)
