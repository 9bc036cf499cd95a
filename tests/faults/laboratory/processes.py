"""The processes of a trial: a PostgreSQL of its own, and `serve` on it. Only these are stopped and killed, each by its process id."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from domain.store import embedded
from domain.store.programs import Binaries
from tests.bench.meter import postmaster, tree
from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT, SECRET

MARK = "MARKONCE_LABORATORY"
"""An environment variable by which a server's processes are found, also those whose parent has ended."""
PATIENCE = 60.0


class NotWorking(Exception):
    """What a trial needs is missing or does not come up. It fails, and says what."""


async def wait_until(is_true: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def send(pids: list[int], number: signal.Signals) -> None:
    """Sends a signal to processes of ours, some of which may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def private_megabytes(pid: int) -> float:
    """Memory that the process shares with no other (proc(5), smaps_rollup); 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def resident_megabytes(pid: int) -> float:
    """Memory of the process that is in RAM; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def find_processes(cluster: embedded.Cluster) -> list[int]:
    """The postmaster and all its children."""
    with suppress(OSError, ValueError):
        root = postmaster(cluster)
        return sorted(tree(root)) if is_alive(root) else []
    return []


@contextmanager
def frozen(cluster: embedded.Cluster) -> Iterator[None]:
    """All processes of a PostgreSQL stand still within the block."""
    stopped = find_processes(cluster)
    send(stopped, signal.SIGSTOP)
    try:
        yield
    finally:
        send(stopped, signal.SIGCONT)


@dataclass
class Postgres:
    """An embedded PostgreSQL in a folder of its own. Its port stays the same when it is started again."""

    folder: Path
    durable: bool
    binaries: Binaries | None = None
    port: int | None = None
    _cluster: embedded.Cluster | None = None

    @property
    def cluster(self) -> embedded.Cluster:
        assert self._cluster is not None, "PostgreSQL has not been started"
        return self._cluster

    async def start(self) -> None:
        """Starts it, again after a kill; waits until it answers."""
        await self.stop()
        self._cluster = await asyncio.to_thread(
            embedded.start, self.folder, port=self.port, durable=self.durable, binaries=self.binaries
        )
        self.port = self._cluster.port

    async def stop(self) -> None:
        """Stops it fast, or waits for the end of what was killed."""
        if self._cluster is not None:
            send(self.processes(), signal.SIGCONT)
            await asyncio.to_thread(self._cluster.stop)

    def processes(self) -> list[int]:
        """The postmaster and all its children."""
        return find_processes(self.cluster)

    def kill(self, number: signal.Signals) -> None:
        """Sends a signal to the postmaster: SIGKILL, SIGQUIT (immediate stop), SIGINT (fast) or SIGTERM (smart)."""
        send([postmaster(self.cluster)], number)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes stand still within the block."""
        with frozen(self.cluster):
            yield


@dataclass
class Server:
    """`python -m api serve` on a database. Its URL stays the same when it is started again."""

    database_url: str
    log: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    _mark: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> int:
        """Starts the process and returns its id; does not wait until it answers."""
        environment = {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "MARKONCE_SECRET": SECRET,
            "MARKONCE_BASE_URL": self.base_url,
            "MARKONCE_LOG": "warnings",
            "MARKONCE_RATE": "100000",
            "MARKONCE_BURST": "1000000",
            MARK: self._mark,
            **self.settings,
        }
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "api", "serve", "--port", str(self.port)]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        return self.process.pid

    async def start(self, seconds: float = PATIENCE) -> None:
        """Starts it, again where it ends at once (the database is away, or the port not free yet). Raises NotWorking."""
        deadline = time.monotonic() + seconds
        while not await self._has_started(deadline):
            if time.monotonic() > deadline:
                raise NotWorking(f"the server does not start; its log ends: {self.log.read_text()[-1500:]}")
            await asyncio.sleep(0.1)

    async def _has_started(self, deadline: float) -> bool:
        self.launch()
        assert self.process is not None
        async with httpx2.AsyncClient(base_url=self.base_url, timeout=5) as http:
            while time.monotonic() < deadline and self.process.poll() is None:
                with suppress(httpx2.TransportError):
                    if (await http.get("/health/ready")).status_code == 200:
                        return True
                await asyncio.sleep(0.05)
        await self.stop()
        return False

    async def stop(self) -> None:
        """Stops it as an operator would, then ends what is left."""
        if self.process is not None:
            send([self.process.pid] if self.process.poll() is None else [], signal.SIGTERM)
            await self.ended(20)
            send(self.left(), signal.SIGKILL)
            await self.ended(20)

    async def ended(self, seconds: float) -> bool:
        """Whether the process that was started has ended in time."""
        assert self.process is not None
        process = self.process
        return await wait_until(lambda: process.poll() is not None, seconds)

    def left(self) -> list[int]:
        """All processes of this server that run, orphans included."""
        found = []
        wanted = f"{MARK}={self._mark}".encode()
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                pid = int(entry.parent.name)
                if wanted in entry.read_bytes().split(b"\0") and is_alive(pid):
                    found.append(pid)
        return found

    @property
    def workers(self) -> list[int]:
        """The processes that answer requests; not those that keep track of resources."""
        assert self.process is not None
        return [pid for pid in tree(self.process.pid) if pid != self.process.pid and not _is_tracker(pid)]

    def unforeseen(self) -> list[str]:
        """What the log has on answers 500: their kinds and places."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if '"unforeseen"' in line]


def _is_tracker(pid: int) -> bool:
    with suppress(OSError):
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return True
