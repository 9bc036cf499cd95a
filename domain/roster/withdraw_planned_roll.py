"""Withdraws a roll of the coming academic year before its day."""

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Conflict, NotFound
from domain.declare.ids import parse_id
from domain.declare.inputs import Input, Output
from domain.declare.scopes import Scope
from domain.roster.planned_rolls import PLANNED
from domain.roster.record_pupils.planned_stays import give_rows_back
from domain.store.database import Connection
from domain.write.command import command


class PlannedRollRef(Input, kw_only=True):
    """A planned roll by its id."""

    id: str


class PlannedRollWithdrawn(Output, kw_only=True):
    """The roll that is gone, and how many rows it had."""

    id: str
    row_count: int

    @property
    def has_written(self) -> bool:
        return False  # no data version depends on planned rolls


_FIND = f"""
SELECT p.tenant_id, p.state FROM planned_rolls p WHERE p.id = $2 AND {reaches_sql("$1", "p.tenant_id", "p.school_id", "$3")} FOR UPDATE
"""
_DELETE = "DELETE FROM planned_rolls WHERE tenant_id = $1 AND id = $2 RETURNING row_count"


@command(scope=Scope.PUPILS_WRITE, fails=(NotFound, Conflict))
async def withdraw_planned_roll(connection: Connection, caller: Caller, ref: PlannedRollRef) -> PlannedRollWithdrawn:
    """Withdraw a planned roll before its day, with its rows. Rows of earlier rolls that it had replaced stand again."""
    id_ = parse_id(ref.id)
    found = None if id_ is None else await connection.fetchrow(_FIND, caller.client_id, id_, Scope.PUPILS_WRITE.value)
    if found is None or id_ is None:
        raise NotFound()
    if found["state"] != PLANNED:
        message = f"This roll is {found['state']}. Correct what it wrote by a roll of a later day."
        raise Conflict(message, code="planned-roll-done")
    row_count = await connection.fetchval(_DELETE, found["tenant_id"], id_)
    await give_rows_back(connection, found["tenant_id"], [id_])
    return PlannedRollWithdrawn(id=str(id_), row_count=row_count)
