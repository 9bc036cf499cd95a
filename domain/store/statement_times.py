"""The names and times of the statements of one request, for its trace. No name holds a value.

A compiled read is named by what it reads. Any other statement is named by its first verb and the table or function that it uses first: words of this
program's SQL, whose values are bound. What is not found is named by the verb alone.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection: TypeAlias = asyncpg.Connection

WAIT = "wait for a connection"
MAX_TIMES = 200
"""Statements of one request whose times are recorded."""
_VERB = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|LOCK|BEGIN|COMMIT|ROLLBACK|WITH|MERGE|TRUNCATE|SET)\b", re.IGNORECASE)
_OBJECT = re.compile(
    r"\b(?:FROM|INTO|UPDATE(?!\s+SET)|LOCK\s+TABLE|ONLY)\s+(?!only\b|lateral\b)([a-z_][a-z_0-9]*)\b(?!\s*\.)"
    r"|^\s*SELECT\s+(?!set_config)([a-z_][a-z_0-9]*)\s*\(",
    re.IGNORECASE,
)
_SUPPORTING = frozenset({"reach", "clients", "data_versions", "school_versions", "window_instants"})
"""What most statements read too, before what they are about."""
_NO_OBJECTS = frozenset({"unnest", "generate_series", "json_to_recordset", "jsonb_to_recordset", "select"})


class StatementTime(NamedTuple):
    """A statement's name, and when it began and ended, in nanoseconds since 1970. `error` is the type of what it raised."""

    name: str
    began: int
    ended: int
    error: str | None = None


class Timed(Protocol):
    """A request's use of the database, whose statements are recorded where it has a list for them."""

    times: list[StatementTime] | None


def name_statement(sql: str) -> str:
    """Returns the name of a statement, such as `SELECT pupils`."""
    verb = _VERB.match(sql)
    if verb is None:
        return "statement"
    word = verb[1].upper()
    if word in ("BEGIN", "COMMIT", "ROLLBACK", "SET"):
        return word
    found = [name for match in _OBJECT.finditer(sql) if (name := (match[1] or match[2]).lower()) not in _NO_OBJECTS]
    name = next((name for name in found if name not in _SUPPORTING), found[0] if found else "")
    return f"{word} {name}".rstrip()


@contextmanager
def record_statements(connection: Connection, times: list[StatementTime], waited: float, name: str = "") -> Iterator[None]:
    """Records every statement of the connection within the block, by this name where it has one. `waited` are the seconds
    until the connection was lent."""
    now = time.time_ns()
    times.append(StatementTime(WAIT, now - int(waited * 1e9), now))

    def record(statement: Any) -> None:
        if len(times) < MAX_TIMES:
            ended, failure = time.time_ns(), statement.exception
            error = None if failure is None else type(failure).__name__
            times.append(StatementTime(name or name_statement(statement.query), ended - int(statement.elapsed * 1e9), ended, error))

    with connection.query_logger(record):
        yield


@contextmanager
def record_once(use: Timed | None, name: str) -> Iterator[None]:
    """Records a statement that is prepared for one run, of which the connection does not tell."""
    began = time.time_ns()
    yield
    if use is not None and use.times is not None:
        use.times.append(StatementTime(name, began, time.time_ns()))
