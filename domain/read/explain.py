"""Records the statements of a request while they are read, and runs them again under EXPLAIN (`python -m api explain`)."""

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
"""How many values of a list are shown."""


@dataclass(frozen=True)
class Explanation:
    """A statement, the types and values of its bind parameters by position, the lines of PostgreSQL's plan, and the
    planning and execution times in milliseconds.
    """

    sql: str
    binds: list[tuple[str, Any]]
    plan: list[str]
    planning: float
    execution: float


class RecordingDatabase(Database):
    """A database that, once `recorded` is a list, adds each statement with its arguments to it, and rejects writes."""

    recorded: list[tuple[str, tuple[Any, ...]]] | None = None

    async def read(self, statement: str, *arguments: Any, name: str = "", may_lag: bool = False) -> Any:
        if self.recorded is not None:
            self.recorded.append((statement, arguments))
        return await super().read(statement, *arguments, name=name)

    async def run_transaction(
        self, caller: UUID | None, work: Callable[[Connection], Awaitable[T]], condition: str = "true", tenant: UUID | None = None
    ) -> T:
        if self.recorded is not None:
            raise BadRequest("Only reading is explained; nothing was written.", code="read-only")
        return await super().run_transaction(caller, work, condition, tenant)

    async def explain(self, statement: str, arguments: tuple[Any, ...]) -> Explanation:
        """Runs a recorded statement again under EXPLAIN ANALYZE, and rolls back.

        As in `read`, PostgreSQL uses the generic plan, so that the plan shows no values. The values are passed as
        settings of the transaction, so that the text of EXECUTE shows none either.
        """
        async with self.without_caller() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                types = [parameter.name for parameter in (await connection.prepare(statement)).get_parameters()]
                not_null = [i for i, value in enumerate(arguments) if value is not None]
                binds = [f"set_config('explained.p{i}', ${n}::{types[i]}::text, true)" for n, i in enumerate(not_null, 1)]
                await connection.execute(f"SELECT {', '.join(binds)}", *(arguments[i] for i in not_null))
                values = [f"current_setting('explained.p{i}')::{types[i]}" if i in not_null else "NULL" for i in range(len(types))]
                await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
                await connection.execute(f"PREPARE explained {_parenthesise(types)} AS {statement}")
                rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) EXECUTE explained {_parenthesise(values)}")
                await connection.execute("DEALLOCATE explained")
            finally:
                await transaction.rollback()
        plan = [str(row[0]) for row in rows]
        return Explanation(
            statement,
            list(zip(types, arguments, strict=True)),
            plan,
            _read_milliseconds("Planning", plan),
            _read_milliseconds("Execution", plan),
        )


async def open_recording_database(url: str, seconds: int, *, pooled: bool = False) -> RecordingDatabase:
    """Opens a recording database with one connection, whose statements may run this many seconds.

    Raises DatabaseError.
    """
    database = await RecordingDatabase.open(url, size=1, read_seconds=seconds, pooled=pooled)
    if not isinstance(database, RecordingDatabase):
        raise DatabaseError("This database records no statements.")
    return database


def hide_personal(value: Any) -> str:
    """Returns a value as it may be printed.

    Texts and dates are hidden: they may be a child's name, UPN or date of birth.
    """
    match value:
        case None:
            return "null"
        case list():
            rest = f", … {len(value):,} in all" if len(value) > MAX_LIST_SHOWN else ""
            return f"[{', '.join(map(hide_personal, value[:MAX_LIST_SHOWN]))}{rest}]"
        case bool():
            return str(value).lower()
        case int() | float() | Decimal() | UUID() | datetime():
            return str(value)
    return HIDDEN


def _parenthesise(parts: list[str]) -> str:
    return f"({', '.join(parts)})" if parts else ""


def _read_milliseconds(phase: str, plan: list[str]) -> float:
    """Returns the milliseconds of a phase, Planning or Execution, from the end of EXPLAIN's output."""
    return sum(float(match[1]) for line in plan if (match := re.fullmatch(rf"{phase} Time: ([0-9.]+) ms", line)))
