"""What `serve` checks before it listens: the role, the schema, the signing key and the clock."""

import json
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from api.http.health import find_start_faults
from domain.clients.signing_keys import ensure_signing_key
from domain.store import embedded
from tests.fixtures.commands import run_command
from tests.fixtures.databases import Databases
from tests.fixtures.settings import SECRET

OTHER = b"another secret of an installation, for tests"


@pytest_asyncio.fixture(scope="module")
async def keyed(module_databases: Databases) -> Databases:
    connection = await asyncpg.connect(module_databases.operator_url)
    await ensure_signing_key(connection, SECRET.encode())
    await connection.close()
    return module_databases


@pytest_asyncio.fixture
async def superuser(keyed: Databases) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(keyed.cluster.url(keyed.name, embedded.SUPERUSER))
    yield connection
    await connection.close()


async def test_the_app_role_with_the_right_secret_may_serve(keyed: Databases) -> None:
    assert await find_start_faults(keyed.app_url, [SECRET.encode()]) == []


async def test_the_secret_and_the_clock_are_checked_together(keyed: Databases) -> None:
    secret, clock = sorted(
        await find_start_faults(keyed.app_url, [OTHER], clock=lambda: time.time() + 3600), key=lambda fault: "clock" in fault
    )
    assert secret.startswith("MARKONCE_SECRET is not the one")
    assert "3,600 s apart" in clock
    assert "Set both by NTP" in clock


@pytest.mark.parametrize(
    ("rights", "kind"),
    [
        ("SUPERUSER", "a superuser"),
        ("BYPASSRLS IN ROLE markonce_app", "bypasses row-level security"),
        ("IN ROLE markonce_app, markonce_owner", "the owner of the tables, or a role that may become it"),
        ("IN ROLE markonce_app, markonce_operator", "the operator, to whom row-level security shows every row"),
    ],
)
async def test_a_role_that_row_level_security_does_not_confine_is_refused(
    keyed: Databases, superuser: Any, rights: str, kind: str
) -> None:
    await superuser.execute(f"CREATE ROLE tried LOGIN {rights}")
    await superuser.execute("ALTER ROLE tried PASSWORD 'tried'")
    try:
        url = f"postgres://tried:tried@{keyed.cluster.host}:{keyed.cluster.port}/{keyed.name}"
        await superuser.execute(f"GRANT CONNECT ON DATABASE {keyed.name} TO tried")
        (fault,) = await find_start_faults(url, [SECRET.encode()])
        assert kind in fault
        assert fault.endswith("name the app role.")
    finally:
        await superuser.execute(f"REVOKE ALL ON DATABASE {keyed.name} FROM tried")
        await superuser.execute("DROP ROLE tried")


async def test_a_role_without_rights_is_not_said_to_see_no_tables(keyed: Databases, superuser: Any) -> None:
    await superuser.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    try:
        url = f"postgres://stranger:stranger@{keyed.cluster.host}:{keyed.cluster.port}/{keyed.name}"
        (fault,) = await find_start_faults(url, [SECRET.encode()])
        assert "has tables, and the role that logs in may not use them" in fault
    finally:
        await superuser.execute("DROP ROLE stranger")


def test_serve_lists_faults_of_settings_and_database_and_does_not_listen(keyed: Databases) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": keyed.operator_url,
        "MARKONCE_SECRET": OTHER.decode(),
        "MARKONCE_BASE_URL": "h",
    }
    done = run_command("serve", "--port", "1", environment=environment)
    assert done.returncode == 1
    assert "error: 3 things are wrong:" in done.stdout
    for said in ("MARKONCE_BASE_URL is how clients reach the server", "MARKONCE_SECRET is not the one", "names the operator"):
        assert said in done.stdout
    assert "Serving" not in done.stdout
    assert "Traceback" not in done.stderr
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["event"], line["level"], len(line["faults"])) == ("server not started", "error", 3)
    assert OTHER.decode() not in done.stderr + done.stdout


def test_a_command_and_a_backup_refuse_the_app_role(keyed: Databases, tmp_path: Path) -> None:
    """Whether they read or write; the message names the setting and the role."""
    environment = {"PATH": os.environ["PATH"], "DATABASE_OPERATOR_URL": keyed.app_url, "DATABASE_OWNER_URL": keyed.app_url}
    file = tmp_path / "markonce.dump"
    said = {
        arguments: run_command(*arguments, environment=environment)
        for arguments in (("client", "list"), ("client", "create", "Mistaken"), ("backup", str(file)))
    }
    for arguments, done in said.items():
        assert (done.returncode, done.stderr) == (1, ""), arguments
        setting = "DATABASE_OWNER_URL" if arguments[0] == "backup" else "DATABASE_OPERATOR_URL"
        assert f"{setting} logs in as markonce_app" in done.stdout, arguments
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_in_use_is_a_line_of_the_log(keyed: Databases) -> None:
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": keyed.app_url, "MARKONCE_SECRET": SECRET}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_command("serve", "--port", port, environment=environment)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, line["event"]) == (1, "server not started")
    assert f"Port {port} on 127.0.0.1 is in use" in done.stdout
    assert f"Port {port} on 127.0.0.1 is in use" in line["faults"][0]
