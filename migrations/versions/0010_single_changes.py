"""A school's own settings, and what deleting a window asks and takes away.

The function is SECURITY DEFINER because both are beyond the app role: whether a window was ever used must not depend on which schools the client
reaches, and the cells of a window that opened are nobody's to write. It takes the tenant and touches nothing outside it.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

SQL = """
DROP INDEX schools_by_tenant;

ALTER TABLE schools ADD CONSTRAINT schools_by_tenant UNIQUE (tenant_id, id);

CREATE TABLE school_settings (
    tenant_id uuid,
    school_id uuid,
    short_name text,
    max_leavers_percent smallint NOT NULL DEFAULT 5 CHECK (max_leavers_percent BETWEEN 0 AND 100),
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, school_id),
    FOREIGN KEY (tenant_id, school_id) REFERENCES schools (tenant_id, id) ON UPDATE CASCADE
);

COMMENT ON TABLE school_settings IS 'What a school says of itself, made on its first change; it follows the school to another trust';

ALTER TABLE school_settings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY reached ON school_settings TO markonce_app USING (EXISTS (
    SELECT 1 FROM reach r WHERE r.client_id = (SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid)
        AND r.tenant_id = school_settings.tenant_id AND r.school_id = school_settings.school_id
        AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
));

CREATE POLICY maintenance ON school_settings TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE ON school_settings TO markonce_app;

GRANT SELECT, INSERT, UPDATE, DELETE ON school_settings TO markonce_operator;

CREATE FUNCTION delete_window(in_tenant uuid, in_window smallint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    IF EXISTS (SELECT 1 FROM judgements j WHERE j.tenant_id = in_tenant AND j.window_no = in_window)
        OR EXISTS (SELECT 1 FROM judgement_history j WHERE j.tenant_id = in_tenant AND j.window_no = in_window) THEN
        RETURN false;
    END IF;
    DELETE FROM cells c WHERE c.tenant_id = in_tenant AND c.window_no = in_window;
    DELETE FROM totals t WHERE t.tenant_id = in_tenant AND t.window_no = in_window;
    UPDATE receipts r SET window_no = NULL WHERE r.tenant_id = in_tenant AND r.window_no = in_window;
    DELETE FROM windows w WHERE w.tenant_id = in_tenant AND w.no = in_window;
    RETURN true;
END $$;

COMMENT ON FUNCTION delete_window IS 'Deletes a window with what it collects, pins and counts; false, and nothing is done, where it holds a judgement or ever did';

REVOKE ALL ON FUNCTION delete_window FROM PUBLIC;

GRANT EXECUTE ON FUNCTION delete_window TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
