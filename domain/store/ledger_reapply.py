"""Applies the entries of ledgers that a database does not have, as after a restore.

An entry whose transaction was committed has its id in `ledger_entries`, which is restored with the rest. So an entry is
applied once, where it is missing: again after a restore, and for the first time where the outcome of a COMMIT was unknown
and it had failed.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, TypeAlias

import asyncpg

from domain.declare.ids import NIL
from domain.store.ledger import Entry
from domain.store.pool import Connection


class Reapplied(StrEnum):
    """What an entry has changed."""

    DONE = "done again"
    NOTHING_TO_DO = "with nothing to do"
    KEY_LOST = "done again, but what the child was named by is not refused, since the key of the tenant is another one"


class MustBeImported(Exception):
    """What an entry says cannot be done again by this program, but by its operator. The message says how."""


Handler: TypeAlias = Callable[[Connection, Mapping[str, Any]], Awaitable[Reapplied]]
_MISSING = "SELECT g.id FROM unnest($1::uuid[]) g (id) WHERE NOT EXISTS (SELECT FROM ledger_entries e WHERE e.id = g.id)"
_CLAIM = "INSERT INTO ledger_entries (id, recorded_at) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id"


async def has_ledger_entries(connection: Connection) -> bool:
    """Whether this installation keeps a ledger."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM ledger_entries)"))


async def begin_ledger(connection: Connection) -> None:
    """Marks the installation as one that keeps a ledger, before its first entry: no server or command goes on without one.
    Does nothing where the database takes no writes at the moment."""
    with suppress(asyncpg.ReadOnlySQLTransactionError, asyncpg.InsufficientResourcesError):
        async with connection.transaction():
            await connection.execute("INSERT INTO ledger_entries (id) VALUES ($1) ON CONFLICT DO NOTHING", NIL)


async def find_missing_entries(connection: Connection, entries: Iterable[Entry]) -> list[Entry]:
    """Returns the entries that the database does not have, in their order in time."""
    by_id = {entry.id: entry for entry in entries}
    rows = await connection.fetch(_MISSING, list(by_id))
    return sorted((by_id[row["id"]] for row in rows), key=lambda entry: (entry.at, entry.id))


async def reapply_entries(
    connection: Connection, entries: Iterable[Entry], handlers: Mapping[str, Handler]
) -> tuple[Counter[tuple[str, Reapplied]], list[str]]:
    """Applies each of these entries in a transaction of its own, unless another server does. Returns their number by kind and outcome, and what the
    operator has to do: such an entry stays missing until then."""
    counts: Counter[tuple[str, Reapplied]] = Counter()
    left: dict[str, str] = {}  # by kind: whoever imports the last register has imported those before it
    for entry in entries:
        try:
            async with connection.transaction():
                if await connection.fetchval(_CLAIM, entry.id, entry.at) is not None:
                    counts[entry.kind, await handlers[entry.kind](connection, entry.facts)] += 1
        except MustBeImported as problem:
            left[entry.kind] = str(problem)
    return counts, [*left.values()]
