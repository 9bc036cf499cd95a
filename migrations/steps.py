"""Functions for migrations that change tables in use.

Each commits what comes before it in the migration, and each of its statements. So a migration that calls one consists only of calls of these functions.
A run that was cut short does the whole migration again: each statement must do nothing the second time (IF NOT EXISTS, OR REPLACE).
"""

import time
from typing import Literal

from alembic import op
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

TRIES = 20
"""How often a lock is asked for before the whole migration is tried again, later."""
NO_LOCK, DEADLOCK = "55P03", "40P01"


def run_each(*statements: str) -> None:
    """Runs each statement in a transaction of its own, so that it never holds locks on two tables.

    Under load, readers lock the same tables in another order, so that each side would wait for the other.
    """
    with op.get_context().autocommit_block():
        for statement in statements:
            _run(op.get_bind(), statement)


def protect_table(table: str, *, rows_of: Literal["school", "pupil", "tenant"]) -> None:
    """Forces row-level security on a table with the column tenant_id, and gives the roles their rights. What is there stays.

    The application sees and writes rows within reach: by school_id those of a school, of a pupil also by pupil_id those that a
    second school shares, and those of a tenant by any of its schools. Rows of a pupil are those of callers whose scopes are about
    pupils (`reach.sees_pupils`). The owner and the operator see every row.
    """
    of_school = "" if rows_of == "tenant" else f" AND r.school_id = {table}.school_id"
    reached = f"EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {table}.tenant_id{of_school})"
    if rows_of == "pupil":
        reached = (
            f"{reached[:-1]} AND r.sees_pupils) OR EXISTS (SELECT 1 FROM shared_pupils s JOIN reach r ON r.tenant_id = s.tenant_id"
        )
        reached += f" AND r.school_id = s.school_id AND r.sees_pupils WHERE s.tenant_id = {table}.tenant_id AND s.pupil_id = {table}.pupil_id)"
    policies = {
        "reached": f"TO markonce_app USING ({reached})",
        "maintenance": "TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)",
    }
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        _run(connection, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        present = f"SELECT polname FROM pg_policy WHERE polrelid = '{table}'::regclass"
        for name in policies.keys() - {*connection.exec_driver_sql(present).scalars()}:
            _run(connection, f"CREATE POLICY {name} ON {table} {policies[name]}")
        _run(connection, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO markonce_app, markonce_operator")


def append_to_views(expression: str, *views: str) -> None:
    """Adds a column at the end of each of these views: `p.house` is the column house, of the relation that each view calls p.

    The rest of a view stays as the database has it. A view that has the column already stays.
    """
    name = expression.rpartition(".")[2]
    has_column = "SELECT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = '{0}'::regclass AND attname = '{1}')"
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        for view in views:
            if connection.exec_driver_sql(has_column.format(view, name)).scalar_one():
                continue
            text = connection.exec_driver_sql(f"SELECT pg_get_viewdef('{view}'::regclass)").scalar_one()
            columns, from_, rest = text.partition("\n   FROM ")
            _run(
                connection,
                f"CREATE OR REPLACE VIEW {view} WITH (security_invoker = true) AS\n{columns},\n    {expression}{from_}{rest}",
            )


def _run(connection: Connection, statement: str) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            connection.exec_driver_sql(statement)
            return
        except DBAPIError as problem:
            if attempt == TRIES or getattr(problem.orig, "sqlstate", None) not in (NO_LOCK, DEADLOCK):
                raise
        time.sleep(min(1.0, 0.05 * 2**attempt))


def build_index(name: str, table: str, definition: str, *, unique: bool = False) -> None:
    """Builds `CREATE INDEX name ON table definition` while the table is written (CONCURRENTLY), also on a partitioned one.

    A build that was cut short leaves an invalid index, which the next one drops.
    """
    kind = "UNIQUE INDEX" if unique else "INDEX"
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        if connection.exec_driver_sql(f"SELECT relkind = 'r' FROM pg_class WHERE oid = '{table}'::regclass").scalar_one():
            return _build(connection, kind, name, table, definition)
        # of the parent alone, which has no rows; a partition that is made from now on has the index by itself
        _run(connection, f"CREATE {kind} IF NOT EXISTS {name} ON ONLY {table} {definition}")
        partitions = f"SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = '{table}'::regclass ORDER BY 1"
        for partition in connection.exec_driver_sql(partitions).scalars().all():
            _build(connection, kind, f"{name}_{partition}", partition, definition)
            _run(connection, f"ALTER INDEX {name} ATTACH PARTITION {name}_{partition}")


def _build(connection: Connection, kind: str, name: str, table: str, definition: str) -> None:
    wait = connection.exec_driver_sql("SHOW lock_timeout").scalar_one()
    connection.exec_driver_sql("SET lock_timeout = 0")  # it waits for long transactions, and no reader or writer waits for it
    try:
        broken = f"SELECT NOT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}')"
        if connection.exec_driver_sql(broken).scalar_one_or_none():
            connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {name}")
        connection.exec_driver_sql(f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {name} ON {table} {definition}")
    finally:
        connection.exec_driver_sql(f"SET lock_timeout = '{wait}'")
