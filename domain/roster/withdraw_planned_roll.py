"""Withdraws a roll of the coming academic year before its day."""

from msgspec import UNSET

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Conflict, NotFound
from domain.declare.ids import parse_id
from domain.declare.inputs import DryRun, Input, Output
from domain.declare.scopes import Scope
from domain.roster.planned_rolls import PLANNED
from domain.roster.record_pupils.apply_roll import withdraw_roll
from domain.store.database import Connection
from domain.write.command import command


class PlannedRollRef(Input, kw_only=True):
    """A planned roll by its id."""

    id: str


class PlannedRollWithdrawn(Output, kw_only=True):
    """The roll that is gone, and how many rows it had. `restored` are the rows of earlier rolls that stand again; `recorded` are
    those of them that were recorded at once, since the day of their roll has come.
    """

    id: str
    row_count: int
    restored: int
    recorded: int
    dry_run: DryRun = UNSET

    @property
    def has_written(self) -> bool:
        return self.recorded > 0  # no data version depends on planned rolls


_FIND = f"""
SELECT p.tenant_id, p.school_id, p.state, p.row_count FROM planned_rolls p
WHERE p.id = $2 AND p.replaced_by IS NULL AND {reaches_sql("$1", "p.tenant_id", "p.school_id", "$3")} FOR UPDATE
"""


@command(scope=Scope.PUPILS_WRITE, fails=(NotFound, Conflict))
async def withdraw_planned_roll(connection: Connection, caller: Caller, ref: PlannedRollRef) -> PlannedRollWithdrawn:
    """Withdraw a planned roll before its day, with its rows. Earlier rolls and rows that it had replaced stand again.

    What it had replaced of a roll whose day has come is recorded at once, in the name of the client that sent it.
    """
    id_ = parse_id(ref.id)
    found = None if id_ is None else await connection.fetchrow(_FIND, caller.client_id, id_, Scope.PUPILS_WRITE.value)
    if found is None or id_ is None:
        raise NotFound()
    if found["state"] != PLANNED:
        message = f"This roll is {found['state']}. Correct what it wrote by a roll of a later day."
        raise Conflict(message, code="planned-roll-done")
    restored = await withdraw_roll(connection, caller, found["tenant_id"], found["school_id"], id_)
    return PlannedRollWithdrawn(id=str(id_), row_count=found["row_count"], restored=restored.rows, recorded=restored.recorded)
