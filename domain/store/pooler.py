"""A pooler in transaction mode between a server and PostgreSQL: PgBouncer 1.21 or newer.

Such a pooler refuses settings with the start of a session, so those that every statement relies on belong to the role: `migrate` stores them
and `serve` checks them. It must also keep prepared statements, which PgBouncer does from 1.21 on. What a transaction sets is its own (`set_config(…, true)`),
and nothing else relies on a session, so that two transactions may use two connections of PostgreSQL.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from domain.declare.errors import DatabaseError
from domain.store.pool import Connection
from domain.store.urls import CONNECT_ERRORS, connect, describe_failure, read_url

CLIENT_CHECK_INTERVAL = "2s"
"""How often PostgreSQL checks during a statement whether the client is still connected."""
MIN_VERSION = (1, 21)
_PROBE = "SELECT pg_backend_pid(), EXISTS (SELECT FROM pg_prepared_statements WHERE name = $1) AS has_own_name"
_PROBE_NAME = "markonce_pooler"
_ADVICE = "with pool_mode = transaction and max_prepared_statements above 0, such as 1000"
_STORED = """
SELECT COALESCE(array_agg(s.setting), '{}') FROM pg_db_role_setting r CROSS JOIN unnest(r.setconfig) AS s (setting)
WHERE r.setrole = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND r.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass
class Edition:
    """The edition of the statements that a process sends to a pooler, which gives statements of one text one plan on each connection of its own.

    A plan whose result type has changed, as after a migration, stays broken there: a new edition of the text is another statement.
    """

    number: int = 0

    @property
    def mark(self) -> str:
        """What each statement of this edition ends with."""
        return f" /* {self.number} */" if self.number else ""

    def outdate(self, number: int) -> None:
        """Says that a plan of this edition is broken."""
        if self.number == number:
            self.number += 1


def make_connection_class(edition: Edition) -> type[Connection]:
    """Returns the class of connections whose statements are of the edition."""

    class Edited(asyncpg.Connection):
        async def _get_statement(self, query: str, *arguments: Any, **options: Any) -> Any:
            return await super()._get_statement(query + edition.mark, *arguments, **options)  # type: ignore[misc]

    return Edited


def list_session_settings(read_seconds: int) -> dict[str, str]:
    """Returns what each session of a server sets, or its role where a pooler is in between: by name, as PostgreSQL shows the values."""
    return {
        "jit": "off",
        "statement_timeout": f"{read_seconds}s",
        "plan_cache_mode": "force_generic_plan",
        "client_connection_check_interval": CLIENT_CHECK_INTERVAL,
    }


def make_role_settings(role: str, database: str, read_seconds: int) -> list[str]:
    """Returns the statements that make the settings those of the role in this database. The role itself may run them."""
    quoted = '"' + database.replace('"', '""') + '"'
    return [
        f"ALTER ROLE {role} IN DATABASE {quoted} SET {name} = '{value}'"
        for name, value in list_session_settings(read_seconds).items()
    ]


async def store_role_settings(url: str, setting: str, read_seconds: int) -> bool:
    """Stores the settings of the role of a URL, as that role. Returns whether they were others. Raises DatabaseError."""
    try:
        connection = await connect(url, setting, statement_cache_size=0)
    except CONNECT_ERRORS as problem:
        raise DatabaseError(describe_failure(problem, url, setting)) from problem
    try:
        stored = await connection.fetchval(_STORED)
        if {f"{name}={value}" for name, value in list_session_settings(read_seconds).items()} <= set(stored):
            return False
        database = await connection.fetchval("SELECT current_database()")
        for statement in make_role_settings("CURRENT_USER", database, read_seconds):
            await connection.execute(statement)
        return True
    except CONNECT_ERRORS as problem:
        raise DatabaseError(describe_failure(problem, url, setting)) from problem
    finally:
        await connection.close()


async def find_pooler_faults(url: str, setting: str, read_seconds: int) -> list[str]:
    """Returns what keeps a server from using a URL by way of a pooler, as sentences. A URL that leads to PostgreSQL itself has no fault of a pooler."""
    version = await _read_pgbouncer_version(url, setting)
    where = read_url(url).where
    if version is not None and _parse_version(version) < MIN_VERSION:
        return [
            f"{setting}: PgBouncer at {where} is {version}, and keeps no prepared statements in transaction mode: 1.21 or newer is needed, {_ADVICE}"
        ]
    try:
        connection = await connect(url, setting, statement_cache_size=0, server_settings={"application_name": "markonce start"})
    except (*CONNECT_ERRORS, DatabaseError):
        return []  # it is said elsewhere
    try:
        if not await _keeps_statements(connection):
            named = f"PgBouncer {version}" if version else "the pooler"
            return [f"{setting}: {named} at {where} keeps no prepared statements: PgBouncer 1.21 or newer does, {_ADVICE}"]
        return _describe_settings(setting, await _find_other_settings(connection, read_seconds), await connection.fetchval(_STORED))
    except CONNECT_ERRORS as problem:
        return [describe_failure(problem, url, setting)]
    finally:
        await connection.close()


async def require_session_settings(connection: Connection, setting: str, read_seconds: int) -> None:
    """Raises DatabaseError where a session has not the settings that every statement relies on."""
    if other := await _find_other_settings(connection, read_seconds):
        raise DatabaseError(_describe_settings(setting, other, await connection.fetchval(_STORED))[0] + ".")


async def _find_other_settings(connection: Connection, read_seconds: int) -> dict[str, str]:
    """Returns the settings of the session that are not those of a server, with their values."""
    wanted = list_session_settings(read_seconds)
    rows = await connection.fetch(
        "SELECT g.name, current_setting(g.name) AS value FROM unnest($1::text[], $2::text[], $3::text[]) AS g (name, wanted, kind)"
        " WHERE CASE g.kind WHEN 'time' THEN current_setting(g.name)::interval <> g.wanted::interval ELSE current_setting(g.name) <> g.wanted END",
        list(wanted),
        list(wanted.values()),
        ["time" if value[0].isdigit() else "word" for value in wanted.values()],
    )
    return {row["name"]: row["value"] for row in rows}


def _describe_settings(setting: str, other: Mapping[str, str], stored: list[str]) -> list[str]:
    if not other:
        return []
    named = ", ".join(f"{name} is {value}" for name, value in other.items())
    if {line.partition("=")[0] for line in stored} >= other.keys():
        hint = "where they were stored just now, the connections of the pooler are older: RECONNECT in its console; else run `python -m api migrate`"
    else:
        hint = "run `python -m api migrate` with MARKONCE_POOLER=transaction, which stores them"
    return [f"{setting}: the role has not the settings that its statements rely on ({named}): {hint}"]


async def _keeps_statements(connection: Connection) -> bool:
    """Whether prepared statements outlive the transaction: the connection is PostgreSQL's own, or the pooler gives statements names of its own."""
    statement = await connection.prepare(_PROBE, name=_PROBE_NAME)
    found = await statement.fetchrow(_PROBE_NAME)
    assert found is not None
    return found["pg_backend_pid"] == connection.get_server_pid() or not found["has_own_name"]


async def _read_pgbouncer_version(url: str, setting: str) -> str | None:
    """Returns the version that PgBouncer's console says at the start of a session, None where the role may not open it or there is none."""
    target = read_url(url)
    arguments = target.make_arguments() | {"database": "pgbouncer"}
    try:
        connection = await asyncpg.connect(**arguments, timeout=5, statement_cache_size=0)
    except (*CONNECT_ERRORS, DatabaseError):
        return None
    try:
        said = str(connection.get_settings().server_version)
    finally:
        connection.terminate()
    version, separator, _ = said.partition("/bouncer")
    return version if separator else None


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
