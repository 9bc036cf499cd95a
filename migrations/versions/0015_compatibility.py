"""What a program must know of the schema before it serves it: its version, and the oldest program that it still serves."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SQL = """
GRANT SELECT ON alembic_version TO markonce_app, markonce_operator;

CREATE TABLE schema_compatibility (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    oldest_program text NOT NULL
);

COMMENT ON TABLE schema_compatibility IS 'One row: the newest migration of the oldest program that this schema serves. A migration that drops something raises it (docs/migrations.md)';

INSERT INTO schema_compatibility (oldest_program) VALUES ('0014');

GRANT SELECT ON schema_compatibility TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
