"""Groups as readers see them: a version on each, and who is or was in them, from either side; and when a pupil or group last changed."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SQL = """
ALTER TABLE pupils ADD changed_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE groups ADD version integer NOT NULL DEFAULT 1, ADD changed_at timestamptz NOT NULL DEFAULT now(),
    ADD xid xid8 NOT NULL DEFAULT pg_current_xact_id();

CREATE INDEX groups_by_school ON groups (tenant_id, school_id, id);

CREATE VIEW group_pupils WITH (security_invoker = true) AS
SELECT p.*, m.group_id, m.school_id AS group_school_id, m.from_on AS member_from, m.to_on AS member_to
FROM group_members m JOIN pupils p ON p.tenant_id = m.tenant_id AND p.id = m.pupil_id;

CREATE VIEW pupil_groups WITH (security_invoker = true) AS
SELECT g.*, m.pupil_id, m.from_on AS member_from, m.to_on AS member_to
FROM group_members m JOIN groups g ON g.tenant_id = m.tenant_id AND g.id = m.group_id;

GRANT SELECT ON group_pupils, pupil_groups TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
