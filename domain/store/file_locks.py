"""Locks of files between processes (flock). The kernel releases a lock with the last process that holds it."""

import fcntl
import time
from pathlib import Path
from typing import IO


def lock_file(path: Path) -> IO[bytes] | None:
    """Returns the file, locked until it is closed in every process; None if another process has locked it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def is_unlocked(path: Path) -> bool:
    """Whether no process has locked the file."""
    lock = lock_file(path)
    if lock:
        lock.close()
    return lock is not None


def wait_for_lock(path: Path, seconds: float) -> IO[bytes]:
    """Waits until the file can be locked, and returns it. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (lock := lock_file(path)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"programs of an earlier start in {path.parent} do not end")
        time.sleep(0.05)
    return lock
