"""The migrations add up to the tables the nouns declare, and every tenant table has row-level security."""

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from domain import RESOURCES
from domain.store.metadata import metadata
from tests.fixtures.databases import Databases

REGISTER_AND_SHARED = {
    "academic_years", "alembic_version", "client_secrets", "clients", "codes", "data_versions", "grants", "idempotency", "memberships",
    "schema_compatibility", "schools", "signing_keys", "succession", "trusts", "used_assertions",
    "sort_weights", "window_instants", "former_laestabs", "register_imports", "ledger_entries", "read_counting",
    "client_changes", "grant_changes",
}  # fmt: skip


async def test_every_declared_column_is_in_the_database(databases: Databases) -> None:
    engine = create_async_engine(databases.owner_url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
        )
    await engine.dispose()
    kinds = [difference for each in found for difference in (each if isinstance(each, list) else [each])]
    assert [d for d in kinds if d[0] in ("add_table", "add_column", "modify_nullable", "modify_type")] == []


async def columns_of(databases: Databases) -> dict[str, set[str]]:
    """The columns of every table and view of the database, by its name."""
    connection = await asyncpg.connect(databases.owner_url)
    rows = await connection.fetch(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped"
    )
    await connection.close()
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["relname"], set()).add(row["attname"])
    return found


async def test_a_view_has_every_column_that_its_table_has(databases: Databases) -> None:
    """A migration that adds a column which is read through a view makes the view anew, with the column at its end: one keeps those of its day."""
    found = await columns_of(databases)
    views = [link.source for resource in RESOURCES.values() for link in resource.links.values() if link.source is not None]
    assert len(views) == 6
    assert {view.name: {*view.columns.keys()} - found[view.name] for view in views} == {view.name: set() for view in views}


@pytest.mark.parametrize("table", ["judgement", "target"])
async def test_a_history_has_every_column_that_its_table_has(databases: Databases, table: str) -> None:
    found = await columns_of(databases)
    assert found[f"{table}_history"] - found[f"{table}s"] == {"until"}
    assert found[f"{table}s"] <= found[f"{table}_history"]


async def test_row_level_security_is_forced_on_everything_a_tenant_owns(databases: Databases) -> None:
    connection = await asyncpg.connect(databases.owner_url)
    rows = await connection.fetch(
        "SELECT relname, relrowsecurity AND relforcerowsecurity AS is_secured FROM pg_class c"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    await connection.close()
    assert {row["relname"] for row in rows if not row["is_secured"]} == REGISTER_AND_SHARED


OF_CLIENTS = ("jobs", "job_parts", "job_schools", "staged_rows", "job_issues")


async def test_keys_and_constraints_of_tenant_tables_start_with_the_tenant(databases: Databases) -> None:
    """Row-level security guards neither foreign keys nor unique constraints, so each must begin with tenant_id (register ids excepted); with
    client_id where rows are a client's own."""
    connection = await asyncpg.connect(databases.owner_url)
    rows = await connection.fetch(
        "SELECT c.relname, k.conname, k.contype::text, f.relname AS target,"
        " (SELECT attname FROM pg_attribute WHERE attrelid = k.conrelid AND attnum = k.conkey[1]) AS first"
        " FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_class f ON f.oid = k.confrelid"
        " WHERE k.contype IN ('p', 'u', 'f') AND c.relrowsecurity AND NOT c.relispartition AND c.relname NOT IN ('tenants', 'reach')"
    )
    await connection.close()
    assert len(rows) > 40
    wrong = [row for row in rows if row["first"] != ("client_id" if row["relname"] in OF_CLIENTS else "tenant_id")]
    assert [dict(row) for row in wrong if row["target"] not in ("schools", "academic_years")] == []


async def test_the_app_role_owns_nothing_and_partitions_are_reached_through_their_parent(databases: Databases) -> None:
    connection = await asyncpg.connect(databases.app_url)
    assert (
        await connection.fetchval(
            "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = 'markonce_app'"
        )
        == 0
    )
    granted = await connection.fetchval(
        "SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r' AND has_table_privilege('markonce_app', oid, 'SELECT')"
    )
    await connection.close()
    assert granted == 0
