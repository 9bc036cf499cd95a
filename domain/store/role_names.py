"""The names of the three roles, and the SQL that makes them and the database, for whoever administers the server.

Migrations are written with the default names; `rename_roles` gives a statement those of this installation.
"""

import hashlib
import hmac
import os
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from domain.declare.errors import DatabaseError
from domain.store.pool import Connection
from domain.store.urls import ADMIN_URL, CONNECT_ERRORS, connect, describe_failure

ROLE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
"""Names that SQL takes without quotes (PostgreSQL keeps 63 bytes of a name)."""
_ITERATIONS = 4096


@dataclass(frozen=True)
class RoleNames:
    """The owner makes the tables, the app serves, the operator makes clients and imports the register."""

    owner: str = "markonce_owner"
    app: str = "markonce_app"
    operator: str = "markonce_operator"

    def rename_roles(self, statement: str) -> str:
        """Returns a migration's statement with these names of the app and the operator."""
        names = {"markonce_app": self.app, "markonce_operator": self.operator}
        return re.sub(r"\bmarkonce_(app|operator)\b", lambda found: names[found[0]], statement)


def make_verifier(password: str) -> str | None:
    """Returns what PostgreSQL stores of a password (SCRAM-SHA-256, RFC 5802), so that no script or log of statements holds
    the password. Returns None for one that is not ASCII, which would have to be normalized first."""
    if not password.isascii():
        return None
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ITERATIONS}:{b64encode(salt).decode()}${b64encode(stored).decode()}:{b64encode(server).decode()}"


def make_role_statements(names: RoleNames, passwords: Mapping[str, str]) -> dict[str, str]:
    """Returns the statement that makes each role. A role without a password cannot log in by one."""
    statements = {}
    for role in (names.owner, names.app, names.operator):
        verifier = make_verifier(passwords[role]) if role in passwords else None
        statements[role] = f"CREATE ROLE {role} LOGIN" + (f" PASSWORD '{verifier}'" if verifier else "")
    return statements


def make_database_statements(names: RoleNames, database: str) -> list[str]:
    """Returns the statements that make the database. Who makes it is for that time a member of its owner, as PostgreSQL
    wants of all but superusers."""
    quoted = '"' + database.replace('"', '""') + '"'
    return [
        f"GRANT {names.owner} TO CURRENT_USER",
        f"CREATE DATABASE {quoted} OWNER {names.owner} ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        f"REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {quoted} TO {names.app}, {names.operator}",
        f"REVOKE {names.owner} FROM CURRENT_USER",
    ]


async def make_roles(admin_url: str, names: RoleNames, database: str, passwords: Mapping[str, str]) -> list[str]:
    """Makes the roles and the database that are not there, as an administrator. Returns what was done.

    What is there stays as it is, passwords too. Raises DatabaseError.
    """
    setting = ADMIN_URL
    try:
        connection = await connect(admin_url, setting)
    except CONNECT_ERRORS as problem:
        raise DatabaseError(describe_failure(problem, admin_url, setting)) from problem
    done, step = list[str](), ""
    try:
        for role, statement in make_role_statements(names, passwords).items():
            if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
                done.append(f"The role {role} exists; it stays as it is.")
                continue
            step = f"make the role {role}"
            await connection.execute(statement)
            done.append(f"Made the role {role}{'' if 'PASSWORD' in statement else ', without a password'}.")
        if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database):
            return [*done, f"The database {database} exists; it stays as it is."]
        step = f"make the database {database}"
        for statement in make_database_statements(names, database):
            await connection.execute(statement)
        return [*done, f"Made the database {database}, which belongs to {names.owner}."]
    except asyncpg.PostgresError as problem:
        who = await connection.fetchval("SELECT current_user")
        reason = str(problem).splitlines()[0]
        raise DatabaseError(
            " ".join([*done, f"The role {who} of {setting} could not {step}: {reason}. It needs CREATEROLE and CREATEDB."])
        ) from problem
    finally:
        await connection.close()


_STAND = """
SELECT current_user::text AS owner, r.rolsuper OR r.rolcreaterole AS makes_roles, current_database()::text AS database,
    has_schema_privilege(n.oid, 'CREATE') AS makes_tables,
    ARRAY(SELECT name FROM unnest($1::text[]) name WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)) AS missing,
    ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1::text[]) AND NOT rolcanlogin) AS without_login,
    (SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = n.oid AND relname = 'tenants') AS of_tables,
    ARRAY(
        SELECT name FROM unnest($1::text[]) name JOIN pg_roles ON rolname = name
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'tenants' WHERE NOT has_table_privilege(name, c.oid, 'SELECT')
    ) AS without_rights
FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = 'public' WHERE r.rolname = current_user
"""


async def find_owner_faults(connection: Connection, names: RoleNames) -> list[str]:
    """Returns what keeps the connection's role from making the tables, and what to do about each."""
    stand = await connection.fetchrow(_STAND, [names.app, names.operator])
    assert stand is not None
    owner, faults = stand["owner"], []
    if stand["missing"] and not stand["makes_roles"]:
        faults.append(
            f"There is no role {' and no role '.join(stand['missing'])}, and {owner}, the role of DATABASE_OWNER_URL, may not make roles:"
            " have the SQL of `python -m api init --print-roles` run by an administrator, or run `init --admin-url URL`"
        )
    if stand["of_tables"] not in (None, owner):
        faults.append(
            f"The tables of {stand['database']} belong to {stand['of_tables']}, and DATABASE_OWNER_URL logs in as {owner}"
        )
    elif not stand["makes_tables"]:
        faults.append(
            f"{owner}, the role of DATABASE_OWNER_URL, may not make tables in the schema public of {stand['database']}:"
            f" an administrator runs ALTER DATABASE {stand['database']} OWNER TO {owner}"
        )
    if stand["without_rights"]:
        faults.append(
            f"The tables of {stand['database']} were made for other roles than {' and '.join(stand['without_rights'])}:"
            " set MARKONCE_APP_ROLE and MARKONCE_OPERATOR_ROLE as they were then"
        )
    return faults


async def require_operator(connection: Connection, setting: str) -> None:
    """Raises DatabaseError where the connection's role is neither the operator nor the owner of the tables. `setting` names its URL."""
    if not await connection.fetchval("SELECT has_table_privilege('clients', 'INSERT')"):
        role = await connection.fetchval("SELECT current_user")
        raise DatabaseError(f"{setting} logs in as {role}, which may not make clients and grants: name the operator role.")


async def require_owner(connection: Connection, setting: str) -> None:
    """Raises DatabaseError where there are tables, and the connection's role is not their owner. `setting` names its URL."""
    wrong = await connection.fetchrow(_OTHER_OWNER)
    if wrong is not None:
        raise DatabaseError("The tables of {} belong to {}, and {} logs in as {}.".format(*wrong[:2], setting, wrong[2]))


_OTHER_OWNER = """
SELECT current_database()::text, pg_get_userbyid(relowner)::text, current_user::text FROM pg_class
WHERE relnamespace = to_regnamespace('public') AND relname = 'tenants' AND NOT pg_has_role(relowner, 'USAGE')
"""


async def list_roles_without_login(connection: Connection, names: RoleNames) -> list[str]:
    """Returns the names of the roles that cannot log in yet."""
    stand = await connection.fetchrow(_STAND, [names.app, names.operator])
    assert stand is not None
    return list(stand["without_login"])
