"""Reads `embedded:FOLDER`, which stands for a database URL: the embedded PostgreSQL of that folder (embedded.py)."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from domain.store.embedded import DATABASE, HOST, ROLES, start
from domain.store.file_locks import is_unlocked
from domain.store.programs import EmbeddedError

PREFIX = "embedded:"
_WAIT_SECONDS = 60.0
"""How long a server that another process is starting may take."""


@contextmanager
def run_embedded(folder: Path, *, is_shared: bool) -> Iterator[dict[str, str]]:
    """Yields the database's URL for each of ROLES. Starts the server unless another process runs it, and then stops it.

    Raises EmbeddedError; without `is_shared` also where another process runs it.
    """
    lock = folder / "supervisor.lock"
    if is_shared and lock.exists() and not is_unlocked(lock):
        yield _find_running(folder)
        return
    cluster = start(folder)
    try:
        yield {role: cluster.url(DATABASE, role) for role in ROLES}
    finally:
        cluster.stop()


def is_running(folder: Path) -> bool:
    """Whether a server of this folder runs."""
    return not is_unlocked(folder / "server.lock")


def _find_running(folder: Path) -> dict[str, str]:
    """Returns the URLs of a server that another process runs. Raises EmbeddedError where it does not become ready."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            passwords: Mapping[str, str] = json.loads((folder / "passwords.json").read_text())
            lines = (folder / "postgresql" / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, ValueError):
            lines = []
        if len(lines) == 8 and lines[7].strip() == "ready":  # miscadmin.h, LOCK_FILE_LINE_*
            return {role: f"postgresql://{role}:{passwords[role]}@{HOST}:{lines[3]}/{DATABASE}" for role in ROLES}
        time.sleep(0.1)
    raise EmbeddedError(f"the database in {folder} is in use by another process, and does not become ready")
