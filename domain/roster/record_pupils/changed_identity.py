"""Holds back the rows that change a pupil's permanent UPN and surname at once.

A child who is adopted or at risk may get a new UPN and names, and nothing may then lead from the new identity to the
old one (Department for Education, guide to UPNs). Such a row would join both for ever.
"""

from typing import Any

from domain.roster.pupil_keys import StoredIdentity
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.identity import is_same_name, list_differing_facts
from domain.roster.record_pupils.row_problem import UPN
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch

CHANGED = "identity-changed"
MESSAGE = (
    "This row gives the pupil another permanent UPN and another surname. If it is a new identity, use POST /v1/pupils/{id}/new-identity;"
    " if both were wrong, correct one after the other."
)


async def reject_changed_identities(batch: Batch[Any, Any], rows: list[PupilEntryRow]) -> list[PupilEntryRow]:
    """Returns the rows without those that change the permanent UPN and the surname of the pupil whom they mean.

    Such a row has no other issue. Where a key is another pupil's, nobody has a new identity: the keys contradict each
    other.
    """
    changed = {
        row.at
        async for part in iterate_in_slices(rows)
        for row in part
        if row.pupil is not None and len(row.matched_ids) == 1 and _is_changed(row, row.pupil)
    }
    if changed:
        batch.issues[:] = [issue for issue in batch.issues if batch.find_index(issue) not in changed]
        for at in sorted(changed):
            batch.reject(at, "", CHANGED, MESSAGE)
    return [row for row in rows if row.at not in changed]


def _is_changed(row: PupilEntryRow, pupil: StoredIdentity) -> bool:
    return not is_same_name(row.entry.surname, pupil.surname) and UPN in list_differing_facts(row, pupil)
