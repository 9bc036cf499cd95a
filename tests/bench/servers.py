"""The servers that are measured, each a process of its own on a free port."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import httpx2

from domain.store import embedded
from tests.bench.data import Data
from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT

ORDINARY = Path(__file__).parent / "ordinary"
PATIENCE = 60.0
"""Seconds that a server may take to its first answer."""
NONE_KEPT = {"MARKONCE_CACHE_MB": "0"}


class Unfit(Exception):
    """A contender fails, or answers otherwise than the others: it is not measured."""


@dataclass
class Server:
    """A running server and the seconds that it took to its first answer. `token` is what it is shown; ours expires, so that it is asked for
    again by client."""

    base_url: str
    process: "subprocess.Popen[bytes]"
    started: float = 0.0
    clients: dict[str, tuple[str, str]] = field(default_factory=dict)
    fixed_token: str = ""
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    def token(self, client: str = "trust") -> str:
        """A bearer token that is good for five minutes more."""
        if self.fixed_token:
            return self.fixed_token
        token, until = self._tokens.get(client, ("", 0.0))
        if time.monotonic() > until:
            token, until = self.fetch_token(client), time.monotonic() + 300
            self._tokens[client] = token, until
        return token

    def fetch_token(self, client: str = "trust") -> str:
        """A new one."""
        form = {"grant_type": "client_credentials"}
        answer = httpx2.post(f"{self.base_url}/oauth/token", data=form, auth=self.clients[client])
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def ask(self, method: str, path: str, body: str | None = None, client: str = "trust") -> Any:
        """The answer as JSON; Unfit where it is no success."""
        answer = self.send(method, path, body, client)
        if answer.status_code >= 400 or b'"errors":' in answer.content[:20]:
            raise Unfit(f"{method} {path} answered {answer.status_code}: {answer.text[:600]}")
        return answer.json()

    def send(self, method: str, path: str, body: str | None = None, client: str = "trust", **headers: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token(client)}", "Content-Type": "application/json", **headers}
        return httpx2.request(method, self.base_url + path, content=body, headers=headers, timeout=120)


@dataclass(frozen=True)
class Build:
    """A tree of the product and the interpreter that runs it. Nothing of it is imported: it is run by its command line and its environment."""

    root: Path
    python: str

    def environment(self, cluster: embedded.Cluster, database: str, secret: str, **settings: str) -> dict[str, str]:
        """What its commands need, and of this process's environment nothing that they read."""
        ours = ("MARKONCE_", "DATABASE_", "PYTHON")
        roles = {"DATABASE_URL": "app", "DATABASE_OWNER_URL": "owner", "DATABASE_OPERATOR_URL": "operator"}
        urls = {name: cluster.url(database, f"markonce_{role}") for name, role in roles.items()}
        found = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return found | urls | {"MARKONCE_SECRET": secret} | settings

    def command(self, environment: dict[str, str], *arguments: str) -> str:
        """What `python -m api …` prints; SystemExit with it where it fails."""
        command = [self.python, "-m", "api", *arguments]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"`python -m api {' '.join(arguments)}` failed in {self.root}:\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout


NOW = Build(ROOT, sys.executable)
"""The tree that this file stands in, as it is on disk."""


@contextmanager
def _process(
    command: list[str], port: int, environment: dict[str, str], log: Path, ready: str, cwd: Path
) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    """A server that has given its first answer, and after how many seconds."""
    begun = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() - begun > PATIENCE:
                raise SystemExit(f"{' '.join(command[-4:])} does not serve; the end of {log}:\n{log.read_text()[-2000:]}")
            time.sleep(0.01)
        yield process, time.monotonic() - begun
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def serve(build: Build, cluster: embedded.Cluster, database: str, data: Data, log: Path, **settings: str) -> Iterator[Server]:
    """`python -m api serve` as in production: it writes warnings only, and its quotas are out of the way."""
    port = free_port()
    defaults = {
        "MARKONCE_BASE_URL": f"http://127.0.0.1:{port}",
        "MARKONCE_LOG": "warnings",
        "MARKONCE_RATE": "100000",
        "MARKONCE_BURST": "1000000",
    }
    environment = build.environment(cluster, database, data.secret, **defaults | settings)
    command = [build.python, "-m", "api", "serve", "--port", str(port)]
    with _process(command, port, environment, log, "/health/ready", build.root) as (process, seconds):
        yield Server(defaults["MARKONCE_BASE_URL"], process, seconds, data.clients)


@contextmanager
def ordinary(module: str, cluster: embedded.Cluster, database: str, data: Data, log: Path, venv: Path) -> Iterator[Server]:
    """One of the two in ordinary/, under uvicorn with one worker as people run it. It connects as the superuser: no row-level security."""
    port, token = free_port(), secrets.token_urlsafe(32)
    environment = os.environ | {
        "BENCH_DATABASE": cluster.url(database, embedded.SUPERUSER),
        "BENCH_TENANT": data.trust(100).id,
        "BENCH_CLIENT": data.clients["trust"][0],
        "BENCH_TOKEN": token,
    }
    command = [str(venv / "bin" / "python"), "-m", "uvicorn", f"{module}:app", "--port", str(port), "--log-level", "warning"]
    with _process([*command, "--no-access-log"], port, environment, log, "/openapi.json", ORDINARY) as (process, seconds):
        yield Server(f"http://127.0.0.1:{port}", process, seconds, fixed_token=token)
