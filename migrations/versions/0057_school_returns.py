"""What is returned to a window is counted school by school, so that a page of a trust's returns counts no more schools than it shows."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0057", "0056", None, None

FUNCTION = """
CREATE OR REPLACE FUNCTION school_returns(in_tenant uuid, of_window smallint, of_school uuid, listed integer) RETURNS TABLE (
    subject_no smallint, aspect_no smallint, expected integer, received integer, missing_pupil_ids uuid[]
) LANGUAGE sql STABLE SECURITY DEFINER ROWS 10 COST 100000 SET search_path = public, pg_temp AS $$
    WITH grants_in_force AS (
        SELECT r.school_id, r.scopes FROM reach r
        WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
            AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    ), eligible AS MATERIALIZED (
        SELECT c.pupil_id, c.academic_year,
            EXISTS (SELECT 1 FROM grants_in_force g WHERE g.school_id = p.school_id AND 'pupils:read' = ANY (g.scopes)) OR EXISTS (
                SELECT 1 FROM shared_pupils s JOIN grants_in_force g ON g.school_id = s.school_id AND 'pupils:read' = ANY (g.scopes)
                WHERE s.tenant_id = in_tenant AND s.pupil_id = p.id
            ) AS seen
        FROM census c CROSS JOIN LATERAL (SELECT id, school_id FROM pupils WHERE tenant_id = in_tenant AND pupils.id = c.pupil_id LIMIT 1) p
        WHERE c.tenant_id = in_tenant AND c.window_no = of_window AND c.school_id = of_school
    )
    SELECT n.subject_no, n.aspect_no, count(e.pupil_id)::integer, count(j.found)::integer,
        COALESCE((array_agg(e.pupil_id ORDER BY e.pupil_id) FILTER (WHERE e.seen AND j.found IS NULL))[:listed], '{}')
    FROM pins n
    LEFT JOIN eligible e ON true
    LEFT JOIN LATERAL (
        SELECT true AS found FROM judgements j WHERE j.tenant_id = in_tenant AND j.academic_year = e.academic_year AND j.pupil_id = e.pupil_id
            AND j.window_no = of_window AND j.subject_no = n.subject_no AND j.aspect_no = n.aspect_no AND j.status_code IS DISTINCT FROM 'withdrawn' LIMIT 1
    ) j ON true
    WHERE n.tenant_id = in_tenant AND n.window_no = of_window AND n.school_id = of_school
        AND EXISTS (SELECT 1 FROM grants_in_force g WHERE g.school_id = of_school AND 'windows:read' = ANY (g.scopes))
        AND EXISTS (SELECT 1 FROM grants_in_force g WHERE g.school_id = of_school AND 'judgements:read' = ANY (g.scopes))
    GROUP BY n.subject_no, n.aspect_no
$$
"""
VIEW = """
CREATE OR REPLACE VIEW returns WITH (security_invoker = true) AS
SELECT p.tenant_id, p.window_no, w.code AS window_code, p.school_id, s.urn AS school_urn, s.name AS school_name, f.subject_no, f.aspect_no,
    f.expected, f.received, f.expected - f.received AS missing, f.missing_pupil_ids,
    cardinality(f.missing_pupil_ids) < f.expected - f.received AS missing_cut,
    last.received_at AS last_push_at, c.name AS last_client, last.rejected AS last_rejected, w.state, w.opens_at, w.closes_at
FROM (SELECT DISTINCT n.tenant_id, n.window_no, n.school_id FROM pins n) p
JOIN windows w ON w.tenant_id = p.tenant_id AND w.no = p.window_no
JOIN schools s ON s.id = p.school_id
CROSS JOIN LATERAL school_returns(p.tenant_id, p.window_no, p.school_id, 200) f
LEFT JOIN LATERAL (
    SELECT r.received_at, r.client_id, r.rejected FROM receipts r
    WHERE r.tenant_id = p.tenant_id AND r.school_id = p.school_id AND r.window_no = p.window_no AND r.subject_no = f.subject_no AND r.aspect_no = f.aspect_no
    ORDER BY r.received_at DESC LIMIT 1
) last ON true
LEFT JOIN clients c ON c.id = last.client_id
"""


def upgrade() -> None:
    run_each(
        FUNCTION,
        "COMMENT ON FUNCTION school_returns IS 'By subject and aspect that a window collects from a school: whom the census expects, for how many there is a"
        " value, and who is missing, as far as listed. Nothing unless the caller reads windows and judgements there. LIMIT keeps each look-up an index"
        " probe, also before the tables have statistics'",
        "REVOKE ALL ON FUNCTION school_returns FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION school_returns TO markonce_app, markonce_operator",
        VIEW,
    )
