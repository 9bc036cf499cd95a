"""squawk, a linter of migrations by others, reads the statements of each migration as PostgreSQL gets them.

What it finds is listed here by migration and rule, and none is added: a new migration is written in another way. What locks and losses there
really are, test_migration_rules reads from PostgreSQL.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from domain.store import embedded
from domain.store.schema import MIGRATIONS
from tests.fixtures.databases import drop_database
from tests.fixtures.migrations import empty_database, migrated

SQUAWK = Path(sys.executable).with_name("squawk")
BESIDE_THE_POINT = {
    "require-lock-timeout": "migrate sets it for the session",
    "require-statement-timeout": "a statement that holds a lock waits 300 ms for it; builds of indexes may be long, and block nobody",
    "prefer-bigint-over-int": "numbers of a tenant, and counts of a batch",
    "prefer-bigint-over-smallint": "numbers of a tenant, which its rows repeat a million times",
}
"""Rules that are not asked, each with the reason."""
ACCEPTED = {
    "0001": {"prefer-text-field"},  # of Alembic's own table
    "0008": {"require-concurrent-index-creation"},  # before the first release, as all up to 0014
    "0010": {"constraint-missing-not-valid", "disallowed-unique-constraint", "require-concurrent-index-deletion"},
    "0013": {"ban-drop-table"},
    "0014": {"ban-drop-function", "ban-drop-view"},
    "0016": {"ban-drop-constraint"},  # one that is replaced in the same statement
    # build_index commits first, which the linter does not see
    **{number: {"ban-concurrent-index-creation-in-transaction"} for number in ("0019", "0020", "0058", "0060", "0083")},
    "0042": {"require-concurrent-index-creation"},  # of a table that was made in the statement before, by run_each
}
VERSION = re.compile(r"(?:INSERT INTO alembic_version .*VALUES \('|UPDATE alembic_version SET version_num=')(\d{4})")


async def test_squawk_finds_in_no_migration_more_than_is_listed(cluster: embedded.Cluster, tmp_path: Path) -> None:
    statements: list[str] = []
    files: list[Path] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        if version := VERSION.match(statement):
            files.append(tmp_path / f"{version[1]}.sql")
            files[-1].write_text("".join(f"{text.rstrip().rstrip(';')};\n" for text in statements))
            statements.clear()
        elif not statement.lstrip().upper().startswith(("SELECT", "SHOW", "WITH")):
            statements.append(statement)

    databases = empty_database(cluster)
    event.listen(Engine, "before_cursor_execute", note)
    try:
        await migrated(databases, MIGRATIONS)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        drop_database(databases)
    assert [file.stem for file in files] == sorted(file.name[:4] for file in (MIGRATIONS / "versions").glob("0*.py"))
    found = read_findings(files)
    assert {number: rules for number, rules in found.items() if rules != ACCEPTED.get(number)} == {}
    assert ACCEPTED.keys() <= found.keys(), "what is listed is found"


def read_findings(files: list[Path]) -> dict[str, set[str]]:
    """The rules that a migration breaks, by its number."""
    options = ["--reporter=json", "--pg-version=15.0", "--assume-in-transaction", f"--exclude={','.join(BESIDE_THE_POINT)}"]
    done = subprocess.run([SQUAWK, *options, *files], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, set[str]] = defaultdict(set)
    for finding in json.loads(done.stdout):
        found[Path(finding["file"]).stem].add(finding["rule_name"])
    return found


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("ALTER TABLE pupils ADD COLUMN house text NOT NULL DEFAULT random()::text;", "adding-field-with-default"),
        ("ALTER TABLE pupils DROP COLUMN forename;", "ban-drop-column"),
        ("ALTER TABLE pupils RENAME COLUMN forename TO first_name;", "renaming-column"),
        ("CREATE INDEX pupils_by_house ON pupils (house);", "require-concurrent-index-creation"),
    ],
)
def test_it_reads_what_would_stop_the_release_before(tmp_path: Path, statement: str, rule: str) -> None:
    file = tmp_path / "9999.sql"
    file.write_text(statement)
    assert rule in read_findings([file])["9999"]
