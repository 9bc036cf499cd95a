"""Data issues: what a batch or a change found to be doubtful, listed until its cause is gone.

A possible-same-child names pupils of two schools. It is told only to who reaches both, so its policy counts the pupils
that the caller's own row-level security shows.
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SQL = """
CREATE TABLE data_issues (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    school_id uuid NOT NULL REFERENCES schools,
    client_id uuid,
    pupil_ids uuid[] NOT NULL,
    fields text[] NOT NULL DEFAULT '{}',
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE NULLS NOT DISTINCT (tenant_id, school_id, kind, client_id, pupil_ids)
);

COMMENT ON TABLE data_issues IS 'What was found to be doubtful and still is, by school; a row is deleted when its cause is gone. client_id sent what was found; pupil_ids are in order';

CREATE INDEX data_issues_by_id ON data_issues (id);

ALTER TABLE data_issues ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY reached ON data_issues TO markonce_app USING (
    EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = data_issues.tenant_id AND r.school_id = data_issues.school_id)
    AND (kind <> 'possible-same-child' OR cardinality(pupil_ids) = (
        SELECT count(*) FROM pupils p WHERE p.tenant_id = data_issues.tenant_id AND p.id = ANY (data_issues.pupil_ids)
    ))
);

CREATE POLICY maintenance ON data_issues TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON data_issues TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
