"""The servers that are measured, each a process of its own on a free port, and what a tree of processes has used of the machine."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from domain.engine import embedded
from tests.bench.data import Data
from tests.conftest import ROOT, free_port

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
ORDINARY = Path(__file__).parent / "ordinary"


class Unfit(Exception):
    """A contender fails, or answers otherwise than the others: it is not measured."""


def tree(root: int) -> dict[int, list[str]]:
    """The fields of /proc/PID/stat after the name (proc(5)), of a process and all below it."""
    stats = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(entry.parent.name)] = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
    found, before = {root}, 0
    while len(found) > before:
        before = len(found)
        found |= {pid for pid, stat in stats.items() if int(stat[1]) in found}
    return {pid: stats[pid] for pid in found & stats.keys()}


def cpu_seconds(root: int) -> float:
    """User and system time of the tree, and of those in it that have ended."""
    return sum(sum(map(int, stat[11:15])) for stat in tree(root).values()) / TICKS


def resident_bytes(root: int) -> int:
    """Resident memory, summed; what processes share is counted in each."""
    return sum(int(stat[21]) * PAGE for stat in tree(root).values())


def postmaster(cluster: embedded.Cluster) -> int:
    return int((cluster.data_dir / "postgresql" / "postmaster.pid").read_text().split()[0])


@dataclass
class Server:
    """A running server. `token` is what it is shown; ours expires, so that it is asked for again by client."""

    base_url: str
    process: "subprocess.Popen[bytes]"
    clients: dict[str, tuple[str, str]] = field(default_factory=dict)
    fixed_token: str = ""
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    def token(self, client: str = "trust") -> str:
        """A bearer token that is good for five minutes more."""
        if self.fixed_token:
            return self.fixed_token
        token, until = self._tokens.get(client, ("", 0.0))
        if time.monotonic() > until:
            answer = httpx2.post(
                f"{self.base_url}/oauth/token", data={"grant_type": "client_credentials"}, auth=self.clients[client]
            )
            answer.raise_for_status()
            token, until = answer.json()["access_token"], time.monotonic() + 300
            self._tokens[client] = token, until
        return token

    def ask(self, method: str, path: str, body: str | None = None, client: str = "trust") -> Any:
        """The answer as JSON; Unfit where it is no success."""
        answer = self.send(method, path, body, client)
        if answer.status_code >= 400 or b'"errors":' in answer.content[:20]:
            raise Unfit(f"{method} {path} answered {answer.status_code}: {answer.text[:600]}")
        return answer.json()

    def send(self, method: str, path: str, body: str | None = None, client: str = "trust", **headers: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token(client)}", "Content-Type": "application/json", **headers}
        return httpx2.request(method, self.base_url + path, content=body, headers=headers, timeout=120)


@contextmanager
def _process(command: list[str], port: int, environment: dict[str, str], folder: Path, ready: str, cwd: Path) -> Iterator[Any]:
    log = folder / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command[-4:])} ended; the end of {log}:\n{log.read_text()[-2000:]}")
            try:
                if httpx2.get(f"http://127.0.0.1:{port}{ready}").status_code < 500:
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def ours(cluster: embedded.Cluster, data: Data, folder: Path) -> Iterator[Server]:
    """`python -m api serve` as in production: it writes warnings only, and its quotas are out of the way."""
    port = free_port()
    environment = {
        "DATABASE_URL": cluster.url(embedded.DATABASE, "markonce_app"),
        "MARKONCE_SECRET": data.secret,
        "MARKONCE_BASE_URL": f"http://127.0.0.1:{port}",
        "MARKONCE_LOG": "warnings",
        "MARKONCE_RATE": "100000",
        "MARKONCE_BURST": "1000000",
    }
    command = [sys.executable, "-m", "api", "serve", "--port", str(port)]
    with _process(command, port, environment, folder, "/health/ready", ROOT) as process:
        yield Server(environment["MARKONCE_BASE_URL"], process, data.clients)


@contextmanager
def ordinary(module: str, cluster: embedded.Cluster, data: Data, folder: Path, venv: Path) -> Iterator[Server]:
    """One of the two in ordinary/, under uvicorn with one worker as people run it. It connects as the superuser: no row-level security."""
    port, token = free_port(), secrets.token_urlsafe(32)
    environment = {
        "BENCH_DATABASE": cluster.url(embedded.DATABASE, embedded.SUPERUSER),
        "BENCH_TENANT": data.trust(100).id,
        "BENCH_CLIENT": data.clients["trust"][0],
        "BENCH_TOKEN": token,
    }
    command = [str(venv / "bin" / "python"), "-m", "uvicorn", f"{module}:app", "--port", str(port), "--log-level", "warning"]
    with _process([*command, "--no-access-log"], port, environment, folder, "/openapi.json", ORDINARY) as process:
        yield Server(f"http://127.0.0.1:{port}", process, fixed_token=token)
