"""A small file system for a tablespace, so that PostgreSQL meets a full disk. Root mounts it. Anybody else lets PostgreSQL start in a user
namespace of its own, where it is mounted for PostgreSQL alone; the kernel must allow that."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from domain.store.programs import Binaries, find_binaries
from tests.faults.laboratory.processes import NotWorking

MEGABYTES = 48
_NAMESPACE = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount")
_MISSING = (
    "A file system of 48 MB is needed, so that the disk can be full, and none can be mounted: {}."
    " Run as root with CAP_SYS_ADMIN, or allow user namespaces (util-linux 2.38 or newer; sysctl kernel.unprivileged_userns_clone=1,"
    " kernel.apparmor_restrict_unprivileged_userns=0)"
)
_REFUSED = (asyncpg.DiskFullError, asyncpg.PostgresIOError)


def programs_with_disk(folder: Path) -> Binaries | None:
    """For a user who is not root: PostgreSQL's programs, whose server has a small file system at `folder`/disk that only it sees. None
    where they are not needed, or cannot be had."""
    if os.geteuid() == 0:
        return None
    if _run(*_NAMESPACE, "true"):
        return None
    real, made = find_binaries(), folder / "programs"
    made.mkdir()
    (folder / "disk").mkdir()
    for program in ("initdb", "pg_ctl"):
        (made / program).symlink_to(real.folder / program)
    mount = f"mount -t tmpfs -o size={MEGABYTES}m,mode=0700 tmpfs '{folder / 'disk'}'"
    script = (
        f'#!/bin/sh\nexec {" ".join(_NAMESPACE)} sh -c "{mount} && exec \'{real.folder / "postgres"}\' \\"\\$@\\"" postgres "$@"\n'
    )
    (made / "postgres").write_text(script)
    (made / "postgres").chmod(0o755)
    return Binaries(made, real.major)


@contextmanager
def small_disk(folder: Path, cluster: Path, programs: Binaries | None) -> Iterator[Path]:
    """A folder on a small file system, which PostgreSQL's user owns. Raises NotWorking, and says what is missing."""
    disk = folder / "disk"
    if os.geteuid() != 0:
        if programs is None:
            raise NotWorking(_MISSING.format(f"user {os.geteuid()} may not, and in a namespace: {_run(*_NAMESPACE, 'true')}"))
        yield disk
        return
    disk.mkdir(exist_ok=True)
    owner = cluster.stat()
    options = f"size={MEGABYTES}m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    if problem := _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)):
        raise NotWorking(_MISSING.format(problem))
    try:
        yield disk
    finally:
        _run("umount", "--lazy", str(disk))


def _run(*command: str) -> str:
    """What is wrong, where the command fails."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as problem:
        return str(problem)
    return (done.stderr.strip() or f"{command[0]} fails") if done.returncode else ""


async def fill(connection: Any) -> None:
    """Fills the disk of the connection's database to the last page, with a table `filler`."""
    await connection.execute("CREATE TABLE filler (filling text)")
    rows = 2_000
    while rows:
        try:
            await connection.execute("INSERT INTO filler SELECT repeat('x', 2000) FROM generate_series(1, $1::integer)", rows)
        except _REFUSED:
            rows //= 4
