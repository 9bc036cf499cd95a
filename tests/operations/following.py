"""Follows docs/operating.md: runs its lines in a folder, and checks what they said at the end of the first term."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT
from tests.operations.page import WAYS, copy_register, make_script

STOP = """
echo '== end'
cat > /dev/null
kill "$SERVER"
wait "$SERVER"
echo '== stopped'
"""
"""Waits until the input ends, and stops the server."""


def make_values(folder: Path, port: int) -> dict[str, str]:
    """The reader's values that every way has: a register of 2022, and a window of today."""
    copy_register(folder / "register")
    now = datetime.now(UTC)
    start = now.year if now.month >= 9 else now.year - 1
    return {
        "PORT": str(port),
        "OPS_PORT": str(free_port()),
        "BASE_URL": f"http://127.0.0.1:{port}",
        "LEDGER": str(folder / "ledgers" / "server-1.ledger"),
        "REGISTER": str(folder / "register"),
        "REGISTER_DAY": "2022-04-20",
        "UNTIL": str((now + timedelta(days=300)).date()),
        "YEAR": f"{start}-{(start + 1) % 100:02}",
        "CENSUS": str(now.date()),
        "OPENS": f"{now + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}",
        "CLOSES": f"{now + timedelta(days=20):%Y-%m-%dT%H:%M:%SZ}",
    }


@contextmanager
def follow(
    way: str, project: Path, values: Mapping[str, str], *, without: Sequence[str] = (), **environment: str
) -> Iterator["Followed"]:
    """Runs the lines of one way in a folder of the project, `without` some headings, and then the block while the server goes on.
    Stops the server.

    Fails with what was printed where a line fails, or the first term does not end as the page says.
    """
    port = free_port()
    headings = [heading for heading in WAYS[way] if heading not in without]
    script = make_script(headings, make_values(project, port) | dict(values)) + STOP
    surroundings = {"PATH": os.environ["PATH"], "HOME": str(project), "LANG": "C.UTF-8"} | environment
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=project, env=surroundings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            printed = _read_until(running.stdout, "== end\n")
            followed = Followed(project, port, surroundings, printed)
            followed.check()
            yield followed
            running.stdin.close()
            _read_until(running.stdout, "== stopped\n")
        finally:
            with suppress(ProcessLookupError):  # where a line failed, bash has ended and its server has not
                os.killpg(running.pid, signal.SIGTERM)


def _read_until(output: IO[str], last: str) -> str:
    printed = []
    for line in output:
        if line == last:
            return "".join(printed)
        printed.append(line)
    raise AssertionError("the lines of docs/operating.md failed:\n" + "".join(printed)[-4000:])


class Followed:
    """What the lines printed, and where they made an installation."""

    def __init__(self, folder: Path, port: int, environment: dict[str, str], printed: str) -> None:
        self.folder, self.port, self.environment, self.printed = folder, port, environment, printed
        self.sections = dict(part.split("\n", 1) for part in printed.split("== ")[1:])

    def run(self, line: str) -> tuple[int, str]:
        """What a line of bash does afterwards, with the settings of the installation."""
        done = subprocess.run(
            ["bash", "-c", f"set -a; . ./markonce.env; set +a; {line}"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def read_credentials(self, name: str) -> tuple[str, str]:
        """The id and the secret that a command has put into a file."""
        found = json.loads((self.folder / f"{name}.json").read_text())
        return found["clientId"], found["clientSecret"]

    def read_answers(self, heading: str) -> list[Any]:
        """The JSON answers that were printed under a heading."""
        return [json.loads(line) for line in self.sections[heading].splitlines() if line.startswith("{")]

    def check(self) -> None:
        """The vendor's night is whole, the portal has its answer and no pupil, and no secret was printed."""
        roll, groups, marks, targets, receipts = self.read_answers("A vendor's night")
        assert [answer["created"] for answer in (roll, groups, marks, targets)] == [12, 1, 36, 12], self.sections[
            "A vendor's night"
        ]
        assert [answer["issues"] for answer in (roll, groups, marks, targets)] == [[], [], [], []]
        assert sum(row["created"] for row in receipts["data"]) > 0
        (portal,) = self.read_answers("A portal")
        assert [(row["eligible"], row["expectedPercent"]) for row in portal["data"]] == [(12, 75)], portal
        assert self.sections["A portal"].rstrip().splitlines()[-1] == "403"
        secrets = [
            json.loads(path.read_text())["clientSecret"]
            for path in self.folder.glob("*.json")
            if "clientSecret" in path.read_text()
        ]
        assert len(secrets) == 4
        lines = (self.folder / "markonce.env").read_text().splitlines()
        assert [line for line in lines if not re.fullmatch(r"[A-Z_]+='[^'\\]*'", line)] == []  # as systemd takes them
        made = [f"{path.name}/" if path.is_dir() else path.name for path in self.folder.iterdir()]
        private = {name for name in made if name.endswith((".env", ".json", ".sql", ".log", ".dump")) or name == "database/"}
        ignored = subprocess.run(
            ["git", "-C", str(ROOT), "check-ignore", "--no-index", *private], capture_output=True, text=True, check=False
        ).stdout.split()
        assert len(private) > 9
        assert private - {*ignored} == set()
        settings = re.findall(r"[:=]'?(?:embedded:)?([\w-]{40,})", (self.folder / "markonce.env").read_text())
        assert settings
        said = self.printed + (self.folder / "serve.log").read_text()
        assert [secret for secret in (*secrets, *settings) if secret in said] == []
        for path in [*self.folder.glob("*.json"), self.folder / "markonce.env", self.folder / "ledgers" / "server-1.ledger"]:
            assert path.stat().st_mode & 0o077 == 0, path
