"""An upgrade under load, from the release whose commit stands in `release_before`: its server goes on while the schema is migrated, which
is broken off and repeated, and no request fails.

`migrate` of a new database that is killed again and again also ends with the same schema as one that is left alone.
"""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from domain.store import embedded
from domain.store.programs import find_binaries
from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT

RELEASE = Path(__file__).with_name("release_before")
READS = (
    "/v1/pupils?first=50&fields=id,surname,yearGroup",
    "/v1/judgements?first=50",
    "/v1/windows",
    "/v1/groups?first=20&include=pupils&fields=id,pupils.id",
)
MIN_REQUESTS = 50
KILLS = 12


def check_upgrade(folder: Path) -> None:
    """Upgrades a demonstration of the release before while clients read and write. Raises AssertionError."""
    commit = RELEASE.read_text().strip()
    with ExitStack() as stack:
        old = stack.enter_context(check_out(commit, folder / "before"))
        port = free_port()
        facts, environment = stack.enter_context(run_old_demo(old, port, folder / "data"))
        traffic = stack.enter_context(run_traffic(facts))
        kills = migrate_with_kills(environment)
        traffic.wait(MIN_REQUESTS)
        newer = stack.enter_context(run_new_server(environment | {"MARKONCE_BASE_URL": facts["baseUrl"]}))
        traffic.move(newer)
        traffic.wait(MIN_REQUESTS)
        traffic.end()
    assert traffic.failures == [], traffic.failures[:5]
    print(
        f"    {traffic.reads:,} reads and {traffic.writes:,} writes meanwhile, 0 failed; the migration was broken off {kills} times",
        flush=True,
    )


@contextmanager
def check_out(commit: str, folder: Path) -> Iterator[Path]:
    """The files of a commit, in a work tree that is removed again."""
    if subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False
    ).returncode:
        sys.exit(f"This clone has not the commit {commit[:7]}, the release before: it is shallow. Fetch it: git fetch --unshallow")
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(folder)], check=True)


@contextmanager
def run_old_demo(old: Path, port: int, data: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """The demonstration of the release before: what demo.json says, and its environment variables."""
    log = data.with_suffix(".log")
    with log.open("w") as output:
        command = [sys.executable, "-m", "api", "demo", "--port", str(port), "--data-dir", str(data)]
        process = subprocess.Popen(command, cwd=old, stdout=output, stderr=output, env=clean_environment())
    try:
        while not (data / "demo.json").exists():
            assert process.poll() is None, log.read_text()[-2000:]
            time.sleep(0.2)
        words = dict(re.findall(r"export (\w+)='?([^'\n]+)", (data / "demo.env").read_text()))
        yield json.loads((data / "demo.json").read_text()), words
    finally:
        process.terminate()
        process.wait(60)


WIDE = {"MARKONCE_RATE": "100000", "MARKONCE_BURST": "1000000"}
"""Quotas that no traffic here uses up, however fast the machine is."""


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MARKONCE_", "DATABASE_", "PG"))} | WIDE
    return kept | dict(more or {})


def migrate_with_kills(environment: Mapping[str, str], kills: int = 3) -> int:
    """Runs `migrate` of this tree, killed after ever longer times, and then to its end. Returns how often it was killed while it ran."""
    command, killed = [sys.executable, "-m", "api", "migrate"], 0
    for n in range(kills):
        running = subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            running.wait(2.0 + 0.4 * n)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            killed += 1
    for said in ("", "Nothing to do"):
        done = subprocess.run(command, cwd=ROOT, env=clean_environment(environment), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout, done.stdout
    return killed


@contextmanager
def run_new_server(environment: Mapping[str, str]) -> Iterator[str]:
    """`serve` of this tree on the same database; yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "api", "serve", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, "the new server does not start"
            try:
                if httpx2.get(f"{url}/health/ready").status_code == 200:
                    break
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


@dataclass
class Traffic:
    """Clients that read and write; `failures` are what was not answered by 200."""

    facts: Any
    url: str
    reads: int = 0
    writes: int = 0
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def move(self, url: str) -> None:
        self.url = url

    def wait(self, more: int) -> None:
        """Waits until so many more requests of each kind have been answered."""
        reads, writes, until = self.reads + more, self.writes + more // 5, time.monotonic() + 300
        while (self.reads < reads or self.writes < writes) and not self.failures:
            assert time.monotonic() < until, "the requests are not answered"
            time.sleep(0.1)

    def end(self) -> None:
        """Ends the requests, each with its answer."""
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def authorise(self, http: httpx2.Client, name: str) -> dict[str, str]:
        client = self.facts["clients"][name]
        form = {"grant_type": "client_credentials"}
        answer = http.post(f"{self.url}/oauth/token", data=form, auth=(client["clientId"], client["clientSecret"]))
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def read(self) -> None:
        with httpx2.Client(timeout=30) as http:
            headers, n = self.authorise(http, "mis-vendor"), 0
            while not self.ended.is_set():
                self._note(http.get(self.url + READS[n % len(READS)], headers=headers))
                self.reads, n = self.reads + 1, n + 1

    def write(self) -> None:
        with httpx2.Client(timeout=30) as http:
            headers, n = self.authorise(http, "mis-vendor"), 0
            window = next(window for window in self.facts["windows"] if window["state"] == "open")
            rows = http.get(
                f"{self.url}/v1/judgements?windowCode={window['code']}&first=20&include=pupil&fields=subjectCode,schoolId,pupil.reference,grade",
                headers=headers,
            )
            entries = [row for row in rows.json()["data"] if row["grade"] and row["pupil"]["reference"]]
            assert entries, rows.text
            grades = sorted({row["grade"] for row in entries})
            while not self.ended.is_set():
                row, n = entries[n % len(entries)], n + 1
                entry = {"reference": row["pupil"]["reference"], "subject": row["subjectCode"], "grade": grades[n % len(grades)]}
                body = {"school": {"id": row["schoolId"]}, "window": window["code"], "entries": [entry]}
                self._note(
                    http.post(
                        f"{self.url}/v1/judgements",
                        json=body,
                        headers=headers | {"Idempotency-Key": f"upgrade-{n}-{random.random()}"},
                    )
                )
                self.writes += 1

    def _note(self, answer: httpx2.Response) -> None:
        if answer.status_code != 200:
            self.failures.append(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}")


@contextmanager
def run_traffic(facts: Any) -> Iterator[Traffic]:
    traffic = Traffic(facts, facts["baseUrl"])

    def run(work: Any) -> None:
        try:
            work()
        except Exception as error:
            traffic.failures.append(f"{type(error).__name__}: {error}")

    traffic.threads += [threading.Thread(target=run, args=(work,)) for work in (traffic.read, traffic.read, traffic.write)]
    for thread in traffic.threads:
        thread.start()
    try:
        traffic.wait(MIN_REQUESTS)
        yield traffic
    finally:
        traffic.end()


def check_broken_migrations(folder: Path) -> None:
    """Migrates two new databases, one killed again and again, and compares their schemas."""
    cluster = embedded.start(folder / "broken", durable=False)
    try:
        schemas, kills = [], 0
        for name, times in ((embedded.DATABASE, KILLS), ("left_alone", 0)):
            if name != embedded.DATABASE:
                run_program(
                    "psql", cluster.url("postgres", embedded.SUPERUSER), "--command", f"CREATE DATABASE {name} OWNER markonce_owner"
                )
            kills += migrate_with_kills({"DATABASE_OWNER_URL": cluster.url(name, "markonce_owner")}, times)
            dumped = run_program("pg_dump", cluster.url(name, embedded.SUPERUSER), "--schema-only", "--no-comments")
            schemas.append(re.sub(r"^\\(un)?restrict .*$", "", dumped, flags=re.MULTILINE))
        assert schemas[0] == schemas[1], "the schemas differ"
        print(f"    killed {kills} times, the schema is the same: {len(schemas[0]):,} characters", flush=True)
        assert kills > 0
    finally:
        cluster.stop()


def run_program(program: str, url: str, *arguments: str) -> str:
    command = [str(find_binaries().folder / program), *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
