"""Applies planned rolls when their day has come.

Nobody calls for it: the first request of a client that reaches the school on that day applies the roll, in the name of the
client that sent it, before it is answered. A request that cannot wait for it is refused as busy and tries again.
"""

import asyncio
import json
from dataclasses import replace
from functools import partial
from uuid import UUID

from domain.access.reach import reaches_sql, set_caller_first
from domain.declare.errors import Busy, DatabaseUnavailable, DomainError
from domain.roster.record_pupils.apply_roll import (
    ENDED,
    DueRoll,
    RollGone,
    find_problem,
    read_roll,
    refuse_roll,
    write_planned,
)
from domain.roster.record_pupils.command import record_pupils
from domain.store.database import Connection, Database, DatabaseUse, database_use
from domain.support import clock
from domain.support.lru import Lru
from domain.write.run import perform

CHECK_SECONDS = 3600
"""How often a process asks, for each client, whether planned rolls are due. A day begins in England on the hour in UTC."""
MAX_CHECKED = 1_000_000
"""Memory, in bytes, of the clients for whom it was asked lately."""
FAILED = "unforeseen"
"""The problem of a roll that was refused for an error of the program itself."""
WAIT = "A roll of the new academic year is being recorded; nothing of this request was written."


class DueRolls:
    """Applies the planned rolls that are due at the schools within reach of each client that sends a request.

    `_checked` are the clients for whom there is none left, each with the hour and the version of its reach.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._checked: Lru[UUID, tuple[int, int]] = Lru("clients without due rolls", MAX_CHECKED, weigh=lambda key, value: 250)
        self._lock = asyncio.Lock()

    async def apply(self, client_id: UUID, reach_version: int) -> bool:
        """Applies what is due. Returns whether there was anything. Raises Busy if a roll cannot be applied now."""
        moment = (int(clock.read_now().timestamp()) // CHECK_SECONDS, reach_version)
        if self._checked.get(client_id) == moment:
            return False
        if is_due := bool(await read_due(self._database, client_id)):
            async with self._lock:
                applied: set[UUID] = set()
                # one that is refused may let earlier ones stand again
                while due := [roll for roll in await read_due(self._database, client_id) if roll.id not in applied]:
                    applied.add(due[0].id)
                    await apply_planned_roll(self._database, client_id, due[0])
        self._checked.put(client_id, moment)
        return is_due


_DUE = set_caller_first(f"""
    SELECT json_agg(json_build_array(p.tenant_id, p.id, p.client_id) ORDER BY p.as_of, p.received_at, p.id)::text AS due
    FROM planned_rolls p
    WHERE p.state = 'planned' AND p.replaced_by IS NULL AND p.as_of <= $2 AND {reaches_sql("$1", "p.tenant_id", "p.school_id")} AND c.s IS NOT NULL OFFSET 0
""")


async def read_due(database: Database, client_id: UUID) -> list[DueRoll]:
    """Returns the due rolls at the schools within the client's reach, in the order in which they are applied."""
    row = await database.read(_DUE, client_id, clock.read_today())
    return [DueRoll(*map(UUID, ids)) for ids in json.loads((row and row["due"]) or "[]")]


async def apply_planned_roll(database: Database, finder_id: UUID, roll: DueRoll) -> None:
    """Records the roll in the name of its client; where that client may not or the roll is refused, notes why.

    `finder_id` is the client of the request that found it. Bad rows are listed and the others are written, since nobody
    is there to send it again. Raises Busy, and then nothing has changed.
    """
    token = database_use.set(DatabaseUse(client=roll.client_id))
    try:
        batch = await database.run_transaction(finder_id, partial(read_roll, roll=roll))
        await perform(
            database,
            replace(record_pupils, run=partial(write_planned, roll=roll)),
            roll.caller,
            batch,
        )
    except RollGone:
        await _refuse(database, finder_id, roll, ENDED)
    except DatabaseUnavailable:
        raise
    except Busy as problem:  # also where COMMIT was not answered: the next request finds out
        raise Busy(WAIT) from problem
    except DomainError as problem:
        await _refuse(database, finder_id, roll, find_problem(problem))
    except Exception:
        await _refuse(database, finder_id, roll, FAILED)
        raise
    finally:
        database_use.reset(token)


async def _refuse(database: Database, finder_id: UUID, roll: DueRoll, code: str) -> None:
    """Notes why a roll that is still planned was not applied."""

    async def work(connection: Connection) -> None:
        await refuse_roll(connection, roll.tenant_id, roll.id, code)

    await database.run_transaction(finder_id, work)
