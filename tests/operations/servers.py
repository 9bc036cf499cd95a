"""Servers as an operator starts several: `serve` with two workers each, and haproxy in front of them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.databases import Databases
from tests.fixtures.server import free_port, wait_until_ready
from tests.fixtures.settings import ROOT, SECRET

WORKERS = 2
STOP_SECONDS = 20


@dataclass
class Running:
    """One server. `url` is its own, beside that of the proxy."""

    url: str
    operations: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def list_workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]


@dataclass(frozen=True)
class Installation:
    """Servers on one database, behind one address."""

    url: str
    servers: Sequence[Running]


@contextmanager
def run_servers(databases: Databases, settings: Mapping[str, str], number: int = 2) -> Iterator[Installation]:
    """So many servers behind haproxy, until the block ends. `settings` are beside those of the database's roles."""
    proxy = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    assert proxy, "haproxy is needed (apt-get install haproxy); its service may stay off"
    front = free_port()
    base = {
        **os.environ, "DATABASE_URL": databases.app_url, "DATABASE_OWNER_URL": databases.owner_url, "DATABASE_OPERATOR_URL": databases.operator_url,
        "MARKONCE_SECRET": SECRET, "MARKONCE_BASE_URL": f"http://127.0.0.1:{front}", "MARKONCE_WORKERS": str(WORKERS), "MARKONCE_DRAIN_SECONDS": "0",
        "MARKONCE_RATE": "100000", "MARKONCE_BURST": "1000000", "MARKONCE_LOG": "warnings", **settings,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="markonce-servers-", ignore_cleanup_errors=True) as temporary, ExitStack() as stack:
        folder, servers = Path(temporary), list[Running]()
        for n in range(number):
            port, operations, log = free_port(), free_port(), folder / f"server-{n}.log"
            output = stack.enter_context(log.open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "api", "serve", "--port", str(port)],
                cwd=ROOT,
                env=base | {"MARKONCE_OPS_PORT": str(operations)},
                stdout=output,
                stderr=output,
            )
            stack.callback(_stop, process)
            servers.append(Running(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{operations}", process, log))
        for server in servers:
            wait_until_ready(server.url, server.process, server.log)
        (folder / "haproxy.cfg").write_text(_write_configuration(front, servers))
        balancing = subprocess.Popen(
            [proxy, "-db", "-f", str(folder / "haproxy.cfg")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(_stop, balancing)
        installation = Installation(base["MARKONCE_BASE_URL"], servers)
        wait_until_ready(installation.url, balancing, folder / "haproxy.cfg")
        yield installation


def _write_configuration(front: int, servers: Sequence[Running]) -> str:
    """What docs/scaling.md says of a proxy: each server is asked whether it is ready, and a request that reached none goes to the other."""
    lines = [
        f"    server s{n} {server.url.removeprefix('http://')} check inter 1s fall 3 rise 1" for n, server in enumerate(servers)
    ]
    return "\n".join(
        [
            *("defaults", "    mode http", "    timeout connect 2s", "    timeout client 60s", "    timeout server 60s"),
            *("    retries 2", "    option redispatch", "    retry-on conn-failure"),
            *("frontend front", f"    bind 127.0.0.1:{front}", "    default_backend servers"),
            *(
                "backend servers",
                "    balance roundrobin",
                "    option httpchk GET /health/ready",
                "    timeout check 4s",
                *lines,
                "",
            ),
        ]
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
