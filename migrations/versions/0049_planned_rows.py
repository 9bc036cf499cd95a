"""One child with two records in one school is found; what a planned roll says can be read; the mark of a new identity stays with both records of a split.

outcome is null in rows that older programs have planned.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0049", "0048", None, None

STATEMENTS = (
    r"""
    CREATE OR REPLACE FUNCTION refresh_same_children(in_tenant uuid, of_pupils uuid[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        PERFORM acts_in(in_tenant);
        WITH pairs AS MATERIALIZED (
            SELECT p.school_id, ARRAY[LEAST(p.id, q.id), GREATEST(p.id, q.id)] AS pupil_ids, q.school_id AS other_school_id
            FROM pupils p JOIN pupils q ON q.tenant_id = in_tenant AND q.date_of_birth = p.date_of_birth AND q.sex = p.sex AND q.id <> p.id
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
    """,
    r"""
    CREATE OR REPLACE FUNCTION copy_new_identity(in_tenant uuid, from_pupil uuid, to_pupil uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        PERFORM acts_in(in_tenant);
        INSERT INTO new_identities (tenant_id, pupil_id)
        SELECT in_tenant, to_pupil WHERE EXISTS (SELECT 1 FROM new_identities n WHERE n.tenant_id = in_tenant AND n.pupil_id = from_pupil)
            AND NOT EXISTS (SELECT 1 FROM new_identities n WHERE n.tenant_id = in_tenant AND n.pupil_id = to_pupil);
    END $$
    """,
    "COMMENT ON FUNCTION copy_new_identity IS 'A record that is split from another one may be that of the child with the new identity: both are marked then'",
    "REVOKE ALL ON FUNCTION copy_new_identity FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION copy_new_identity TO markonce_app, markonce_operator",
    "ALTER TABLE planned_pupils ADD COLUMN IF NOT EXISTS outcome text",
    "COMMENT ON COLUMN planned_pupils.outcome IS 'What would have become of the row on the day on which it was sent; null in rows of older programs'",
    """
    CREATE OR REPLACE VIEW planned_enrolments WITH (security_invoker = true) AS
    SELECT x.tenant_id, x.planned_roll_id, x.n, x.school_id, s.m::integer AS m, s.said->>'status' AS status, (s.said->>'from')::date AS from_on,
        (s.said->>'to')::date AS to_on, s.said->>'leavingReason' AS leaving_reason
    FROM planned_pupils x CROSS JOIN LATERAL jsonb_array_elements(x.entry->'enrolments') WITH ORDINALITY AS s (said, m)
    """,
    """
    CREATE OR REPLACE VIEW planned_characteristics WITH (security_invoker = true) AS
    SELECT x.tenant_id, x.planned_roll_id, x.n, x.school_id, s.m::integer AS m, s.said->>'kind' AS kind, s.said->>'value' AS value,
        (s.said->>'from')::date AS from_on, (s.said->>'to')::date AS to_on
    FROM planned_pupils x CROSS JOIN LATERAL jsonb_array_elements(x.entry->'characteristics') WITH ORDINALITY AS s (said, m)
    """,
    "GRANT SELECT ON planned_enrolments, planned_characteristics TO markonce_app, markonce_operator",
)


def upgrade() -> None:
    run_each(*STATEMENTS)
