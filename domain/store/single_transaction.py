"""One transaction on a connection of its own, for the operator's commands."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from uuid import UUID

import asyncpg

from domain.declare.errors import DatabaseError
from domain.store.ledger import Ledger
from domain.store.ledger_notes import collect_notes, give_up_entries, write_notes
from domain.store.pool import Connection
from domain.store.urls import CONNECT_ERRORS, connect, describe_failure

T = TypeVar("T")


async def run_single_transaction(
    url: str, work: Callable[[Connection], Awaitable[T]], setting: str = "DATABASE_OWNER_URL", ledger: Ledger | None = None
) -> T:
    """Runs `work` in one transaction on a new connection, for the operator's commands. `setting` names the URL in messages.

    Raises DatabaseError if it cannot connect, and Busy if the ledger cannot be written.
    """
    async with open_single_connection(url, setting) as connection:
        entries = list[UUID]()
        try:
            async with connection.transaction():
                with collect_notes() as notes:
                    result = await work(connection)
                entries = await write_notes(connection, ledger, notes) if notes else []
        except asyncpg.PostgresError:
            await give_up_entries(ledger, entries)
            raise
        return result


@asynccontextmanager
async def open_single_connection(url: str, setting: str) -> AsyncIterator[Connection]:
    """Opens a connection for the operator's commands. Raises DatabaseError if it cannot connect."""
    try:
        connection = await connect(url, setting)
    except CONNECT_ERRORS as problem:
        raise DatabaseError(describe_failure(problem, url, setting)) from problem
    try:
        yield connection
    finally:
        await connection.close()
