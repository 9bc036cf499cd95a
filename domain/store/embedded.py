"""Runs PostgreSQL without an installation: creates a cluster in one folder, starts, recovers and stops it (programs.py
finds the programs).

    supervisor.lock   locked by the process that called `start`, so that a second one is refused
    server.lock       inherited by the server, its children and the programs that create a cluster: locked while any of them lives
    passwords.json    a random password for each role (mode 0600)
    postgresql/       the cluster, owned by the user that the server runs as
    server.log        the log since the last start; server.log.1 is that of the run before

The locks are `flock`s, which the kernel releases with the last process that holds them. So a server left running by a
killed process is found without process ids, which containers reuse. A cluster is created under another name and renamed
when complete, so a first start that is killed half-way leaves nothing that looks like a database.
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

from domain.store.file_locks import is_unlocked, lock_file, wait_for_lock
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

_SHARED_BUFFERS = ("256MB", "64MB", "16MB")  # in the order in which they are tried
_NO_MEMORY = re.compile("could not (map anonymous|create|resize) shared memory")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (only measured)
_MIN_SHARED_MEMORY = 256 << 20  # bytes; if /dev/shm has less, parallel queries share files
_WAIT_SECONDS = 300.0  # recovery after a crash, or the last checkpoint, may take long

# The log holds no statements, parameters or DETAIL of errors, since they may hold names and UPNs.
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
    """A running server, which `stop` ends.

    Its roles are ROLES and SUPERUSER; the database DATABASE belongs to markonce_owner.
    """

    data_dir: Path
    host: str
    port: int
    passwords: Mapping[str, str] = field(repr=False)
    _programs: Programs = field(repr=False)
    _supervisor: IO[bytes] = field(repr=False)
    _process: subprocess.Popen[bytes] | None = field(repr=False)  # None: started by another process

    def url(self, database: str, role: str) -> str:
        """Returns `postgresql://role:password@host:port/database`.

        Raises KeyError for a role that `start` has not created.
        """
        return f"postgresql://{role}:{self.passwords[role]}@{self.host}:{self.port}/{quote(database, safe='')}"

    def stop(self) -> None:
        """Shuts the server down in fast mode (sessions are ended, everything committed is on disk) and waits for it.

        Does nothing if it is stopped.
        """
        if self._supervisor.closed:
            return
        _shut_down(self._programs, self.data_dir)
        if self._process:
            self._process.wait()
        fcntl.flock(self._supervisor, fcntl.LOCK_UN)  # explicitly, because forked workers hold the same lock
        self._supervisor.close()


def start(data_dir: Path, *, port: int | None = None, durable: bool = True, binaries: Binaries | None = None) -> Cluster:
    """Starts the cluster in `data_dir` on 127.0.0.1, at a free port unless `port` names one. Creates it if the folder
    is absent or empty.

    durable=False is for tests: a commit does not wait for the disk, and data may be lost if the machine fails. A server
    left running by a killed process is reused if it has this port and durability, and otherwise restarted. Blocks for
    about a second, longer after a crash. Raises EmbeddedError, and then leaves no process running.
    """
    data_dir = Path(data_dir).absolute()
    home = data_dir / "postgresql"
    try:
        with ExitStack() as cleanup_on_failure:
            supervisor = cleanup_on_failure.enter_context(_lock_data_folder(data_dir))
            cluster_major = int((home / "PG_VERSION").read_text()) if home.exists() else None
            binaries = binaries or find_binaries(cluster_major)
            if cluster_major not in (None, binaries.major):
                raise EmbeddedError(
                    f"the data folder {data_dir} was made by PostgreSQL {cluster_major}, and the programs found are version"
                    f" {binaries.major} ({binaries.folder}): install version {cluster_major}, or move the data with its pg_dump"
                )
            programs = make_runnable(binaries, find_server_user(home))
            passwords = _load_passwords(data_dir, has_cluster=home.exists())
            if not home.exists():
                _make_cluster(programs, data_dir, passwords, durable)
            process = None
            running = _take_over(programs, data_dir, passwords[SUPERUSER], port, durable)
            if running is None:
                process, running = _launch(programs, data_dir, port, durable)
            cleanup_on_failure.pop_all()
            return Cluster(data_dir, HOST, running, passwords, programs, supervisor, process)
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"the embedded database in {data_dir} can't be started: {error}") from error


def _lock_data_folder(data_dir: Path) -> IO[bytes]:
    """Creates the folder if it is absent and takes its supervisor lock.

    Raises EmbeddedError if the folder holds other files, or is in use.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = data_dir / "supervisor.lock"
    foreign = {entry.name for entry in data_dir.iterdir()} - {"lost+found"}  # what a fresh volume holds
    if foreign and not lock.exists():
        what = "holds a PostgreSQL cluster" if "PG_VERSION" in foreign else f"holds other files, such as {min(foreign)}"
        raise EmbeddedError(f"the data folder {data_dir} was not made by Markonce: it {what}; name an empty or absent folder")
    supervisor = lock_file(lock)
    if not supervisor:
        raise EmbeddedError(f"the data folder {data_dir} is in use by another Markonce (process {lock.read_text() or 'unknown'})")
    supervisor.truncate(0)
    supervisor.write(str(os.getpid()).encode())
    supervisor.flush()
    return supervisor


def _load_passwords(data_dir: Path, has_cluster: bool) -> dict[str, str]:
    """Returns the password of each role: the stored ones, or new ones for a cluster to be created."""
    file_path = data_dir / "passwords.json"
    if has_cluster:
        if not file_path.exists():
            raise EmbeddedError(f"{file_path} is missing, and without it no login to the cluster is possible: restore the file")
        stored: dict[str, str] = json.loads(file_path.read_text())
        return stored
    passwords = {role: secrets.token_urlsafe(32) for role in (SUPERUSER, *ROLES)}
    file_path.unlink(missing_ok=True)
    with open(file_path, "w", opener=lambda path, flags: os.open(path, flags | os.O_EXCL, 0o600)) as file:
        json.dump(passwords, file)
        file.flush()
        os.fsync(file.fileno())
    return passwords


def _make_cluster(programs: Programs, data_dir: Path, passwords: Mapping[str, str], durable: bool) -> None:
    """Creates a cluster: runs initdb, creates roles and database in single-user mode (nobody else can connect), and
    renames the folder.
    """
    with wait_for_lock(data_dir / "server.lock", _WAIT_SECONDS) as lock:  # programs of a killed start may still be writing
        _make_cluster_exclusively(programs, data_dir, passwords, durable, lock.fileno())


def _make_cluster_exclusively(programs: Programs, data_dir: Path, passwords: Mapping[str, str], durable: bool, lock: int) -> None:
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
        with programs.open_folder(making) as (folder, descriptors):
            options = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile=/dev/fd/{password.fileno()}"]
            options += ["--data-checksums", "--encoding=UTF8", *locale, *sync]
            programs.run("initdb", f"--pgdata={folder}", *options, inherit=(lock, password.fileno(), *descriptors))
            options = _format_options(_LOGGING | _make_durability_settings(durable) | {"exit_on_error": "on"})
            script = "".join(f"{statement}\n" for statement in statements)
            programs.run("postgres", "--single", "-D", folder, *options, SUPERUSER, stdin_text=script, inherit=(lock, *descriptors))
    making.rename(data_dir / "postgresql")
    descriptor = os.open(data_dir, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _make_durability_settings(durable: bool) -> dict[str, str]:
    return dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "on" if durable else "off")


def _format_options(settings: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in settings.items()]


class _PidFile(NamedTuple):
    """The contents of a server's pid file (miscadmin.h, LOCK_FILE_LINE_*)."""

    pid: int
    since: str
    port: int
    ready: bool


def _read_pid_file(data_dir: Path) -> _PidFile | None:
    """Returns the contents of the pid file, stale or not; None if there is none or it is incomplete."""
    try:
        pid, _, since, port, _, _, _, status = (data_dir / "postgresql" / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, ValueError):
        return None
    return _PidFile(int(pid), since, int(port), status.strip() == "ready")


def _take_over(programs: Programs, data_dir: Path, password: str, port: int | None, durable: bool) -> int | None:
    """Returns the port of a server that a killed process left running here.

    Stops one with another port or durability, and returns None.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while not is_unlocked(data_dir / "server.lock"):
        server = _read_pid_file(data_dir)
        if server and server.ready and (fsync := _read_fsync(server.port, password)):
            if port in (None, server.port) and fsync == _make_durability_settings(durable)["fsync"]:
                return server.port
            _shut_down(programs, data_dir)
        elif time.monotonic() > deadline:
            raise EmbeddedError(
                f"a server left running here neither answers nor ends (process {server.pid if server else 'unknown'})"
            )
        time.sleep(0.05)
    return None


def _read_fsync(port: int, password: str) -> str | None:
    """Returns the server's setting fsync, None if it does not answer. SCRAM proves that the server has our passwords.

    Raises EmbeddedError if the login fails.
    """

    async def read_setting() -> str:
        connection = await asyncpg.connect(
            host=HOST, port=port, user=SUPERUSER, password=password, database=SUPERUSER, ssl=False, timeout=5
        )
        try:
            return str(await connection.fetchval("SHOW fsync"))
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as executor:  # the caller's thread may be running an event loop
        try:
            return executor.submit(lambda: asyncio.run(read_setting())).result()
        except (OSError, asyncpg.CannotConnectNowError):
            return None
        except asyncpg.PostgresError as error:
            raise EmbeddedError(f"the server left running here refuses the login: {error}") from error


def _shut_down(programs: Programs, data_dir: Path) -> None:
    """Stops the server by pg_ctl, run as the server's user: so a forged pid file cannot make root signal another
    process.
    """
    lock = data_dir / "server.lock"
    if is_unlocked(lock):
        return
    with (
        programs.open_folder(data_dir / "postgresql") as (folder, descriptors),
        suppress(EmbeddedError),
    ):  # the server may be ending by itself
        programs.run("pg_ctl", "stop", f"--pgdata={folder}", "--mode=fast", "--no-wait", inherit=descriptors)
    deadline = time.monotonic() + _WAIT_SECONDS
    while not is_unlocked(lock):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"the server in {data_dir} does not stop:\n{take_last_lines((data_dir / 'server.log').read_text())}"
            )
        time.sleep(0.02)


def _launch(programs: Programs, data_dir: Path, port: int | None, durable: bool) -> tuple[subprocess.Popen[bytes], int]:
    """Starts a new server and waits until it answers. Returns its process and port."""
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
    """Returns a port that is free now. If another process takes it first, `_launch` tries another."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


def _launch_once(programs: Programs, data_dir: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts the server and waits until it is ready. Raises NotStarted with the end of its log."""
    before = _read_pid_file(data_dir)
    with (data_dir / "server.log").open("a+b") as log, (data_dir / "server.lock").open("ab") as lock:
        log_start = log.seek(0, os.SEEK_END)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with programs.open_folder(data_dir / "postgresql") as (folder, descriptors):
            process = programs.spawn(
                *("postgres", "-D", folder, *_format_options(settings)),
                stdin=subprocess.DEVNULL,
                output=log,
                inherit=(lock.fileno(), *descriptors),
                replaces=before.pid if before else 0,
            )
        lock.close()  # from here on only the server has it locked
        try:
            deadline = time.monotonic() + _WAIT_SECONDS
            while process.poll() is None and time.monotonic() < deadline:
                after = _read_pid_file(data_dir)
                if after and after != before and after.pid == process.pid and after.ready:
                    return process
                time.sleep(0.02)
            log.seek(log_start)
            raise NotStarted(f"the server in {data_dir} did not start:\n{take_last_lines(log.read().decode(errors='replace'))}")
        except BaseException:
            process.send_signal(signal.SIGINT)  # does nothing if it has ended already
            process.wait()
            raise
