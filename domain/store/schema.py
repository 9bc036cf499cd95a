"""Compares the version of the database's schema with the version that this program needs.

The version of a schema is its newest migration, and the version of a program is the newest migration in its folder. An
older schema lacks what the program needs. A newer schema has it, because migrations only add. A migration that drops
something records the oldest program that the schema still serves (docs/migrations.md).
"""

from dataclasses import dataclass
from pathlib import Path

import asyncpg

from domain.declare.errors import DatabaseError
from domain.store.pool import Connection

MIGRATIONS = Path(__file__).parents[2] / "migrations"

STALE_PLANS = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError, asyncpg.InvalidSQLStatementNameError)
"""Errors of a statement that was prepared before the schema changed. It succeeds when it is prepared again."""


def find_newest_migration(folder: Path = MIGRATIONS) -> str:
    """Returns the number of the newest migration in a folder, such as 0015 of 0015_compatibility.py."""
    return max(path.name.partition("_")[0] for path in (folder / "versions").glob("[0-9]*_*.py"))


PROGRAM = find_newest_migration()
"""The version of this program, read when it started."""


@dataclass(frozen=True)
class DatabaseSchema:
    """The version of a schema and the oldest program that it serves.

    `version` is None if there are no tables, and "" if it is 0014 or older, which the app role may not read.
    """

    version: str | None
    oldest_program: str = ""
    is_usable: bool = True
    """Whether this role may use the tables at all."""


_DESCRIBE_SCHEMA = """
WITH found AS (SELECT c.oid, c.relname FROM pg_class c WHERE c.relnamespace = to_regnamespace('public'))
SELECT EXISTS (SELECT FROM found WHERE relname = 'tenants') AS has_tables,
    COALESCE((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'public'), false)
        AND COALESCE((SELECT has_table_privilege(oid, 'SELECT') FROM found WHERE relname = 'tenants'), false) AS is_usable,
    COALESCE((SELECT has_table_privilege(oid, 'SELECT') FROM found WHERE relname = 'alembic_version'), false) AS is_readable,
    EXISTS (SELECT FROM found WHERE relname = 'schema_compatibility') AS names_programs
"""
"""From the catalogue, which every role may read: a role without rights sees that the tables are there."""


async def read_schema(connection: Connection) -> DatabaseSchema:
    """Returns the schema of the database, as far as this role may read it."""
    described = await connection.fetchrow(_DESCRIBE_SCHEMA)
    has_tables, is_usable, is_readable, names_programs = described or (False, False, False, False)
    if not has_tables:
        return DatabaseSchema(None)
    if not is_usable:
        return DatabaseSchema("", is_usable=False)
    if not is_readable:
        return DatabaseSchema("")
    version = str(await connection.fetchval("SELECT version_num FROM alembic_version"))
    if not names_programs:
        return DatabaseSchema(version)
    return DatabaseSchema(version, str(await connection.fetchval("SELECT oldest_program FROM schema_compatibility")))


def explain_misfit(schema: DatabaseSchema, program: str = PROGRAM, *, database: str = "") -> str | None:
    """Returns a sentence that says why the program cannot use this schema, and what to do; None if it can. `database` is named
    to an operator, and not by the health checks."""
    if schema.version is None:
        return f"The database{database and ' ' + database} has no tables yet: run `python -m api migrate` (or `init`) first."
    if not schema.is_usable:
        return (
            "The database has tables, and the role that logs in may not use them: log in as the role for which they were made, or"
            " have it granted to this one (`python -m api init --print-roles` prints the roles)."
        )
    if schema.version < program:
        version = schema.version or "0014 or older"
        return f"The database's schema is {version} and this program needs {program}: run `python -m api migrate` first."
    if program < schema.oldest_program:
        return (
            f"The database's schema is {schema.version}, which serves programs from {schema.oldest_program} on, and this one is"
            f" {program}: start a newer release."
        )
    return None


async def require_schema(connection: Connection) -> None:
    """Raises DatabaseError if this program cannot use the database's schema."""
    database = str(await connection.fetchval("SELECT current_database()"))
    if reason := explain_misfit(await read_schema(connection), database=database):
        raise DatabaseError(reason)


async def acquire_advisory_lock(connection: Connection, name: str) -> None:
    """Waits for an advisory lock of this name, and holds it until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('markonce ' || $1, 0))", name)
