"""What the stored data say against the rows of a roll that are refused already, so that one fault hides no other."""

from typing import Any

from domain.access.caller import Caller
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.roster.merged_pupils import tell_merged
from domain.roster.pupil_keys import match_keys
from domain.roster.school_refs import SchoolInReach
from domain.store.database import Connection
from domain.write.batch import Batch


async def reject_unknown_ids(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], schools: dict[int, SchoolInReach]
) -> None:
    """Adds to bad rows that the id which they name a pupil by is no pupil's. At most two statements."""
    rows = [(at, row) for at, row in batch.list_bad_rows() if at in schools and isinstance(getattr(row, "id", None), str)]
    if not rows:
        return
    tenant_id = schools[rows[0][0]].tenant_id
    matches = await match_keys(connection, caller, tenant_id, [(schools[at].id, row.id, None, None) for at, row in rows])
    for (at, _), match in zip(rows, matches, strict=True):
        if match.by_id is None:
            batch.reject(at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
    named = {at: id_ for at, row in rows if (id_ := parse_id(row.id)) is not None}
    await tell_merged(connection, caller, batch, named, Scope.PUPILS_READ)
