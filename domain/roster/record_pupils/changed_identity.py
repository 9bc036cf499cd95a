"""Holds back the rows that change a pupil's permanent UPN and surname at once.

A child who is adopted or at risk may get a new UPN and names, and nothing may then lead from the new identity to the
old one (Department for Education, guide to UPNs). Such a row would join both for ever.
"""

from typing import Any
from uuid import UUID

from domain.roster import upn as upn_rules
from domain.roster.names import fold_name
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.store.database import Connection
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch

MESSAGE = (
    "This row gives the pupil another permanent UPN and another surname. If it is a new identity, use POST /v1/pupils/{id}/new-identity;"
    " if both were wrong, correct one after the other."
)
_STORED = "SELECT id, upn, surname FROM read_upns_and_surnames($1, $2)"


async def reject_changed_identities(
    connection: Connection, batch: Batch[Any, Any], tenant_id: UUID, rows: list[PupilEntryRow]
) -> list[PupilEntryRow]:
    """Returns the rows without those that change the permanent UPN and the surname of the one pupil whom their keys match.

    One statement. Such a row has no other issue. Where a key is another pupil's, nobody has a new identity: the keys
    contradict each other.
    """
    named = [row async for part in iterate_in_slices(rows) for row in part if _is_permanent(row.upn) and len(row.matched_ids) == 1]
    ids = {row.matched_ids[0] for row in named}
    stored = {row["id"]: row for row in await connection.fetch(_STORED, tenant_id, list(ids))} if ids else {}
    changed = {row.at for row in named if row.matched_ids[0] in stored and _is_changed(row, stored[row.matched_ids[0]])}
    if changed:
        batch.issues[:] = [issue for issue in batch.issues if batch.find_index(issue) not in changed]
        for at in sorted(changed):
            batch.reject(at, "", "identity-changed", MESSAGE)
    return [row for row in rows if row.at not in changed]


def _is_permanent(upn: str | None) -> bool:
    return upn is not None and not upn_rules.parse_upn(upn).is_temporary


def _is_changed(row: PupilEntryRow, stored: Any) -> bool:
    has_other_upn = _is_permanent(row.upn) and _is_permanent(stored["upn"]) and row.upn != stored["upn"]
    return has_other_upn and fold_name(row.entry.surname) != fold_name(stored["surname"])
