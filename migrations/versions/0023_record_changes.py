"""Merging two records of a pupil, and splitting one that is of two children.

`repoint_pupil` gives every row about a pupil another pupil's id, in every table that has the columns tenant_id and
pupil_id: a table that is added later follows by itself. What would be there twice the command has put together before.
It is SECURITY DEFINER because a reference may stand at a school where the pupil no longer has a spell.
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

SQL = """
CREATE TABLE record_changes (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('merged', 'split')),
    pupil_id uuid NOT NULL,
    other_id uuid NOT NULL,
    client_id uuid NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    details jsonb NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

COMMENT ON TABLE record_changes IS 'History of records: other_id was merged into pupil_id, or split from it; details say which rows came from it, and the facts before';

CREATE INDEX record_changes_by_pupil ON record_changes (tenant_id, pupil_id);

CREATE INDEX record_changes_by_other ON record_changes (other_id);

ALTER TABLE record_changes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY reached ON record_changes TO markonce_app USING (EXISTS (
    SELECT 1 FROM pupils p WHERE p.tenant_id = record_changes.tenant_id AND p.id = record_changes.pupil_id
));

CREATE POLICY maintenance ON record_changes TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON record_changes TO markonce_app, markonce_operator;

CREATE FUNCTION find_schools_of(in_tenant uuid, of_pupils uuid[]) RETURNS uuid[] LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN ARRAY(
        SELECT e.school_id FROM enrolments e WHERE e.tenant_id = in_tenant AND e.pupil_id = ANY (of_pupils)
        UNION SELECT e.school_id FROM enrolment_history e WHERE e.tenant_id = in_tenant AND e.pupil_id = ANY (of_pupils)
        UNION SELECT x.school_id FROM external_ids x WHERE x.tenant_id = in_tenant AND x.kind = 'pupil' AND x.id = ANY (of_pupils)
    );
END $$;

COMMENT ON FUNCTION find_schools_of IS 'The schools where these pupils have or had a spell, former ones included, or have a reference';

REVOKE ALL ON FUNCTION find_schools_of FROM PUBLIC;

GRANT EXECUTE ON FUNCTION find_schools_of TO markonce_app, markonce_operator;

CREATE FUNCTION repoint_pupil(in_tenant uuid, from_pupil uuid, to_pupil uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    named record;
BEGIN
    PERFORM acts_in(in_tenant);
    FOR named IN
        SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_attribute p ON p.attrelid = c.oid AND p.attname = 'pupil_id'
        JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'tenant_id'
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
    LOOP
        EXECUTE format('UPDATE %s SET pupil_id = $3 WHERE tenant_id = $1 AND pupil_id = $2', named.name) USING in_tenant, from_pupil, to_pupil;
    END LOOP;
    UPDATE external_ids SET id = to_pupil WHERE tenant_id = in_tenant AND kind = 'pupil' AND id = from_pupil;
    DELETE FROM data_issues WHERE tenant_id = in_tenant AND from_pupil = ANY (pupil_ids);
END $$;

COMMENT ON FUNCTION repoint_pupil IS 'Gives all rows about a pupil another pupil''s id; data issues of the pupil end';

REVOKE ALL ON FUNCTION repoint_pupil FROM PUBLIC;

GRANT EXECUTE ON FUNCTION repoint_pupil TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
