"""PostgreSQL with nothing installed: makes a cluster in one folder, starts, recovers and stops it (programs.py finds its programs).

    supervisor.lock   held by the process that called `start`, so that a second one is refused
    server.lock       inherited by the server and all its children, and by the programs that make a cluster: held while any of them lives
    passwords.json    one random password for each role (mode 0600)
    postgresql/       the cluster itself, owned by whoever the server runs as
    server.log        what the server said since the last start; server.log.1 is the run before

The locks are `flock`s, which the kernel drops with the last process that holds them: a server left over from a killed parent is
known without trusting process ids, which containers hand out again. A cluster is made under another name and renamed when complete,
so a first start that is killed half-way leaves nothing that looks like a database.
"""

import asyncio
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

import asyncpg

from domain.store.programs import (
    Binaries,
    EmbeddedError,
    NotStarted,
    Programs,
    find_binaries,
    find_server_user,
    make_runnable,
    take_last_lines,
)

HOST = "127.0.0.1"
DATABASE = "markonce"
SUPERUSER = "postgres"
ROLES = {"markonce_owner": "LOGIN CREATEDB CREATEROLE", "markonce_app": "LOGIN", "markonce_operator": "LOGIN"}

_SHARED_BUFFERS = ("256MB", "64MB", "16MB")  # the next is tried when the machine refuses the one before
_NO_MEMORY = re.compile("could not (map anonymous|create|resize) shared memory")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (only measured)
_MIN_SHARED_MEMORY = (
    256 << 20
)  # bytes; where /dev/shm is smaller (containers: 64 MB) parallel queries share memory by files instead
_WAIT_SECONDS = 300.0  # seconds; recovery after a crash and the last checkpoint may have much to do

# A statement, its parameters and an error's DETAIL hold names and UPNs. The client gets its own errors; the log gets the server's.
_LOGGING = {
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
}
_SETTINGS = _LOGGING | {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "jit": "off",
    "timezone": "UTC",
    "wal_level": "replica",  # so that pg_basebackup can copy a running cluster
    "wal_compression": "on",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
}


@dataclass(frozen=True)
class Cluster:
    """A running server, ours until `stop`. Its roles are ROLES and SUPERUSER; the database DATABASE belongs to markonce_owner."""

    data_dir: Path
    host: str
    port: int
    passwords: Mapping[str, str] = field(repr=False)
    _programs: Programs = field(repr=False)
    _supervisor: IO[bytes] = field(repr=False)
    _process: subprocess.Popen[bytes] | None = field(repr=False)  # None: left over from another process and taken over

    def url(self, database: str, role: str) -> str:
        """`postgresql://role:password@host:port/database`. Raises KeyError for a role that start() has not made."""
        return f"postgresql://{role}:{self.passwords[role]}@{self.host}:{self.port}/{quote(database, safe='')}"

    def stop(self) -> None:
        """Shut down fast (sessions are ended, everything committed is on disk) and wait for it. A second call does nothing."""
        if self._supervisor.closed:
            return
        _shut_down(self._programs, self.data_dir)
        if self._process:
            self._process.wait()
        fcntl.flock(self._supervisor, fcntl.LOCK_UN)  # said aloud, because forked workers hold the same lock
        self._supervisor.close()


def start(data_dir: Path, *, port: int | None = None, durable: bool = True, binaries: Binaries | None = None) -> Cluster:
    """Start the cluster in `data_dir` (made if the folder is absent or empty) on 127.0.0.1, at a free port unless one is given.

    durable=False is for tests: a commit does not wait for the disk and may be lost or damaged if the machine fails. A server left
    running by a killed process is taken over when it has the port and durability asked for, otherwise stopped and started anew.
    Blocks for about a second, longer after a crash. Raises EmbeddedError, and then nothing that was started is left running.
    """
    data_dir = Path(data_dir).absolute()
    home = data_dir / "postgresql"
    try:
        with ExitStack() as undone_on_failure:
            supervisor = undone_on_failure.enter_context(_lock_data_folder(data_dir))
            made_by = int((home / "PG_VERSION").read_text()) if home.exists() else None
            binaries = binaries or find_binaries(made_by)
            if made_by not in (None, binaries.major):
                raise EmbeddedError(
                    f"the data folder {data_dir} was made by PostgreSQL {made_by}, and the programs found are version"
                    f" {binaries.major} ({binaries.folder}): install version {made_by}, or move the data with its pg_dump"
                )
            programs = make_runnable(binaries, find_server_user(home))
            passwords = _load_passwords(data_dir, keep=home.exists())
            if not home.exists():
                _make_cluster(programs, data_dir, passwords, durable)
            process = None
            running = _take_over(programs, data_dir, passwords[SUPERUSER], port, durable)
            if running is None:
                process, running = _launch(programs, data_dir, port, durable)
            undone_on_failure.pop_all()
            return Cluster(data_dir, HOST, running, passwords, programs, supervisor, process)
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"the embedded database in {data_dir} can't be started: {error}") from error


def _lock_data_folder(data_dir: Path) -> IO[bytes]:
    """Make the folder if need be and take its supervisor lock. Raises EmbeddedError if it is another's, or in use."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = data_dir / "supervisor.lock"
    foreign = {entry.name for entry in data_dir.iterdir()} - {"lost+found"}  # what a fresh volume holds
    if foreign and not lock.exists():
        what = "holds a PostgreSQL cluster" if "PG_VERSION" in foreign else f"holds other files, such as {min(foreign)}"
        raise EmbeddedError(f"the data folder {data_dir} was not made by Markonce: it {what}; name an empty or absent folder")
    supervisor = _lock(lock)
    if not supervisor:
        raise EmbeddedError(f"the data folder {data_dir} is in use by another Markonce (process {lock.read_text() or 'unknown'})")
    supervisor.truncate(0)
    supervisor.write(str(os.getpid()).encode())
    supervisor.flush()
    return supervisor


def _lock(path: Path) -> IO[bytes] | None:
    """The file, locked until it is closed everywhere; None while another holds it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _is_free(path: Path) -> bool:
    lock = _lock(path)
    if lock:
        lock.close()
    return lock is not None


def _load_passwords(data_dir: Path, keep: bool) -> dict[str, str]:
    """The password of each role: those of the cluster that is there, or new ones for the one about to be made."""
    kept = data_dir / "passwords.json"
    if keep:
        if not kept.exists():
            raise EmbeddedError(f"{kept} is gone, and nobody can log in to the cluster without it: restore the file")
        found: dict[str, str] = json.loads(kept.read_text())
        return found
    passwords = {role: secrets.token_urlsafe(32) for role in (SUPERUSER, *ROLES)}
    kept.unlink(missing_ok=True)
    with open(kept, "w", opener=lambda path, flags: os.open(path, flags | os.O_EXCL, 0o600)) as file:
        json.dump(passwords, file)
        file.flush()
        os.fsync(file.fileno())
    return passwords


def _make_cluster(programs: Programs, data_dir: Path, passwords: Mapping[str, str], durable: bool) -> None:
    """initdb, then the roles and the database in single-user mode (nobody else can connect), then the rename that makes it real."""
    with _wait_for_lock(data_dir / "server.lock") as lock:  # the programs of a start that was killed may still be writing
        _make_cluster_alone(programs, data_dir, passwords, durable, lock.fileno())


def _wait_for_lock(path: Path) -> IO[bytes]:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not (lock := _lock(path)):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"programs of an earlier start in {path.parent} do not end")
        time.sleep(0.05)
    return lock


def _make_cluster_alone(programs: Programs, data_dir: Path, passwords: Mapping[str, str], durable: bool, lock: int) -> None:
    making = data_dir / "postgresql.new"
    if making.exists():
        shutil.rmtree(making)
    making.mkdir(mode=0o700)
    locale = ["--locale=C", *(["--locale-provider=builtin", "--builtin-locale=C"] if programs.binaries.major >= 17 else [])]
    sync = [] if durable else ["--no-sync"]
    statements = [
        *(f"CREATE ROLE {role} {rights} PASSWORD '{passwords[role]}';" for role, rights in ROLES.items()),
        f"CREATE DATABASE {DATABASE} OWNER markonce_owner;",
        f"REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC;",
        f"GRANT CONNECT ON DATABASE {DATABASE} TO markonce_app, markonce_operator;",
    ]
    with tempfile.TemporaryFile() as password:
        password.write(passwords[SUPERUSER].encode())
        password.seek(0)
        if programs.user:
            os.chown(making, *programs.user)
            os.fchown(password.fileno(), *programs.user)
        with programs.reach(making) as (folder, descriptors):
            options = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile=/dev/fd/{password.fileno()}"]
            options += ["--data-checksums", "--encoding=UTF8", *locale, *sync]
            programs.run("initdb", f"--pgdata={folder}", *options, inherit=(lock, password.fileno(), *descriptors))
            options = _format_options(_LOGGING | _make_durability_settings(durable) | {"exit_on_error": "on"})
            said = "".join(f"{statement}\n" for statement in statements)
            programs.run("postgres", "--single", "-D", folder, *options, SUPERUSER, said=said, inherit=(lock, *descriptors))
    making.rename(data_dir / "postgresql")
    descriptor = os.open(data_dir, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _make_durability_settings(durable: bool) -> dict[str, str]:
    return dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "on" if durable else "off")


def _format_options(settings: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]


class _PidFile(NamedTuple):
    """What a server says of itself in its pid file (miscadmin.h, LOCK_FILE_LINE_*)."""

    pid: int
    since: str
    port: int
    ready: bool


def _read_pid_file(data_dir: Path) -> _PidFile | None:
    """What stands in the pid file, stale or not; None where there is none, or it is still being written."""
    try:
        pid, _, since, port, _, _, _, status = (data_dir / "postgresql" / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, ValueError):
        return None
    return _PidFile(int(pid), since, int(port), status.strip() == "ready")


def _take_over(programs: Programs, data_dir: Path, password: str, port: int | None, durable: bool) -> int | None:
    """The port of a server that a killed process left running here; None when none is left, or it was not what is asked for."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not _is_free(data_dir / "server.lock"):
        left = _read_pid_file(data_dir)
        if left and left.ready and (fsync := _read_fsync(left.port, password)):
            if port in (None, left.port) and fsync == _make_durability_settings(durable)["fsync"]:
                return left.port
            _shut_down(programs, data_dir)
        elif time.monotonic() > deadline:
            raise EmbeddedError(f"a server left running here neither answers nor ends (process {left.pid if left else 'unknown'})")
        time.sleep(0.05)
    return None


def _read_fsync(port: int, password: str) -> str | None:
    """The server's answer to SHOW fsync, None if it gives none. That it lets us in by SCRAM proves that it is ours."""

    async def ask() -> str:
        connection = await asyncpg.connect(
            host=HOST, port=port, user=SUPERUSER, password=password, database=SUPERUSER, ssl=False, timeout=5
        )
        try:
            return str(await connection.fetchval("SHOW fsync"))
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as aside:  # the caller's thread may be running an event loop of its own
        try:
            return aside.submit(lambda: asyncio.run(ask())).result()
        except (OSError, asyncpg.CannotConnectNowError):
            return None
        except asyncpg.PostgresError as error:
            raise EmbeddedError(f"the server left running here does not let us in: {error}") from error


def _shut_down(programs: Programs, data_dir: Path) -> None:
    """Stop the server by PostgreSQL's own pg_ctl, as the server's user: a forged pid file can't make root signal a stranger."""
    lock = data_dir / "server.lock"
    if _is_free(lock):
        return
    with programs.reach(data_dir / "postgresql") as (folder, descriptors), suppress(EmbeddedError):  # it may be ending by itself
        programs.run("pg_ctl", "stop", f"--pgdata={folder}", "--mode=fast", "--no-wait", inherit=descriptors)
    deadline = time.monotonic() + _WAIT_SECONDS
    while not _is_free(lock):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"the server in {data_dir} does not stop:\n{take_last_lines((data_dir / 'server.log').read_text())}"
            )
        time.sleep(0.02)


def _launch(programs: Programs, data_dir: Path, port: int | None, durable: bool) -> tuple[subprocess.Popen[bytes], int]:
    """Start a new server and wait until it answers. Returns it with its port."""
    log = data_dir / "server.log"
    if log.exists():
        log.replace(data_dir / "server.log.1")
    settings = _SETTINGS | _make_durability_settings(durable)
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free < _MIN_SHARED_MEMORY:
        settings["dynamic_shared_memory_type"] = "mmap"
    sizes = list(_SHARED_BUFFERS)
    while True:
        chosen = port or _find_free_port()
        try:
            return _launch_once(programs, data_dir, settings | {"port": str(chosen), "shared_buffers": sizes[0]}), chosen
        except NotStarted as error:
            if _NO_MEMORY.search(str(error)) and len(sizes) > 1:
                sizes.pop(0)
            elif "Address already in use" not in str(error):
                raise
            elif port:
                raise EmbeddedError(f"port {port} on {HOST} is already taken: stop its owner or choose another port") from error


def _find_free_port() -> int:
    """A port that is free now; should another take it first, `_launch` asks again."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def _launch_once(programs: Programs, data_dir: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the server and wait until it is ready. Raises NotStarted with what it wrote to its log."""
    before = _read_pid_file(data_dir)
    with (data_dir / "server.log").open("a+b") as log, (data_dir / "server.lock").open("ab") as lock:
        begin = log.seek(0, os.SEEK_END)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with programs.reach(data_dir / "postgresql") as (folder, descriptors):
            process = programs.spawn(
                *("postgres", "-D", folder, *_format_options(settings)),
                stdin=subprocess.DEVNULL,
                output=log,
                inherit=(lock.fileno(), *descriptors),
                replaces=before.pid if before else 0,
            )
        lock.close()  # from here on only the server holds it
        try:
            deadline = time.monotonic() + _WAIT_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                now = _read_pid_file(data_dir)
                if now and now != before and now.pid == process.pid and now.ready:
                    return process
                time.sleep(0.02)
            log.seek(begin)
            raise NotStarted(f"the server in {data_dir} did not start:\n{take_last_lines(log.read().decode(errors='replace'))}")
        except BaseException:
            process.send_signal(signal.SIGINT)  # nothing happens where it has ended already
            process.wait()
            raise
