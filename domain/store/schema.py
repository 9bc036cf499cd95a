"""Compares the version of the database's schema with that of this program.

The newest migration names the schema. The newest migration that a program comes with names the program. An older schema lacks what the program needs.
A newer schema has it, because migrations only add. A migration that drops something records the oldest program that the schema still serves
(docs/migrations.md).
"""

from dataclasses import dataclass
from pathlib import Path

import asyncpg

from domain.declare.errors import DatabaseError
from domain.store.pool import Connection

MIGRATIONS = Path(__file__).parents[2] / "migrations"

STALE_PLANS = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError, asyncpg.InvalidSQLStatementNameError)
"""Errors of a statement that was prepared before the schema changed. The same statement runs when it is prepared again."""


def find_newest_migration(folder: Path = MIGRATIONS) -> str:
    """The number of the newest migration in a folder: 0015 of 0015_compatibility.py."""
    return max(path.name.partition("_")[0] for path in (folder / "versions").glob("[0-9]*_*.py"))


PROGRAM = find_newest_migration()
"""The schema that this program was written for, as its folder was when it started."""


@dataclass(frozen=True)
class DatabaseSchema:
    """`version` is None where there are no tables, and "" where it is so old (0014 or before) that the app role may not read it."""

    version: str | None
    oldest_program: str = ""


_ASK = """
SELECT to_regclass('public.tenants') IS NOT NULL AS has_tables,
    COALESCE(has_table_privilege(to_regclass('public.alembic_version'), 'SELECT'), false) AS is_readable,
    to_regclass('public.schema_compatibility') IS NOT NULL AS names_programs
"""


async def read_schema(connection: Connection) -> DatabaseSchema:
    """The schema of the database, as far as this role may know it."""
    has_tables, is_readable, names_programs = await connection.fetchrow(_ASK) or (False, False, False)
    if not has_tables:
        return DatabaseSchema(None)
    if not is_readable:
        return DatabaseSchema("")
    version = str(await connection.fetchval("SELECT version_num FROM alembic_version"))
    if not names_programs:
        return DatabaseSchema(version)
    return DatabaseSchema(version, str(await connection.fetchval("SELECT oldest_program FROM schema_compatibility")))


def explain_misfit(schema: DatabaseSchema, program: str = PROGRAM) -> str | None:
    """Why the program cannot serve a database with this schema, in a sentence that says what to do; None where it can."""
    if schema.version is None:
        return "The database has no tables yet: run `python -m api migrate` (or `init`) first."
    if schema.version < program:
        found = schema.version or "0014 or older"
        return f"The database's schema is {found} and this program needs {program}: run `python -m api migrate` first."
    if program < schema.oldest_program:
        return (
            f"The database's schema is {schema.version}, which serves programs from {schema.oldest_program} on, and this one is"
            f" {program}: start a newer release."
        )
    return None


async def require_schema(connection: Connection) -> None:
    """Raises DatabaseError where this program does not fit the database's schema."""
    if reason := explain_misfit(await read_schema(connection)):
        raise DatabaseError(reason)


async def take_turn(connection: Connection, what: str) -> None:
    """Takes an advisory lock of this name until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('markonce ' || $1, 0))", what)
