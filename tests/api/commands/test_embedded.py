"""`DATABASE_URL=embedded:FOLDER` beside other settings, and backups. tests/operations follows an installation with it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.declare.errors import DatabaseError
from domain.store.backup import write_backup
from tests.fixtures.commands import run_command
from tests.fixtures.databases import Databases
from tests.fixtures.settings import SECRET

pytestmark = pytest.mark.xdist_group("embedded commands")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="markonce-embedded-"))
    yield made
    shutil.rmtree(made)


def settings_for(folder: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "DATABASE_URL": f"embedded:{folder / 'db'}", "MARKONCE_SECRET": SECRET, **more}


def run(folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    done = run_command(*arguments, environment=settings_for(folder, **more))
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def test_settings_that_do_not_fit_are_named_and_help_starts_nothing(folder: Path) -> None:
    code, said = run(folder, "init", DATABASE_OWNER_URL="postgres://o@h/d", MARKONCE_APP_ROLE="other")
    assert (code, "set DATABASE_URL alone" in said, "MARKONCE_APP_ROLE is set" in said) == (1, True, True), said
    for arguments in (["--print-roles"], ["--admin-url=postgres://dba@h/postgres"]):
        code, said = run(folder, "init", *arguments)
        assert (code, "an embedded database makes its own roles" in said) == (1, True), said
    assert run(folder, "serve", "--help")[0] == 0
    code, said = run(folder, "client", "list")
    assert (code, "There is no embedded database in" in said) == (1, True), said
    assert not (folder / "db").exists()


def test_a_backup_of_a_database_by_its_url(folder: Path, databases: Databases) -> None:
    """It holds the tables; one that fails leaves no file, and says no password."""
    good = databases.owner_url
    code, said = run(folder, "backup", str(folder / "b.dump"), DATABASE_URL="", DATABASE_OWNER_URL=good)
    assert code == 0, said
    assert (folder / "b.dump").read_bytes().startswith(b"PGDMP")
    with pytest.raises(DatabaseError, match=r"b\.dump exists already"):
        write_backup(good, "DATABASE_OWNER_URL", folder / "b.dump")
    code, said = run(folder, "backup", str(folder / "c.dump"), DATABASE_URL="", DATABASE_OWNER_URL=databases.app_url)
    assert (code, "logs in as markonce_app" in said) == (1, True), said
    assert databases.cluster.passwords["markonce_app"] not in said
    assert [path.name for path in folder.glob("c.dump*")] == []
