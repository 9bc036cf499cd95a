"""Says that two records which seem to be one child are of two children, and takes that back.

The word ends the data issue of kind possible-same-child, and outlives every batch that is sent again. It is about the names,
sex and date of birth that both had: if these change, and are the same again in another form, the pair is another question.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Invalid, Issue, NotFound, PupilMerged, make_invalid
from domain.declare.ids import parse_id
from domain.declare.inputs import DryRun, Input, Output, Text, describe
from domain.declare.scopes import Scope
from domain.roster.merged_pupils import find_replacements, make_not_found
from domain.store.database import Connection
from domain.write.action import Action
from domain.write.command import command
from domain.write.locks import SchoolLocks


class ChildrenDistinction(Input, kw_only=True):
    """The other record, and who says that it is another child's."""

    other_id: Annotated[str, describe("Id of the record that is another child's.")]
    different: Annotated[bool, describe("False takes back what was said before.")] = True
    actor: Annotated[
        Text | UnsetType, describe("Who says it, as the sender knows them: a staff code. Kept in the history of both.")
    ] = UNSET


class ChildrenDistinguished(Output, kw_only=True):
    """The two records, and whether the word was said, withdrawn or, where it holds already, is unchanged."""

    id: str
    other_id: str
    outcome: Literal["said", "withdrawn", "unchanged"]
    dry_run: DryRun = UNSET

    @property
    def has_written(self) -> bool:
        return self.outcome != "unchanged"


_FIND = f"""
SELECT p.id, p.tenant_id, p.school_id, p.surname_folded, p.forename_folded, p.date_of_birth, p.sex FROM pupils p
WHERE p.id = ANY ($2::uuid[]) AND {reaches_sql("$1", "p.tenant_id", "p.school_id", "$3")}
"""
_FACTS = ("tenant_id", "surname_folded", "forename_folded", "date_of_birth", "sex")
_SAY = "SELECT say_different_children($1, $2, $3, $4, $5, $6, $7)"


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, PupilMerged))
async def distinguish_pupil(connection: Connection, caller: Caller, action: Action[ChildrenDistinction]) -> ChildrenDistinguished:
    """Say that two records with the same names, sex and date of birth are two children, or take that back.

    It needs pupils:write at the main school of both. It ends the data issue of kind possible-same-child for as long as these facts are as they are.
    """
    fields = action.fields
    other_id = parse_id(fields.other_id)
    if other_id == action.id:
        raise _refuse("wrong-value", "Name another record than that of the URL.")
    records = await _find(connection, caller, action.id, other_id)
    locks = SchoolLocks(connection, records[action.id]["tenant_id"])
    await locks.lock({record["school_id"] for record in records.values()}, list(records))
    records = await _find(connection, caller, action.id, other_id)
    one, two = (records[id_] for id_ in records)
    if fields.different and any(one[name] != two[name] for name in _FACTS):
        raise _refuse(
            "not-alike", "The names, sex and date of birth of the two differ already, so that nobody takes them for one child."
        )
    actor = None if fields.actor is UNSET else fields.actor
    ids = (action.id, UUID(str(other_id)))
    school_id = records[action.id]["school_id"]
    has_written = await connection.fetchval(_SAY, one["tenant_id"], *ids, fields.different, caller.client_id, actor, school_id)
    outcome: Literal["said", "withdrawn"] = "said" if fields.different else "withdrawn"
    return ChildrenDistinguished(id=str(ids[0]), other_id=str(ids[1]), outcome=outcome if has_written else "unchanged")


async def _find(connection: Connection, caller: Caller, pupil_id: UUID, other_id: UUID | None) -> dict[UUID, Any]:
    """Returns both records by their ids. Raises what is wrong with the ids."""
    named = [pupil_id] if other_id is None else [pupil_id, other_id]
    rows = await connection.fetch(_FIND, caller.client_id, named, Scope.PUPILS_WRITE.value)
    records = {row["id"]: row for row in rows}
    if pupil_id not in records:
        raise await make_not_found(connection, caller, pupil_id, Scope.PUPILS_WRITE)
    if other_id is None or other_id not in records:
        merged = {} if other_id is None else await find_replacements(connection, caller, [other_id], Scope.PUPILS_WRITE)
        if other_id in merged:
            raise _refuse("pupil-merged", f"This pupil was merged into {merged[other_id]}. Use that id.")
        raise _refuse("pupil-not-found", "No pupil within reach has this id.")
    return records


def _refuse(code: str, message: str) -> Invalid:
    return make_invalid([Issue("/otherId", code, message)])
