"""Records a planned roll within a transaction, and lets what a roll had replaced stand again.

A row that was set aside for a later roll outlives its own roll: if the later one is withdrawn or refused after the day of
the earlier one, the row is recorded then, as a roll of that day.
"""

import hashlib
import json
from typing import Any, NamedTuple
from uuid import UUID

from domain.access.caller import Caller
from domain.declare.errors import Busy, DomainError
from domain.declare.ids import new_id, parse_id
from domain.declare.scopes import Scope
from domain.declare.type_numbers import PLANNED_ROLL
from domain.roster.planned_rolls import REFUSED
from domain.roster.record_pupils import planned_stays
from domain.roster.record_pupils.command import record_pupils, write_roll
from domain.roster.record_pupils.plan import Rolls
from domain.roster.record_pupils.recorded_roll import RecordedRoll
from domain.store.database import Connection
from domain.store.ledger_notes import collect_notes, note
from domain.support import clock

ENDED = "grant-ended"
"""The problem of a roll that was refused for its client's grants."""


class DueRoll(NamedTuple):
    """A planned roll whose day has come."""

    tenant_id: UUID
    id: UUID
    client_id: UUID

    @property
    def caller(self) -> Caller:
        """The client that sent it, with the scope that it needs."""
        return Caller(self.client_id, frozenset({Scope.PUPILS_WRITE.value}))


class RollGone(Exception):
    """The roll was applied or withdrawn meanwhile, or its client no longer reaches the school."""


class Restored(NamedTuple):
    """How many rows stand again, and how many of them were recorded at once, since the day of their roll has come."""

    rows: int
    recorded: int


_ROLL = """
SELECT school_id, as_of, complete, max_leavers FROM planned_rolls
WHERE tenant_id = $1 AND id = $2 AND state = 'planned' AND replaced_by IS NULL
"""
_ROWS = """
SELECT entry::text AS entry FROM planned_pupils WHERE tenant_id = $1 AND planned_roll_id = $2 AND replaced_by = '{}' ORDER BY n
"""
_LOCK = "SELECT 1 FROM planned_rolls WHERE tenant_id = $1 AND id = $2 AND state = 'planned' AND replaced_by IS NULL FOR UPDATE"
_REFUSE = """
UPDATE planned_rolls SET state = $3, problem = $4, done_at = clock_timestamp()
WHERE tenant_id = $1 AND id = $2 AND state = 'planned' AND replaced_by IS NULL RETURNING 1
"""
_FINISH = """
UPDATE planned_rolls SET state = 'applied', done_at = clock_timestamp(), issue_codes = $3, created = $4, updated = $5, unchanged = $6,
    superseded = $7, rejected = $8, leavers = $9
WHERE tenant_id = $1 AND id = $2
"""


async def read_roll(connection: Connection, roll: DueRoll) -> Rolls:
    """Returns the roll as it was sent, without rows that a later one says instead. Raises RollGone."""
    head = await connection.fetchrow(_ROLL, roll.tenant_id, roll.id)
    if head is None:
        raise RollGone
    entries = [json.loads(row["entry"]) for row in await connection.fetch(_ROWS, roll.tenant_id, roll.id)]
    data: dict[str, Any] = {"school": {"id": str(head["school_id"])}, "asOf": str(head["as_of"]), "complete": head["complete"]}
    if head["max_leavers"] is not None:
        data["maxLeavers"] = head["max_leavers"]
    batch: Rolls = record_pupils.parse(data | {"entries": entries}, lenient=True)
    return batch


async def write_planned(connection: Connection, caller: Caller, batch: Rolls, *, roll: DueRoll) -> RecordedRoll:
    """Records the roll, and what became of it. Its rows are deleted, but those that stand again if a later roll is withdrawn.

    Raises RollGone.
    """
    if await connection.fetchval(_LOCK, roll.tenant_id, roll.id) is None:
        raise RollGone
    key = (roll.tenant_id, roll.id)
    stays = await planned_stays.find_stays(connection, caller, *key)
    recorded: RecordedRoll = await write_roll(connection, caller, batch, planned_stays=stays)
    pupil_ids = {id_ for result in batch.results.values() if (id_ := parse_id(result.id or "")) is not None}
    await planned_stays.keep_pupils(connection, *key, pupil_ids)
    rejected, codes = await planned_stays.count_rejected(connection, *key)
    codes |= {issue.code for issue in batch.issues}
    counts = (
        recorded.created,
        recorded.updated,
        recorded.unchanged,
        recorded.superseded,
        recorded.rejected + rejected,
        recorded.left,
    )
    await connection.execute(_FINISH, *key, sorted(codes), *counts)
    await planned_stays.delete_rows(connection, *key)
    return recorded


async def refuse_roll(connection: Connection, tenant_id: UUID, roll_id: UUID, code: str) -> None:
    """Notes why a roll that is still planned was not applied. What it had set aside of single rolls stands again."""
    if await connection.fetchval(_REFUSE, tenant_id, roll_id, REFUSED, code) is not None:
        await planned_stays.give_rows_back(connection, tenant_id, roll_id)
        await _plan_rows_of_recorded_rolls(connection, tenant_id)
        await planned_stays.delete_rows(connection, tenant_id, roll_id)


_WITHOUT_ROLL = """
SELECT p.id FROM planned_rolls p WHERE p.tenant_id = $1 AND p.state = 'applied' AND EXISTS (
    SELECT 1 FROM planned_pupils x WHERE x.tenant_id = $1 AND x.planned_roll_id = p.id AND x.replaced_by = '{}'
) FOR UPDATE
"""
_PLAN_AGAIN = """
INSERT INTO planned_rolls (tenant_id, id, school_id, client_id, as_of, academic_year, complete, row_count, digest, received_at)
SELECT p.tenant_id, $3, p.school_id, p.client_id, p.as_of, p.academic_year, false, (
    SELECT count(*) FROM planned_pupils x WHERE x.tenant_id = $1 AND x.planned_roll_id = $2 AND x.replaced_by = '{}'
), $4, p.received_at FROM planned_rolls p WHERE p.tenant_id = $1 AND p.id = $2
"""
_MOVE_ROWS = "UPDATE planned_pupils SET planned_roll_id = $3 WHERE tenant_id = $1 AND planned_roll_id = $2 AND replaced_by = '{}'"


async def _plan_rows_of_recorded_rolls(connection: Connection, tenant_id: UUID) -> None:
    """Makes a roll of the rows that stand again and whose own roll was recorded without them. It is due at once."""
    for row in await connection.fetch(_WITHOUT_ROLL, tenant_id):
        roll_id = new_id(PLANNED_ROLL)
        await connection.execute(_PLAN_AGAIN, tenant_id, row["id"], roll_id, hashlib.sha256(roll_id.bytes).digest())
        await connection.execute(_MOVE_ROWS, tenant_id, row["id"], roll_id)


_WITHDRAW = "DELETE FROM planned_rolls WHERE tenant_id = $1 AND id = $2"
_DUE = """
SELECT p.tenant_id, p.id, p.client_id FROM planned_rolls p
WHERE p.tenant_id = $1 AND p.school_id = $2 AND p.state = 'planned' AND p.replaced_by IS NULL AND p.as_of <= $3
ORDER BY p.as_of, p.received_at, p.id
"""


async def withdraw_roll(connection: Connection, caller: Caller, tenant_id: UUID, school_id: UUID, roll_id: UUID) -> Restored:
    """Deletes a planned roll; what it had replaced stands again, and is recorded where its day has come."""
    rows = await planned_stays.give_rows_back(connection, tenant_id, roll_id, with_rolls=True)
    await connection.execute(_WITHDRAW, tenant_id, roll_id)
    await _plan_rows_of_recorded_rolls(connection, tenant_id)
    due = await connection.fetch(_DUE, tenant_id, school_id, clock.read_today())
    return Restored(rows, sum([await _record_now(connection, caller, DueRoll(*roll)) for roll in due]))


_SET_CALLER = "SELECT set_config('markonce.caller', $1, true)"


async def _record_now(connection: Connection, caller: Caller, roll: DueRoll) -> int:
    """Records a due roll in the name of its client, within the transaction of `caller`; returns how many rows it has. Where
    it is refused, notes why and returns 0.
    """
    await connection.execute("SAVEPOINT restored")
    try:
        await connection.execute(_SET_CALLER, str(roll.client_id))
        batch = await read_roll(connection, roll)
        with collect_notes() as notes:
            await write_planned(connection, roll.caller, batch, roll=roll)
    except Busy:
        raise
    except (RollGone, DomainError) as problem:
        await connection.execute("ROLLBACK TO SAVEPOINT restored")
        code = find_problem(problem) if isinstance(problem, DomainError) else ENDED
        await refuse_roll(connection, roll.tenant_id, roll.id, code)
        return 0
    for kind, facts in notes:
        note(kind, facts)
    await connection.execute(_SET_CALLER, str(caller.client_id))
    return len(batch.rows)


def find_problem(problem: DomainError) -> str:
    """Returns the code for which a roll is refused: that of the first issue."""
    return problem.issues[0].code if problem.issues else problem.code
