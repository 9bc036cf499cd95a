"""Two more doubts about pupils: a row that changes both permanent UPN and surname, and one child who seems to be in two schools.

Both functions see all pupils of the tenant: what a row means must not depend on what its client reaches, and a child at another school is told of by row-level security
alone, to who reaches both.
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

SQL = """
CREATE FUNCTION read_upns_and_surnames(in_tenant uuid, of_pupils uuid[]) RETURNS TABLE (id uuid, upn text, surname text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$#variable_conflict use_column
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN QUERY SELECT p.id, p.upn, p.surname FROM pupils p WHERE p.tenant_id = in_tenant AND p.id = ANY (of_pupils);
END $$;

REVOKE ALL ON FUNCTION read_upns_and_surnames FROM PUBLIC;

GRANT EXECUTE ON FUNCTION read_upns_and_surnames TO markonce_app, markonce_operator;

CREATE FUNCTION refresh_same_children(in_tenant uuid, of_pupils uuid[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    WITH pairs AS MATERIALIZED (
        SELECT p.school_id, ARRAY[LEAST(p.id, q.id), GREATEST(p.id, q.id)] AS pupil_ids, q.school_id AS other_school_id
        FROM pupils p JOIN pupils q ON q.tenant_id = in_tenant AND q.date_of_birth = p.date_of_birth AND q.sex = p.sex AND q.id <> p.id AND q.school_id <> p.school_id
            AND lower(q.surname) = lower(p.surname) AND lower(q.forename) = lower(p.forename)
        WHERE p.tenant_id = in_tenant AND p.id = ANY (of_pupils)
            AND (COALESCE(right(p.upn, 1), 'A') !~ '[0-9]' OR COALESCE(right(q.upn, 1), 'A') !~ '[0-9]')
    ), found AS (
        SELECT school_id, pupil_ids FROM pairs UNION SELECT other_school_id, pupil_ids FROM pairs
    ), gone AS (
        DELETE FROM data_issues d WHERE d.tenant_id = in_tenant AND d.kind = 'possible-same-child' AND d.pupil_ids && of_pupils
            AND NOT EXISTS (SELECT 1 FROM found f WHERE f.school_id = d.school_id AND f.pupil_ids = d.pupil_ids)
    )
    INSERT INTO data_issues (tenant_id, id, kind, school_id, pupil_ids)
    SELECT in_tenant, renew_id('00000000-0000-700f-8000-000000000000'), 'possible-same-child', f.school_id, f.pupil_ids FROM found f
    ON CONFLICT DO NOTHING;
END $$;

COMMENT ON FUNCTION refresh_same_children IS 'Finds pupils of two schools who seem to be one child: same name, birthday and sex, at least one without a permanent UPN';

REVOKE ALL ON FUNCTION refresh_same_children FROM PUBLIC;

GRANT EXECUTE ON FUNCTION refresh_same_children TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
