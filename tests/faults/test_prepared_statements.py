"""What is asked once takes no memory of PostgreSQL's: few statements stay prepared on a connection, and none that is long."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from domain.store.database import MAX_PREPARED_CHARACTERS, MAX_PREPARED_STATEMENTS, Database
from tests.fixtures.databases import Databases


@pytest.fixture
async def single(databases: Databases) -> AsyncIterator[Database]:
    """A pool of one connection, so that what stays prepared can be counted."""
    database = await Database.open(databases.app_url, size=1)
    yield database
    await database.close()


async def read_prepared(database: Database) -> list[str]:
    async with database.without_caller() as connection:
        rows: list[Any] = await connection.fetch("SELECT statement FROM pg_prepared_statements")
    return [row["statement"] for row in rows if row["statement"].startswith("SELECT $1::int +")]


async def ask(database: Database, n: int, padding: int = 0) -> None:
    row = await database.read(f"SELECT $1::int + {n}{' ' * padding}", 1)
    assert row is not None
    assert row[0] == n + 1


async def test_a_statement_that_runs_once_does_not_stay_prepared(single: Database) -> None:
    for n in range(3 * MAX_PREPARED_STATEMENTS):
        await ask(single, n)
    assert await read_prepared(single) == []


async def test_a_statement_that_runs_again_stays_prepared(single: Database) -> None:
    for _ in range(2):
        await ask(single, 7)
    assert len(await read_prepared(single)) == 1


async def test_few_statements_stay_prepared(single: Database) -> None:
    for n in range(3 * MAX_PREPARED_STATEMENTS):
        for _ in range(3):
            await ask(single, n)
    assert len(await read_prepared(single)) <= MAX_PREPARED_STATEMENTS


async def test_a_long_statement_never_stays_prepared(single: Database) -> None:
    for _ in range(3):
        await ask(single, 1, padding=MAX_PREPARED_CHARACTERS)
    assert await read_prepared(single) == []
