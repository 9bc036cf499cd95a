"""Writes a backup with PostgreSQL's own pg_dump, and restores it with pg_restore (docs/backup.md)."""

import asyncio
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

from domain.declare.errors import DatabaseError
from domain.store.database import Connection
from domain.store.programs import EmbeddedError, find_binaries, take_last_lines
from domain.store.role_names import require_owner
from domain.store.single_transaction import run_single_transaction
from domain.store.urls import require_url


def write_backup(url: str, setting: str, path: Path) -> int:
    """Writes all of a database into a new file, which only its owner may read, and reads it once. Returns its bytes.

    A backup that fails leaves no file. Raises DatabaseError. Must not be called inside a running event loop.
    """
    asyncio.run(run_single_transaction(url, lambda connection: require_owner(connection, setting), setting))
    dump, restore = find_programs(asyncio.run(_read_server_major(url, setting)))
    database, environment = _name_database(url, setting)
    partial = path.with_name(f"{path.name}.partial")
    if path.exists():
        raise DatabaseError(f"{path} exists already: name another file.")
    try:
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            os.fchmod(file.fileno(), 0o600)
            _run(
                [dump, "--enable-row-security", "--format=custom", f"--dbname={database}"],
                environment,
                file.fileno(),
            )
            os.fsync(file.fileno())
        _run([restore, "--file=/dev/null", str(partial)], environment)
        size = partial.stat().st_size
        partial.rename(path)
    except OSError as problem:
        raise DatabaseError(f"The backup {path} cannot be written: {problem.strerror}.") from problem
    finally:
        partial.unlink(missing_ok=True)
    return size


def restore_backup(url: str, setting: str, path: Path) -> None:
    """Restores a backup into a database without tables, all of it or nothing. Raises DatabaseError. Must not be called inside a
    running event loop."""
    if asyncio.run(run_single_transaction(url, _has_tables, setting)):
        raise DatabaseError(f"The database of {setting} has tables: restore into an empty one.")
    _, restore = find_programs(asyncio.run(_read_server_major(url, setting)))
    database, environment = _name_database(url, setting)
    _run([restore, "--exit-on-error", "--single-transaction", f"--dbname={database}", str(path)], environment)


async def _has_tables(connection: Connection) -> bool:
    """Whether the database has tables of anybody's."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public')"))


def _name_database(url: str, setting: str) -> tuple[str, dict[str, str]]:
    """Returns a database as PostgreSQL's programs name it, and the environment with its password, which `ps` does not show."""
    target = require_url(url, setting)
    parts = {
        "host": ",".join(target.hosts),
        "port": ",".join(map(str, target.ports)),
        "user": target.user,
        "dbname": target.database,
    }
    named = {name: value for name, value in {**parts, "passfile": target.passfile, **target.parameters}.items() if value}
    environment = dict(os.environ) | ({"PGPASSWORD": target.password} if target.password else {})
    return f"postgresql:///?{urlencode(named)}", environment


async def _read_server_major(url: str, setting: str) -> int:
    return (
        int(await run_single_transaction(url, lambda connection: connection.fetchval("SHOW server_version_num"), setting)) // 10_000
    )


def find_programs(server: int) -> tuple[str, str]:
    """Returns the paths of pg_dump and pg_restore of the server's version or a newer one, for pg_dump refuses a newer server.

    Those on the PATH come first, then the system's and those of the wheel. Raises DatabaseError.
    """
    on_path = shutil.which("pg_dump")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    with suppress(EmbeddedError):
        folders.append(find_binaries(server).folder)
    for folder in folders:
        dump, restore = folder / "pg_dump", folder / "pg_restore"
        if dump.is_file() and restore.is_file():
            done = subprocess.run([dump, "--version"], capture_output=True, text=True, check=False)
            version = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
            if version and int(version[1]) >= server:
                return str(dump), str(restore)
    raise DatabaseError(
        f"There is no pg_dump of version {server} or newer, which the server has: install PostgreSQL's client programs."
    )


def _run(command: list[str], environment: dict[str, str], output: int = subprocess.DEVNULL) -> None:
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise DatabaseError(f"{Path(command[0]).name} failed: {take_last_lines(done.stderr.decode(errors='replace'))}")
