"""One child who seems to be in two schools is found by the folded names: however they are written."""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0033", "0032", None, None

FUNCTION = """
CREATE OR REPLACE FUNCTION refresh_same_children(in_tenant uuid, of_pupils uuid[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    WITH pairs AS MATERIALIZED (
        SELECT p.school_id, ARRAY[LEAST(p.id, q.id), GREATEST(p.id, q.id)] AS pupil_ids, q.school_id AS other_school_id
        FROM pupils p JOIN pupils q ON q.tenant_id = in_tenant AND q.date_of_birth = p.date_of_birth AND q.sex = p.sex AND q.id <> p.id AND q.school_id <> p.school_id
            AND q.surname_folded = p.surname_folded AND q.forename_folded = p.forename_folded
        WHERE p.tenant_id = in_tenant AND p.id = ANY (of_pupils) AND p.surname_folded <> ''
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
END $$
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTION)
