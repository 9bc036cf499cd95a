"""Programs with all that they start, found by a mark in their environment: a child that has lost its parents is found too."""

import os
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.fixtures.settings import NO_AUTHORITIES, ROOT

PATIENCE = 60.0
"""Seconds for what takes a moment on a quiet machine."""
MARK = "MARKONCE_TEST_MARK"


def wait_until(is_so: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} seconds"
        time.sleep(0.01)


@dataclass
class Marked:
    """A command, run with a mark that all it starts inherits, PostgreSQL excepted (it is given a bare environment)."""

    arguments: list[str]
    environment: Mapping[str, str]
    log: Path
    descriptors: tuple[int, int] | None = None
    """The soft and the hard limit."""
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        def limit() -> None:
            signal.signal(
                signal.SIGINT, signal.SIG_DFL
            )  # a shell ignores it for what it runs in the background, as it may run the tests
            if self.descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, self.descriptors)

        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.arguments,
                cwd=ROOT,
                env={**self.environment, MARK: self.mark},
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=limit,
            )

    @property
    def pids(self) -> set[int]:
        """All processes of the mark that have not ended."""
        found, wanted = set(), f"{MARK}={self.mark}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
        return found

    @property
    def workers(self) -> set[int]:
        return self.pids - {self.process.pid}

    @property
    def said(self) -> str:
        return self.log.read_text()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill_all(self) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def marked(
    arguments: list[str], environment: Mapping[str, str], log: Path, descriptors: tuple[int, int] | None = None
) -> Iterator[Marked]:
    """Runs `python -m api` with these arguments; nothing of it is left after the block."""
    running = Marked([sys.executable, "-m", "api", *arguments], environment, log, descriptors)
    try:
        yield running
    finally:
        running.kill_all()


def answers(port: int) -> bool:
    """Whether a server at this port is ready."""
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health/ready", timeout=5, verify=NO_AUTHORITIES).status_code == 200
    except httpx2.TransportError:
        return False
