"""`init` on an empty server with the least privilege: roles by an administrator's SQL or URL, and what is wrong told truly."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from api.settings import SettingsError, read_role_names
from domain.store import embedded
from domain.store.role_names import RoleNames
from tests.fixtures.commands import run_command
from tests.fixtures.settings import SECRET

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROLES = {"MARKONCE_OWNER_ROLE": "first_owner", "MARKONCE_APP_ROLE": "first_app", "MARKONCE_OPERATOR_ROLE": "first_operator"}
DATABASE = "first_database"
PASSWORD = "hush-4%"
ADMIN = "first_admin"


@dataclass
class EmptyServer:
    """A server with an administrator that is no superuser, and nothing of ours but the cluster of the suite."""

    cluster: embedded.Cluster
    superuser: Any
    environment: dict[str, str] = field(default_factory=dict)

    def url(self, role: str, database: str = DATABASE) -> str:
        return f"postgres://{role}:{PASSWORD.replace('%', '%25')}@{self.cluster.host}:{self.cluster.port}/{database}"

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        settings = {
            "DATABASE_OWNER_URL": self.url("first_owner"),
            "DATABASE_URL": self.url("first_app"),
            "DATABASE_OPERATOR_URL": self.url("first_operator"),
            "MARKONCE_SECRET": SECRET,
            **ROLES,
            **environment,
        }
        done = run_command(*arguments, environment={"PATH": os.environ["PATH"], **settings})
        assert "Traceback" not in done.stderr, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    async def clear(self) -> None:
        await self.superuser.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        for role in ROLES.values():
            await self.superuser.execute(f"DROP ROLE IF EXISTS {role}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def empty(cluster: embedded.Cluster) -> AsyncIterator[EmptyServer]:
    superuser = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
    await superuser.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB PASSWORD '{PASSWORD}'")
    server = EmptyServer(cluster, superuser)
    yield server
    await server.clear()
    await superuser.execute(f"DROP ROLE {ADMIN}")
    await superuser.close()


async def test_the_names_of_roles_are_a_setting() -> None:
    assert read_role_names(ROLES) == RoleNames("first_owner", "first_app", "first_operator")
    assert (
        RoleNames(app="a", operator="o").rename_roles("TO markonce_app, markonce_operator; markonce_apps")
        == "TO a, o; markonce_apps"
    )
    for wrong in ({"MARKONCE_APP_ROLE": 'x"; DROP'}, {"MARKONCE_APP_ROLE": "App"}, {"MARKONCE_APP_ROLE": "markonce_owner"}):
        with pytest.raises(SettingsError, match="MARKONCE_APP_ROLE"):
            read_role_names(wrong)


async def test_what_is_wrong_is_said_before_anything_is_made(empty: EmptyServer) -> None:
    """An empty server, roles of which one is missing, and an owner without rights."""
    await empty.clear()
    code, said = empty.run("init", MARKONCE_SECRET="short", MARKONCE_APP_ROLE="App")
    assert (code, "2 things are wrong" in said, "A new random value:" in said) == (1, True, True), said
    code, said = empty.run("init", MARKONCE_LEDGER="/nowhere/server.ledger")
    assert (code, "Its folder must be there" in said, "refuses" in said) == (1, True, False), said
    code, said = empty.run("init")
    assert (code, "DATABASE_OWNER_URL: " in said, "refuses the login of the role first_owner" in said) == (1, True, True), said
    assert "`init --print-roles` prints the SQL that makes the roles" in said
    code, said = empty.run("init", DATABASE_OWNER_URL=empty.url("first_owner", "postgres"))
    assert (code, "The URLs name different databases: " in said, "DATABASE_OWNER_URL the database postgres" in said) == (
        1,
        True,
        True,
    ), said
    for arguments in ([], ["--admin-url", empty.url(ADMIN, "postgres").replace(f":{PASSWORD.replace('%', '%25')}@", "@")]):
        code, said = empty.run(
            "init",
            *arguments,
            DATABASE_OWNER_URL=f"postgres://first_owner@{empty.cluster.host}:{empty.cluster.port}/{DATABASE}",
            HOME="/nowhere",
        )
        assert (code, "No password was given (URL, PGPASSWORD or ~/.pgpass)." in said) == (1, True), said
    await empty.superuser.execute(f"CREATE ROLE first_owner LOGIN PASSWORD '{PASSWORD}'")
    code, said = empty.run("init")
    assert (code, "there is no database first_database" in said) == (1, True), said
    await empty.superuser.execute(f"CREATE DATABASE {DATABASE}")
    code, said = empty.run("init")
    assert (code, "2 things are wrong" in said) == (1, True), said
    assert (
        "There is no role first_app and no role first_operator, and first_owner, the role of DATABASE_OWNER_URL, may not make roles"
        in said
    )
    assert "init --print-roles" in said
    assert "ALTER DATABASE first_database OWNER TO first_owner" in said
    code, said = empty.run("init", "--admin-url", empty.url("first_owner", "postgres"))
    assert (code, "The role first_owner of --admin-url could not make the role first_app" in said, "CREATEROLE" in said) == (
        1,
        True,
        True,
    ), said


async def test_an_administrator_runs_the_printed_sql(empty: EmptyServer) -> None:
    """Each statement, as the administrator that is no superuser; then the roles log in with the passwords of the URLs."""
    await empty.clear()
    code, said = empty.run("init", "--print-roles")
    assert code == 0, said
    assert said.count("PASSWORD 'SCRAM-SHA-256$4096:") == 3
    assert "\\password" not in said
    admin = await asyncpg.connect(empty.url(ADMIN, "postgres"))
    for line in said.splitlines():
        if not line.startswith("--"):
            await admin.execute(line)
    await admin.close()
    rights = await empty.superuser.fetch(
        "SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls AS more, rolcanlogin FROM pg_roles WHERE rolname LIKE 'first\\_%'"
        " AND rolname <> $1", ADMIN,
    )  # fmt: skip
    assert {(row["rolname"], row["more"], row["rolcanlogin"]) for row in rights} == {(role, False, True) for role in ROLES.values()}
    for role in ROLES.values():
        connection = await asyncpg.connect(empty.url(role))
        await connection.close()
    code, said = empty.run("init", "--print-roles", DATABASE_URL="", DATABASE_OPERATOR_URL="")
    assert (code, said.count("\\password"), said.count("PASSWORD '")) == (0, 2, 1), said


async def test_init_makes_an_installation_that_serves(empty: EmptyServer) -> None:
    """With the roles and the database of an administrator, all else as an owner that may nothing else. A second run changes nothing."""
    await empty.clear()
    code, said = empty.run("init", "--admin-url", empty.url(ADMIN, "postgres"), MARKONCE_BASE_URL="http://127.0.0.1:8000")
    assert code == 0, said
    for line in (
        "Made the role first_owner.",
        "Made the database first_database, which belongs to first_owner.",
        "client_secret  ",
    ):
        assert line in said
    _, left = said.split("Left to do:")
    assert [line.split(":")[0].strip() for line in left.strip().splitlines()] == [
        "Import the register",
        "Register clients",
        "Serve",
    ]
    code, said = empty.run("init", "--admin-url", empty.url(ADMIN, "postgres"))
    assert (code, said.count("stays as it is"), "nothing was changed" in said, "client_secret" in said) == (0, 4, True, False), said
    owner = await asyncpg.connect(empty.url("first_owner"))
    roles = await owner.fetch(
        "SELECT DISTINCT unnest(roles)::text AS role FROM pg_policies"
        " UNION SELECT DISTINCT grantee FROM information_schema.table_privileges WHERE table_schema = 'public'"
    )
    texts = await owner.fetchval(
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosrc ~ 'markonce_(app|operator)'"
    )
    await owner.close()
    assert {row["role"] for row in roles} - {"public", "PUBLIC"} == set(ROLES.values())
    assert texts == 0
    code, said = empty.run("migrate", MARKONCE_APP_ROLE="", MARKONCE_OPERATOR_ROLE="")
    assert (code, "were made for other roles than markonce_app and markonce_operator" in said) == (1, True), said
    code, said = empty.run("init", DATABASE_URL=empty.cluster.url(DATABASE, embedded.SUPERUSER))
    assert (code, "DATABASE_URL names a superuser" in said) == (0, True), said
