"""The documentation is true: its commands run, its links lead somewhere, and its lines are short enough to read."""

import os
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

from domain import RESOURCES
from domain.clients.signing_keys import TOKEN_LIFE
from domain.declare.scopes import Scope
from domain.roster.characteristics import KINDS, YEAR_GROUP
from domain.write.idempotency import KEY_LIFETIME
from tests.fixtures.databases import Databases
from tests.fixtures.demo import PATIENCE
from tests.fixtures.migrations import folder_of, following, migrated
from tests.fixtures.settings import ROOT

LAST_COLUMNS = """
SELECT c.relname, (SELECT attname FROM pg_attribute WHERE attrelid = c.oid ORDER BY attnum DESC LIMIT 1), c.reloptions
FROM pg_class c WHERE c.relname = ANY ($1) ORDER BY 1
"""
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> str:
    """Every shell block of a page, as one script that ends at the first failure."""
    return "set -euo pipefail\n" + "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL))


def test_the_commands_of_integrating_run(demo_facts: Path) -> None:
    environment = os.environ | {"DEMO": str(demo_facts)}
    script = commands(ROOT / "docs" / "integrating.md")
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for said in (
        '"created":1',
        '"unchanged":0',
        '"outcome":"rejected"',
        '"latestJudgements":{"data":[{"subjectCode"',
        '"status":"c"',
        "expectedPercent",
        '"schemeCode":"',
        '"currentTargets":{"nodes":[{"subjectCode"',
        '"meaning":"Current, single registration at this school"',
    ):
        assert said in done.stdout, f"{said} is not in {done.stdout[-3000:]}"


def test_a_screen_takes_at_most_six_requests() -> None:
    page = (ROOT / "docs" / "integrating.md").read_text()
    screens = re.findall(r"```sh\n(.*?)```", page[page.index("### Three screens") : page.index("## A first push")], re.DOTALL)
    assert [len(re.findall(r"\b(?:get|post|token) [/'\"a-z]", screen)) for screen in screens] == [6, 2, 2]


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([\w./-]+)(?:#[\w-]+)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


async def test_the_migrations_of_adding_run(databases: Databases, tmp_path: Path) -> None:
    """Run twice they do nothing more. Each view has the column at its end and the rights of who asks; the table has its policies."""
    texts = re.findall(r"```python\n(\"\"\".*?)```", (ROOT / "docs" / "adding.md").read_text(), re.DOTALL)
    folder = folder_of(tmp_path / "migrations")
    for n, text in enumerate(texts):
        migration = folder / "versions" / f"{following(n + 1)}_of_adding.py"
        migration.write_text(text.replace("NNNN", following(n + 1)).replace("MMMM", following(n)))
    await migrated(databases, folder)
    owner = await asyncpg.connect(databases.owner_url)
    await owner.execute("UPDATE alembic_version SET version_num = $1", following(0))
    await migrated(databases, folder)
    views = await owner.fetch(LAST_COLUMNS, ["group_pupils", "school_roll"])
    columns = await owner.fetch("SELECT attname FROM pg_attribute WHERE attrelid = 'rewards'::regclass AND attnum > 0")
    policies = await owner.fetch("SELECT polname FROM pg_policy WHERE polrelid = 'rewards'::regclass ORDER BY 1")
    await owner.close()
    assert len(texts) == 2
    assert {"tenant_id", "school_id", "pupil_id", "version", "changed_at"} <= {row["attname"] for row in columns}
    assert [row["polname"] for row in policies] == ["maintenance", "reached"]
    assert [tuple(row) for row in views] == [(name, "house", ["security_invoker=true"]) for name in ("group_pupils", "school_roll")]


def test_data_protection_names_every_scope_characteristic_and_time() -> None:
    """Of what is read of a child by the declarations, and how long what ends by itself is stored, by what removes it."""
    page = (ROOT / "docs" / "data-protection.md").read_text()
    of_children = [
        resource for resource in RESOURCES.values() if "pupil_id" in resource.source.c or resource.name in ("pupil", "group")
    ]
    assert len(of_children) >= 8
    scopes = {scope for each in of_children for scope in (each.scope, *(field.scope for field in each.fields.values())) if scope}
    assert {scope.value for scope in scopes - {Scope.WINDOWS_READ}} - {*re.findall(r"`([a-z]+:[a-z]+)`", page)} == set()
    assert [kind for kind in KINDS if kind != YEAR_GROUP and f"`{kind}`" not in page] == []
    said = {row.split()[0]: time for row, time in re.findall(r"^\| ([^|]+) \| (\d+ \w+) \|$", page, re.MULTILINE)}
    schema = (ROOT / "docs" / "schema.sql").read_text()
    for noun, function in (
        ("receipts:", "remove_old_receipts"),
        ("counts", "remove_old_read_counts"),
        ("notices", "remove_old_data_issues"),
        ("jobs", "remove_old_jobs"),
        ("rows", "remove_old_jobs"),
    ):
        body = schema.split(f"CREATE FUNCTION public.{function}(")[1].split("\n$$;")[0]
        assert f"interval '{said.pop(noun)}'" in body, noun
    assert said == {"answers": f"{KEY_LIFETIME.days} days", "access": f"{TOKEN_LIFE.seconds // 60} minutes"}


def test_every_file_that_is_named_is_there() -> None:
    named = {
        (page, path)
        for page in DOCS
        for path in re.findall(r"`((?:api|domain|tests|migrations|openapi|expected)/[\w./-]+)`", page.read_text())
    }
    assert len(named) > 5
    assert [(page.name, path) for page, path in named if not (ROOT / path).exists()] == []


def test_every_setting_that_is_named_is_read_somewhere() -> None:
    code = "".join(
        path.read_text() for folder in ("api", "domain", "migrations", "tests") for path in (ROOT / folder).rglob("*.py")
    )
    settings = {name for page in DOCS for name in re.findall(r"`((?:DATABASE|MARKONCE)_\w+)`", page.read_text())}
    assert len(settings) >= 6
    assert [name for name in settings if name not in code] == []
