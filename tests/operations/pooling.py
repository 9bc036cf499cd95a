"""PgBouncer in front of the cluster of the tests: Debian's own, which is too old, and a later one, which `build_pgbouncer` builds."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from domain.store import embedded
from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT

START_SECONDS = 20
BUILT = Path(tempfile.gettempdir()) / "markonce-pgbouncer"
"""Where a program that was built stays for the next run."""


def find_debian_pgbouncer() -> Path:
    """This release's own. Fails where it is missing."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, "pgbouncer is needed (apt-get install pgbouncer); its service may stay off"
    return Path(found)


def build_pgbouncer() -> Path:
    """A later one, built once. Fails with the reason where it cannot be built."""
    script = ROOT / "tests" / "operations" / "build_pgbouncer"
    built = subprocess.run(["bash", str(script), str(BUILT)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())


def read_version(program: Path) -> tuple[int, ...]:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:2]))


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer. `place` is where it listens."""

    place: str
    folder: Path

    def url(self, url: str) -> str:
        """The same database and role by way of the pooler."""
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{self.place}"))


@contextmanager
def run_pgbouncer(program: Path, cluster: embedded.Cluster, *, size: int = 4, port: int = 0, **settings: str) -> Iterator[Pooler]:
    """PgBouncer in transaction mode until the block ends, with `size` connections of each role to each database."""
    port = port or free_port()
    with tempfile.TemporaryDirectory(prefix="markonce-pooler-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        users = folder / "users.txt"
        users.write_text("".join(f'"{role}" "{password}"\n' for role, password in cluster.passwords.items()))
        chosen = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "scram-sha-256", "auth_file": users,
            "pool_mode": "transaction", "default_pool_size": size, "max_client_conn": 400, "stats_users": "markonce_app",
            "admin_users": embedded.SUPERUSER, "logfile": folder / "log",
        }  # fmt: skip
        if read_version(program) >= (1, 21):
            chosen["max_prepared_statements"] = 1000
        lines = "\n".join(f"{name} = {value}" for name, value in {**chosen, **settings}.items())
        (folder / "pgbouncer.ini").write_text(f"[databases]\n* = host={cluster.host} port={cluster.port}\n[pgbouncer]\n{lines}\n")
        user = []
        if os.geteuid() == 0:  # which it refuses
            user = ["runuser", "-u", "nobody", "--"]
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, "nobody")
        process = subprocess.Popen(
            [*user, str(program), str(folder / "pgbouncer.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + START_SECONDS
            while "process up" not in (read_log := (folder / "log").read_text() if (folder / "log").exists() else ""):
                assert process.poll() is None, read_log
                assert time.monotonic() < until, read_log
                time.sleep(0.05)
            yield Pooler(f"127.0.0.1:{port}", folder)
        finally:
            process.terminate()
            process.wait(START_SECONDS)
