"""`DATABASE_URL=embedded:FOLDER` for every command, with and without a server that runs; and backups."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.fixtures.databases import Databases
from tests.fixtures.server import free_port, wait_until_ready
from tests.fixtures.settings import ROOT, SECRET

pytestmark = pytest.mark.xdist_group("embedded commands")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="markonce-embedded-"))
    yield made
    shutil.rmtree(made)


def settings_for(folder: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "DATABASE_URL": f"embedded:{folder / 'db'}", "MARKONCE_SECRET": SECRET, **more}


def run(folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "api", *arguments],
        cwd=ROOT,
        env=settings_for(folder, **more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def test_settings_that_do_not_fit_are_named_and_help_starts_nothing(folder: Path) -> None:
    code, said = run(folder, "init", DATABASE_OWNER_URL="postgres://o@h/d", MARKONCE_APP_ROLE="other")
    assert (code, "set DATABASE_URL alone" in said, "MARKONCE_APP_ROLE is set" in said) == (1, True, True), said
    assert run(folder, "serve", "--help")[0] == 0
    assert not (folder / "db").exists()


def test_it_is_made_served_used_beside_and_backed_up(folder: Path) -> None:
    """From an empty folder: each command ends with the database stopped, `serve` too."""
    code, said = run(folder, "init")
    assert (code, "client_secret  " in said, "Left to do:" in said) == (0, True, True), said
    pid_file = folder / "db" / "postgresql" / "postmaster.pid"
    assert not pid_file.exists()
    port = free_port()
    environment = settings_for(folder, MARKONCE_BASE_URL=f"http://127.0.0.1:{port}")
    log = (folder / "log").open("wb")
    with subprocess.Popen(
        [sys.executable, "-m", "api", "serve", "--port", str(port)], cwd=ROOT, env=environment, stdout=log, stderr=log
    ) as serving:
        wait_until_ready(f"http://127.0.0.1:{port}", serving, folder / "log")
        code, said = run(folder, "client", "list")
        assert (code, "operator" in said) == (0, True), said
        code, said = run(folder, "migrate")
        assert (code, "Nothing to do" in said) == (0, True), said
        code, said = run(folder, "backup", str(folder / "a.dump"))
        assert code == 0, said
        code, said = run(folder, "serve", "--port", str(free_port()))
        assert (code, "is in use by another Markonce" in said) == (1, True), said
        assert httpx2.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0
    assert not pid_file.exists()
    assert stat.S_IMODE((folder / "a.dump").stat().st_mode) == 0o600
    code, said = run(folder, "backup", str(folder / "a.dump"))
    assert (code, "exists already" in said) == (1, True), said


def test_a_backup_of_a_database_by_its_url(folder: Path, databases: Databases) -> None:
    """It holds the tables; one that fails leaves no file, and says no password."""
    good = databases.owner_url
    code, said = run(folder, "backup", str(folder / "b.dump"), DATABASE_URL="", DATABASE_OWNER_URL=good)
    assert code == 0, said
    assert (folder / "b.dump").read_bytes().startswith(b"PGDMP")
    code, said = run(folder, "backup", str(folder / "c.dump"), DATABASE_URL="", DATABASE_OWNER_URL=databases.app_url)
    assert (code, "pg_dump failed" in said) == (1, True), said
    assert databases.cluster.passwords["markonce_app"] not in said
    assert [path.name for path in folder.glob("c.dump*")] == []
