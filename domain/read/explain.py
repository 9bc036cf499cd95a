"""What PostgreSQL does with the statements of a request: they are noted while they are read, and explained afterwards."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.declare.errors import BadRequest, DatabaseError
from domain.store.database import Connection, Database, T

HIDDEN = "‹hidden›"
MAX_LIST_SHOWN = 5
"""Values of a list that are shown."""


@dataclass(frozen=True)
class Explanation:
    """A statement, the types and values of its binds by position, PostgreSQL's plan line by line, and the milliseconds of making and running it."""

    sql: str
    binds: list[tuple[str, Any]]
    plan: list[str]
    planning: float
    execution: float


class RecordingDatabase(Database):
    """Once `noted` is a list, keeps each statement that is read, with its arguments, and refuses to write."""

    noted: list[tuple[str, tuple[Any, ...]]] | None = None

    async def read(self, statement: str, *arguments: Any) -> Any:
        if self.noted is not None:
            self.noted.append((statement, arguments))
        return await super().read(statement, *arguments)

    async def writing(self, caller: UUID | None, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self.noted is not None:
            raise BadRequest("Only reading is explained; nothing was written.", code="read-only")
        return await super().writing(caller, work)

    async def explain(self, statement: str, arguments: tuple[Any, ...]) -> Explanation:
        """Runs a noted statement once more under EXPLAIN, and undoes that. It is planned as `read` plans it, whatever its values are, so that none of
        them stands in the plan; nor in what is sent, where they are settings of the transaction."""
        async with self.register() as connection:
            undone = connection.transaction()
            await undone.start()
            try:
                types = [parameter.name for parameter in (await connection.prepare(statement)).get_parameters()]
                given = [i for i, value in enumerate(arguments) if value is not None]
                binds = [f"set_config('explained.p{i}', ${n}::{types[i]}::text, true)" for n, i in enumerate(given, 1)]
                await connection.execute(f"SELECT {', '.join(binds)}", *(arguments[i] for i in given))
                values = [f"current_setting('explained.p{i}')::{types[i]}" if i in given else "NULL" for i in range(len(types))]
                await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                await connection.execute(f"PREPARE explained {_join_types(types)} AS {statement}")
                rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) EXECUTE explained {_join_types(values)}")
                await connection.execute("DEALLOCATE explained")
            finally:
                await undone.rollback()
        plan = [str(row[0]) for row in rows]
        return Explanation(
            statement,
            list(zip(types, arguments, strict=True)),
            plan,
            _read_milliseconds("Planning", plan),
            _read_milliseconds("Execution", plan),
        )


async def open_recording_database(url: str, seconds: int) -> RecordingDatabase:
    """A connection of the app role that notes what it reads, and lets a statement run that long. Raises DatabaseError."""
    database = await RecordingDatabase.open(url, size=1, read_seconds=seconds)
    if not isinstance(database, RecordingDatabase):
        raise DatabaseError("This database notes nothing.")
    return database


def hide_personal(value: Any) -> str:
    """A value as it may be printed: a text or a day may be a child's name, UPN or date of birth."""
    match value:
        case None:
            return "null"
        case list():
            more = f", … {len(value):,} in all" if len(value) > MAX_LIST_SHOWN else ""
            return f"[{', '.join(map(hide_personal, value[:MAX_LIST_SHOWN]))}{more}]"
        case bool():
            return str(value).lower()
        case int() | float() | Decimal() | UUID() | datetime():
            return str(value)
    return HIDDEN


def _join_types(parts: list[str]) -> str:
    return f"({', '.join(parts)})" if parts else ""


def _read_milliseconds(on: str, plan: list[str]) -> float:
    """Milliseconds, as EXPLAIN tells them at its end."""
    return sum(float(found[1]) for line in plan if (found := re.fullmatch(rf"{on} Time: ([0-9.]+) ms", line)))
