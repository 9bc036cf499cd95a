"""A streaming standby of a cluster of the tests, made by pg_basebackup."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from domain.store import embedded
from tests.fixtures.databases import choose_folder
from tests.fixtures.server import free_port

START_SECONDS = 60


@dataclass
class Standby:
    """A standby that runs. Its roles have the passwords of the primary's."""

    cluster: embedded.Cluster
    folder: Path
    port: int
    settings: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, database: str, role: str) -> str:
        return self.cluster.url(database, role).replace(f":{self.cluster.port}/", f":{self.port}/")

    async def run(self, statement: str) -> Any:
        """The value of a statement, as the superuser."""
        connection = await asyncpg.connect(self.url("postgres", embedded.SUPERUSER), timeout=5)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def pause(self) -> None:
        """What is committed from now on is not there."""
        await self.run("SELECT pg_wal_replay_pause()")
        while await self.run("SELECT pg_get_wal_replay_pause_state()") != "paused":
            pass

    async def resume(self) -> None:
        await self.run("SELECT pg_wal_replay_resume()")

    async def promote(self) -> None:
        assert await self.run("SELECT pg_promote(true, 30)")

    def start(self) -> None:
        programs = self.cluster._programs
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = programs.spawn(
                "postgres", "-D", str(self.folder / "data"), *options, stdin=subprocess.DEVNULL, output=log
            )
        until = time.monotonic() + START_SECONDS
        pid_file = self.folder / "data" / "postmaster.pid"
        while not (pid_file.exists() and "ready" in pid_file.read_text().splitlines()[-1:][0].strip()):
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "log").read_text()[-2000:]  # noqa: PT018
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """To all of its processes, each of which is a session of its own."""
        assert self.process is not None
        own = [self.process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                pid, rest = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
                own += [pid] if int(rest[1]) == self.process.pid else []
        for pid in own:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """As by a power failure."""
        assert self.process is not None
        self.signal(signal.SIGKILL)
        self.process.wait()
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)


@contextmanager
def run_standby(cluster: embedded.Cluster, source: "Standby | None" = None, **settings: str) -> Iterator[Standby]:
    """A standby of the cluster, or of the `source` that was one and was promoted, until the block ends."""
    programs = cluster._programs
    with tempfile.TemporaryDirectory(prefix="markonce-standby-", dir=choose_folder(), ignore_cleanup_errors=True) as temporary:
        folder, port = Path(temporary), free_port()
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if programs.user:
            os.chown(data, *programs.user)
        url = (source or cluster).url("postgres", embedded.SUPERUSER)
        programs.run(
            "pg_basebackup",
            f"--pgdata={data}",
            f"--dbname={url}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--wal-method=stream",
        )
        chosen = {
            "port": str(port), "listen_addresses": embedded.HOST, "unix_socket_directories": "", "max_connections": "100", "shared_buffers": "32MB",
            "fsync": "off", "hot_standby_feedback": "off", "max_standby_streaming_delay": "0", "wal_receiver_status_interval": "1s",
        }  # fmt: skip
        standby = Standby(cluster, folder, port, chosen | settings)
        standby.start()
        try:
            yield standby
        finally:
            if standby.process is not None and standby.process.poll() is None:
                standby.signal(signal.SIGCONT)
                standby.kill()
            shutil.rmtree(data, ignore_errors=True)
