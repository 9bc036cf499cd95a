"""A migration after 0014 adds and takes nothing away, locks one table at a time, and can be run again where it is not one transaction.

What is dropped all the same stands in migrations/later.py, and the schema then names the oldest program that it still serves.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from domain.store import embedded
from domain.store.schema import MIGRATIONS
from migrations.later import LATER
from migrations.later import NEXT as NEXT_LATER
from tests.fixtures.databases import Databases
from tests.fixtures.migrations import empty_database, folder_of, following, migrated, sql
from tests.fixtures.sizes import choose_size
from tests.fixtures.system_catalogue import KNOWN, NOTE_LOCKS, find_bad_locks, find_losses, find_rewrites, read_catalogue

FIRST = "0015"
"""The first migration that these rules are for."""
NEXT = following()
OURS = sorted(file.name[:4] for file in (MIGRATIONS / "versions").glob("0*.py"))
SOME_DATA = """
INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status)
SELECT i, i, 100001, 'Ash', '936', 'Surrey', 'open' FROM gen_random_uuid() i;
INSERT INTO windows (tenant_id, id, no, code, name, academic_year, census_on, opens_at, closes_at, state, statutory, purpose, decision, year_groups)
SELECT tenant_id, gen_random_uuid(), 1, 'a', 'A', 2024, '2025-05-01', '2025-05-01', '2025-06-01', 'planned', true, 'p', 'd', '{6}' FROM schools;
"""
"""So that the tables which are partitioned have partitions."""


@dataclass(frozen=True)
class Found:
    """What is wrong with a migration, and which program the schema then serves as the oldest."""

    wrong: list[str]
    oldest_program: str


async def prepare(databases: Databases) -> Databases:
    """The database, which notes from now on what migrations lock."""
    superuser = await asyncpg.connect(databases.cluster.url(databases.name, embedded.SUPERUSER))
    await superuser.execute(SOME_DATA)
    await superuser.execute(NOTE_LOCKS)
    await superuser.close()
    return databases


async def run_and_check(databases: Databases, folder: Path, later: Mapping[str, str]) -> Found:
    """Runs the one migration of the folder that has not run."""
    connection = await asyncpg.connect(databases.cluster.url(databases.name, embedded.SUPERUSER))
    try:
        before, known = await read_catalogue(connection), await connection.fetch(KNOWN)
        version = await connection.fetchval("SELECT version_num FROM alembic_version")
        await connection.execute("TRUNCATE noted.locks")
        await migrated(databases, folder)
        after, noted = await read_catalogue(connection), await connection.fetch("SELECT * FROM noted.locks")
        oldest = await connection.fetchval("SELECT oldest_program FROM schema_compatibility")
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
        wrong = [name for name in find_losses(before, after) if not is_listed(name, revision, oldest, later)]
        wrong += [f"{table} is written anew" for table in find_rewrites(before, after)]
        wrong += find_bad_locks(known, noted)
        if len({row["transaction"] for row in noted}) > 1:  # then a run may be cut short in its middle
            await connection.execute("UPDATE alembic_version SET version_num = $1", version)
            await migrated(databases, folder)
        return Found(wrong, oldest)
    finally:
        await connection.close()


def is_of(name: str, what: str) -> bool:
    """Whether it belongs to a relation, as its columns do."""
    kind, _, relation = what.partition(" ")
    return kind == "relation" and re.search(rf"\b{relation}\b", name) is not None


def is_listed(name: str, revision: str, oldest_program: str, later: Mapping[str, str]) -> bool:
    """Whether what is missing may be, since no program that the schema serves needs it. What goes with a relation, goes with it."""
    owners = [since for what, since in later.items() if name == what or is_of(name, what)]
    return bool(owners) and owners[0] < revision and owners[0] <= oldest_program


@dataclass
class Upgrading:
    """A database that the tests take from one migration to the next, so that each migration runs once and not once for every later one."""

    cluster: embedded.Cluster
    databases: Databases | None = None
    revision: str = ""

    async def reach(self, revision: str, folder: Path) -> Databases:
        """The database with the migrations up to this one; a new one where the last has more already or stands in the middle of a failed test."""
        if self.databases is None or self.revision != revision:
            self.databases = empty_database(self.cluster)
            await migrated(self.databases, folder_of(folder, up_to=revision))
            await prepare(self.databases)
        self.revision = ""
        return self.databases


@pytest.fixture(scope="module")
def upgrading(cluster: embedded.Cluster) -> Upgrading:
    return Upgrading(cluster)


@pytest.mark.xdist_group("migrations")
@pytest.mark.parametrize("revision", [revision for revision in OURS if revision >= FIRST][choose_size(-8, 0) :])
async def test_a_migration_of_ours_takes_nothing_away(upgrading: Upgrading, tmp_path: Path, revision: str) -> None:
    databases = await upgrading.reach(OURS[OURS.index(revision) - 1], tmp_path / "before")
    assert (await run_and_check(databases, folder_of(tmp_path / "after", up_to=revision), LATER)).wrong == []
    upgrading.revision = revision


def test_migrations_follow_each_other_by_number() -> None:
    """Which of two schemas is newer is seen by it."""
    assert [f"{n:04}" for n in range(1, len(OURS) + 1)] == OURS


async def test_what_is_dropped_later_is_there(upgrading: Upgrading, tmp_path: Path) -> None:
    """Each by the name that the catalogue has; what the program of this release still uses is not for the next migration to drop."""
    databases = await upgrading.reach(OURS[-1], tmp_path / "all")
    connection = await asyncpg.connect(databases.cluster.url(databases.name, embedded.SUPERUSER))
    names = (await read_catalogue(connection)).promises.keys()
    await connection.close()
    upgrading.revision = OURS[-1]
    assert {*LATER, *NEXT_LATER} <= names
    assert LATER.keys().isdisjoint(NEXT_LATER)
    assert "column idempotency.fingerprint" in NEXT_LATER


ONE = "CREATE TABLE probe (a integer)"
WRONG = {
    "drop a column": (sql("ALTER TABLE pupils DROP COLUMN sex CASCADE"), "column pupils.sex"),
    "drop a view": (sql("DROP VIEW school_roll"), "relation school_roll"),
    "drop a table": (sql("DROP TABLE used_assertions"), "relation used_assertions"),
    "drop a function": (sql("DROP FUNCTION reach_state(uuid[])"), "function reach_state(tenants uuid[])"),
    "rename a column": (sql("ALTER TABLE trusts RENAME COLUMN name TO title"), "column trusts.name"),
    "rename a table": (sql("ALTER TABLE used_assertions RENAME TO assertions"), "relation used_assertions"),
    "change a type": (sql("ALTER TABLE trusts ALTER COLUMN kind TYPE varchar(20)"), "column trusts.kind"),
    "change a result": (
        sql(
            "DROP FUNCTION bump_versions",
            "CREATE FUNCTION bump_versions(in_tenant uuid, of_schools uuid[]) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        ),
        "function bump_versions(in_tenant uuid, of_schools uuid[])",
    ),
    "overload a function": (
        sql("CREATE FUNCTION acts_in(in_tenant uuid, with_school uuid, more integer DEFAULT 0) RETURNS void LANGUAGE sql AS ''"),
        "only function acts_in(in_tenant uuid, with_school uuid, more integer)",
    ),
    "forbid null": (sql("ALTER TABLE clients ALTER COLUMN jwks SET NOT NULL"), "nullable clients.jwks"),
    "drop a default": (sql("ALTER TABLE pupils ALTER COLUMN version DROP DEFAULT"), "optional pupils.version"),
    "demand a new column": (
        sql("ALTER TABLE used_assertions ADD COLUMN later text NOT NULL"),
        "optional used_assertions.later",
    ),
    "add a check": (
        sql("ALTER TABLE trusts ADD CONSTRAINT short CHECK (length(name) < 99) NOT VALID"),
        "constraint short of trusts",
    ),
    "add a unique index": ('    build_index("once", "trusts", "(name)", unique=True)', "unique index once of trusts"),
    "take a right away": (sql("REVOKE INSERT ON targets FROM markonce_app"), "right INSERT on targets to markonce_app"),
    "drop a policy": (sql("DROP POLICY reached ON pupils"), "policy reached of pupils"),
    "copy a table": (sql("ALTER TABLE trusts ADD COLUMN later uuid DEFAULT gen_random_uuid()"), "trusts is written anew"),
    "build an index": (sql("CREATE INDEX probe ON pupils (surname)"), "an index of pupils is not built by build_index"),
    "build an index of partitions": (
        sql("CREATE INDEX probe ON judgements (source)"),
        "an index of judgements is not built by build_index",
    ),
    "lock two tables": (
        sql("ALTER TABLE pupils ADD COLUMN later text", "ALTER TABLE schools ADD COLUMN later text"),
        "pupils and schools are locked together",
    ),
    "lock a table and a view": (
        sql("ALTER TABLE pupils ADD COLUMN later text", "ALTER VIEW school_roll SET (security_invoker = true)"),
        "pupils and school_roll are locked together",
    ),
}
RIGHT = {
    "a column": sql("ALTER TABLE pupils ADD COLUMN later text, ADD COLUMN counted integer NOT NULL DEFAULT 0"),
    "a column of partitions": sql("ALTER TABLE judgements ADD COLUMN later text"),
    "a checked column": sql("ALTER TABLE pupils ADD COLUMN later text CHECK (later <> '')"),
    "a table with indexes": sql(
        ONE,
        "CREATE UNIQUE INDEX probe_a ON probe (a)",
        "ALTER TABLE probe ADD COLUMN b uuid REFERENCES schools (id)",
        "ALTER TABLE probe ALTER a SET NOT NULL",
    ),
    "a table of a tenant": """
    run_each("CREATE TABLE IF NOT EXISTS probe (tenant_id uuid NOT NULL, school_id uuid NOT NULL REFERENCES schools, PRIMARY KEY (tenant_id, school_id))")
    protect_table("probe", rows_of="school")
    """,
    "an index": '    build_index("later", "judgements", "(tenant_id, source)")',
    "columns of several": '    run_each("ALTER TABLE pupils ADD COLUMN IF NOT EXISTS later text", "ALTER TABLE schools ADD COLUMN IF NOT EXISTS later text")',
    "a column of a view": """
    text = op.get_bind().exec_driver_sql("SELECT pg_get_viewdef('school_roll'::regclass)").scalar_one().strip().removesuffix(";")
    op.get_bind().exec_driver_sql(f"CREATE OR REPLACE VIEW school_roll WITH (security_invoker = true) AS SELECT v.*, 1 AS later FROM ({text}) v")
    """,
    "a function": sql(
        "CREATE FUNCTION later() RETURNS integer LANGUAGE sql AS 'SELECT 1'", "GRANT SELECT ON trusts TO markonce_app"
    ),
    "a policy made anew": sql(
        "DROP POLICY maintenance ON receipts",
        "CREATE POLICY maintenance ON receipts TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_breaks_the_rules_is_found(databases: Databases, tmp_path: Path, case: str) -> None:
    body, expected = WRONG[case]
    await prepare(databases)
    assert expected in (await run_and_check(databases, folder_of(tmp_path / "after", {NEXT: body}), {})).wrong


@pytest.mark.parametrize("case", RIGHT)
async def test_what_keeps_to_the_rules_is_let_be(databases: Databases, tmp_path: Path, case: str) -> None:
    await prepare(databases)
    assert (await run_and_check(databases, folder_of(tmp_path / "after", {NEXT: RIGHT[case]}), {})).wrong == []


SECURITY = """
SELECT c.relrowsecurity, c.relforcerowsecurity, p.polname, p.polroles::regrole[]::text, replace(pg_get_expr(p.polqual, c.oid), c.relname, 'x'),
    pg_get_expr(p.polwithcheck, c.oid), ARRAY(SELECT a::text FROM unnest(c.relacl) a ORDER BY 1)
FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid WHERE c.relname = $1 ORDER BY polname
"""


async def test_a_new_table_is_protected_as_those_of_its_kind(databases: Databases, tmp_path: Path) -> None:
    alike = {"school": "groups", "pupil": "characteristics", "tenant": "aspects"}
    body = "\n".join(
        f"""    run_each("CREATE TABLE IF NOT EXISTS of_{kind} (tenant_id uuid, school_id uuid, pupil_id uuid)")
    protect_table("of_{kind}", rows_of="{kind}")"""
        for kind in alike
    )
    await migrated(databases, folder_of(tmp_path / "after", {NEXT: body}))
    owner = await asyncpg.connect(databases.owner_url)
    for kind, table in alike.items():
        protected, expected = [await owner.fetch(SECURITY, name) for name in (f"of_{kind}", table)]
        assert len(expected) == 2
        assert protected == expected
    await owner.close()


async def test_what_is_not_one_transaction_can_be_run_again(databases: Databases, tmp_path: Path) -> None:
    await prepare(databases)
    body = '    run_each("ALTER TABLE pupils ADD COLUMN later text", "ALTER TABLE schools ADD COLUMN later text")'
    with pytest.raises(Exception, match='column "later" of relation "pupils" already exists'):
        await run_and_check(databases, folder_of(tmp_path / "after", {NEXT: body}), {})


@pytest.mark.parametrize(("since", "oldest", "is_right"), [("0015", "0015", True), ("0015", "0014", False), (NEXT, NEXT, False)])
async def test_what_is_listed_may_be_dropped_once_no_program_that_needs_it_is_served(
    databases: Databases, tmp_path: Path, since: str, oldest: str, is_right: bool
) -> None:
    """And not by the migration with which it becomes needless."""
    await prepare(databases)
    body = sql("DROP VIEW school_roll", f"UPDATE schema_compatibility SET oldest_program = '{oldest}'")
    found = await run_and_check(databases, folder_of(tmp_path / "after", {NEXT: body}), {"relation school_roll": since})
    assert (found.wrong == []) is is_right, found.wrong
