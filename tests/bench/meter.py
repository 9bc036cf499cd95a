"""What processes use of the machine: CPU time by the kernel's clock of each process, and memory by /proc."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import asyncpg

from domain.store import embedded

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
EVERY = 0.1
"""Seconds between two looks at the backends of a database: what a backend uses after the last look before its end is lost."""
_OF_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = $1"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads, in nanoseconds where /proc/PID/stat has hundredths. OSError where it has ended."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) makes of a process


def tree(root: int) -> dict[int, list[str]]:
    """The fields of /proc/PID/stat after the name (proc(5)), of a process and all below it."""
    stats = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            stats[int(entry.parent.name)] = entry.read_text().rpartition(")")[2].split()
    found, before = {root}, 0
    while len(found) > before:
        before = len(found)
        found |= {pid for pid, stat in stats.items() if int(stat[1]) in found}
    return {pid: stats[pid] for pid in found & stats.keys()}


def tree_seconds(root: int) -> float:
    """User and system time of a tree of processes, and of those in it that have ended."""
    seconds = 0.0
    for pid, stat in tree(root).items():
        with suppress(OSError):
            seconds += cpu_seconds(pid) + sum(map(int, stat[13:15])) / TICKS
    return seconds


@contextmanager
def measure_tree(root: int) -> Iterator[Callable[[], float]]:
    """CPU seconds of a tree of processes since the block began."""
    before = tree_seconds(root)
    yield lambda: tree_seconds(root) - before


@contextmanager
def measure_backends(cluster: embedded.Cluster, database: str) -> Iterator[Callable[[], float]]:
    """CPU seconds of the backends of a database since the block began; asked once, at its end."""
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    begun, ended = Event(), Event()

    async def watch() -> None:
        connection = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
        is_last = False
        while not is_last:
            is_last = ended.is_set()
            for (pid,) in await connection.fetch(_OF_BACKENDS, database):
                with suppress(OSError):
                    last[pid] = cpu_seconds(pid)
                    first.setdefault(pid, 0.0 if begun.is_set() else last[pid])
            begun.set()
            if not is_last:
                await asyncio.to_thread(ended.wait, EVERY)
        await connection.close()

    watcher = Thread(target=lambda: asyncio.run(watch()))
    watcher.start()
    begun.wait()

    def seconds() -> float:
        ended.set()
        watcher.join()
        return sum(last.values()) - sum(first.values())

    try:
        yield seconds
    finally:
        ended.set()
        watcher.join()


def postmaster(cluster: embedded.Cluster) -> int:
    return int((cluster.data_dir / "postgresql" / "postmaster.pid").read_text().split()[0])


def resident_bytes(root: int) -> dict[int, int]:
    """Resident memory of each process of a tree, its root first; what processes share is counted in each."""
    found = {pid: int(stat[21]) * PAGE for pid, stat in tree(root).items()}
    return {pid: found[pid] for pid in sorted(found, key=lambda pid: (pid != root, -found[pid]))}


def proportional_bytes(root: int) -> int | None:
    """Resident memory of a tree, what processes share counted in parts; None where the kernel does not let us look."""
    return _rolled_up(tree(root), "Pss")


def private_bytes(pid: int) -> int | None:
    """Memory that a process has for itself, PostgreSQL's shared buffers left out; None where the kernel does not let us look."""
    return _rolled_up([pid], "Private_Clean", "Private_Dirty")


def _rolled_up(pids: "dict[int, list[str]] | list[int]", *names: str) -> int | None:
    """Sums of lines of /proc/PID/smaps_rollup."""
    found = 0
    for pid in pids:
        try:
            lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
        except OSError:
            return None
        found += sum(1024 * int(line[1]) for line in lines if line[0].rstrip(":") in names)
    return found


async def backend_bytes(cluster: embedded.Cluster, database: str) -> list[int]:
    """Private memory of each backend of a database, the smallest first; empty where the kernel does not let us look."""
    connection = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
    pids = [row["pid"] for row in await connection.fetch(_OF_BACKENDS, database)]
    await connection.close()
    return sorted(found for pid in pids if (found := private_bytes(pid)) is not None)
