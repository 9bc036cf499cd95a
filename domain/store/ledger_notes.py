"""What the running transaction has to write into the ledger (ledger.py), and how it gets there before COMMIT.

The order is: the id of each entry into the table `ledger_entries`, the entries into the file and onto the disk, COMMIT. So
what was acknowledged is in the file. An entry whose transaction was rolled back after all is given up by a further record;
where that cannot be written, the client is told that the outcome is unknown, which is then true.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID, uuid4

from domain.declare.errors import Busy, DatabaseError
from domain.store.ledger import Entry, Ledger, NotTakenBackError
from domain.store.ledger_reapply import has_ledger_entries
from domain.store.outages import OutcomeUnknown
from domain.store.pool import Connection

Note = tuple[str, Mapping[str, Any]]
"""The kind of an entry, and its facts as JSON."""

_notes: ContextVar[list[Note] | None] = ContextVar("ledger_notes", default=None)


@contextmanager
def collect_notes() -> Iterator[list[Note]]:
    """Yields the list of the notes that are made within the block."""
    notes: list[Note] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note(kind: str, facts: Mapping[str, Any]) -> None:
    """Notes for the ledger what the running transaction does. Outside a transaction that collects notes it does nothing."""
    if (notes := _notes.get()) is not None:
        notes.append((kind, facts))


async def write_notes(connection: Connection, ledger: Ledger | None, notes: Sequence[Note]) -> list[UUID]:
    """Writes the notes of a transaction that is about to be committed into the ledger. Returns the ids of the entries.

    Raises Busy where the file cannot be written, OutcomeUnknown where it is not known whether the entries stay in it, and
    DatabaseError where there is no ledger here but in this installation.
    """
    if ledger is None:
        if await has_ledger_entries(connection):
            raise DatabaseError("This installation keeps a ledger, and MARKONCE_LEDGER is not set: nothing was written.")
        return []
    ids = [uuid4() for _ in notes]
    rows = await connection.fetch("INSERT INTO ledger_entries (id) SELECT unnest($1::uuid[]) RETURNING id, recorded_at", ids)
    times = {row["id"]: row["recorded_at"] for row in rows}
    entries = [Entry(id_, times[id_], kind, facts) for id_, (kind, facts) in zip(ids, notes, strict=True)]
    writing = asyncio.ensure_future(asyncio.to_thread(ledger.append, entries))
    try:
        await asyncio.shield(writing)
    except NotTakenBackError as problem:
        raise OutcomeUnknown from problem
    except (OSError, DatabaseError) as problem:
        raise Busy("The ledger of this server cannot be written; nothing of this request was written.") from problem
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        if writing.exception() is None:
            await give_up_entries(ledger, ids)
        raise
    return ids


async def give_up_entries(ledger: Ledger | None, ids: Sequence[UUID]) -> None:
    """Says in the ledger that the transaction was rolled back. Raises OutcomeUnknown where that cannot be written."""
    if ledger is None or not ids:
        return
    try:
        await asyncio.to_thread(ledger.give_up, ids)
    except (OSError, DatabaseError) as problem:
        raise OutcomeUnknown from problem
