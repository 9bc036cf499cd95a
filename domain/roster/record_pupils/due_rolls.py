"""Applies planned rolls when their day has come.

Nobody calls for it: the first request of a client that reaches the school on that day applies the roll, in the name of the
client that sent it, before it is answered. A request that cannot wait for it is refused as busy and tries again.
"""

import asyncio
import json
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Busy, DomainError
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.roster.planned_rolls import REFUSED
from domain.roster.record_pupils import planned_stays
from domain.roster.record_pupils.command import record_pupils, write_roll
from domain.roster.record_pupils.plan import Rolls
from domain.roster.record_pupils.recorded_roll import RecordedRoll
from domain.store.database import Connection, Database, DatabaseUse, database_use
from domain.support import clock
from domain.support.lru import Lru
from domain.write.run import perform

CHECK_SECONDS = 3600
"""How often a process asks, for each client, whether planned rolls are due. A day begins in England on the hour in UTC."""
MAX_CHECKED = 1_000_000
"""Memory, in bytes, of the clients for whom it was asked lately."""
FAILED, ENDED = "unforeseen", "grant-ended"
"""The problem of a roll that was refused for an error of the program itself, and for its client's grants."""
WAIT = "A roll of the new academic year is being recorded; nothing of this request was written."


class DueRoll(NamedTuple):
    """A planned roll whose day has come."""

    tenant_id: UUID
    id: UUID
    client_id: UUID


class _NotThere(Exception):
    """The roll was applied or withdrawn meanwhile, or its client no longer reaches the school."""


class DueRolls:
    """Applies the planned rolls that are due at the schools within reach of each client that sends a request.

    `_checked` are the clients for whom there is none left, each with the hour and the version of its reach.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._checked: Lru[UUID, tuple[int, int]] = Lru("clients without due rolls", MAX_CHECKED, weigh=lambda key, value: 250)
        self._lock = asyncio.Lock()

    async def apply(self, client_id: UUID, reach_version: int) -> None:
        """Applies what is due. Raises Busy if a roll cannot be applied now."""
        moment = (int(clock.read_now().timestamp()) // CHECK_SECONDS, reach_version)
        if self._checked.get(client_id) == moment:
            return
        if await read_due(self._database, client_id):
            async with self._lock:
                for roll in await read_due(self._database, client_id):
                    await apply_planned_roll(self._database, client_id, roll)
        self._checked.put(client_id, moment)


_DUE = f"""
SELECT x.* FROM (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) c CROSS JOIN LATERAL (
    SELECT json_agg(json_build_array(p.tenant_id, p.id, p.client_id) ORDER BY p.as_of, p.received_at, p.id)::text AS due
    FROM planned_rolls p
    WHERE p.state = 'planned' AND p.as_of <= $2 AND {reaches_sql("$1", "p.tenant_id", "p.school_id")} AND c.s IS NOT NULL OFFSET 0
) x
"""


async def read_due(database: Database, client_id: UUID) -> list[DueRoll]:
    """Returns the due rolls at the schools within the client's reach, in the order in which they are applied."""
    row = await database.read(_DUE, client_id, clock.read_today())
    return [DueRoll(*map(UUID, ids)) for ids in json.loads((row and row["due"]) or "[]")]


_ROLL = "SELECT school_id, as_of, complete, max_leavers FROM planned_rolls WHERE tenant_id = $1 AND id = $2 AND state = 'planned'"
_ROWS = """
SELECT entry::text AS entry FROM planned_pupils WHERE tenant_id = $1 AND planned_roll_id = $2 AND replaced_by = '{}' ORDER BY n
"""
_LOCK = "SELECT 1 FROM planned_rolls WHERE tenant_id = $1 AND id = $2 AND state = 'planned' FOR UPDATE"
_REFUSE = """
UPDATE planned_rolls SET state = $3, problem = $4, done_at = clock_timestamp() WHERE tenant_id = $1 AND id = $2 AND state = 'planned'
RETURNING 1
"""
_FINISH = """
UPDATE planned_rolls SET state = 'applied', done_at = clock_timestamp(), issue_codes = $3, created = $4, updated = $5, unchanged = $6,
    superseded = $7, rejected = $8, leavers = $9
WHERE tenant_id = $1 AND id = $2
"""


async def apply_planned_roll(database: Database, finder_id: UUID, roll: DueRoll) -> None:
    """Records the roll in the name of its client; where that client may not or the roll is refused, notes why.

    `finder_id` is the client of the request that found it. Bad rows are listed and the others are written, since nobody
    is there to send it again. Raises Busy, and then nothing has changed.
    """
    token = database_use.set(DatabaseUse(client=roll.client_id))
    try:
        batch = await database.run_transaction(finder_id, partial(_read_roll, roll=roll))
        await perform(
            database,
            replace(record_pupils, run=partial(_write, roll=roll)),
            Caller(roll.client_id, frozenset({Scope.PUPILS_WRITE.value})),
            batch,
        )
    except _NotThere:
        await _refuse(database, finder_id, roll, ENDED)
    except Busy as problem:  # also where COMMIT was not answered: the next request finds out
        raise Busy(WAIT) from problem
    except DomainError as problem:
        await _refuse(database, finder_id, roll, problem.issues[0].code if problem.issues else problem.code)
    except Exception:
        await _refuse(database, finder_id, roll, FAILED)
        raise
    finally:
        database_use.reset(token)


async def _read_roll(connection: Connection, roll: DueRoll) -> Rolls:
    head = await connection.fetchrow(_ROLL, roll.tenant_id, roll.id)
    if head is None:
        raise _NotThere
    entries = [json.loads(row["entry"]) for row in await connection.fetch(_ROWS, roll.tenant_id, roll.id)]
    data: dict[str, Any] = {"school": {"id": str(head["school_id"])}, "asOf": str(head["as_of"]), "complete": head["complete"]}
    if head["max_leavers"] is not None:
        data["maxLeavers"] = head["max_leavers"]
    batch: Rolls = record_pupils.parse(data | {"entries": entries}, lenient=True)
    return batch


async def _write(connection: Connection, caller: Caller, batch: Rolls, *, roll: DueRoll) -> RecordedRoll:
    """Records the roll, and what became of it, in one transaction. Its rows are deleted."""
    if await connection.fetchval(_LOCK, roll.tenant_id, roll.id) is None:
        raise _NotThere
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


async def _refuse(database: Database, finder_id: UUID, roll: DueRoll, code: str) -> None:
    """Notes why a roll that is still planned was not applied."""

    async def work(connection: Connection) -> None:
        if await connection.fetchval(_REFUSE, roll.tenant_id, roll.id, REFUSED, code) is not None:
            await planned_stays.delete_rows(connection, roll.tenant_id, roll.id)
            await planned_stays.give_rows_back(connection, roll.tenant_id, [roll.id])

    await database.run_transaction(finder_id, work)
