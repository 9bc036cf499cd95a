"""The history of judgements and who sits a window can be read; a target knows the school that recorded it."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0041", "0040", None, None

COLUMNS = """tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, scheme_version_no, grade_no, mark, status_code, recorded_at,
    received_at, recorded_at_school_id, client_id, actor, source, method, version"""
CHANGES = f"""
CREATE OR REPLACE VIEW judgement_changes WITH (security_invoker = true) AS
SELECT v.*, COALESCE(b.until, v.received_at) AS changed_at, b.scheme_version_no AS before_scheme_version_no, b.grade_no AS before_grade_no,
    b.mark AS before_mark, b.status_code AS before_status_code
FROM (SELECT {COLUMNS} FROM judgements UNION ALL SELECT {COLUMNS} FROM judgement_history) v
LEFT JOIN LATERAL (
    SELECT h.scheme_version_no, h.grade_no, h.mark, h.status_code, h.until FROM judgement_history h
    WHERE h.tenant_id = v.tenant_id AND h.academic_year = v.academic_year AND h.pupil_id = v.pupil_id AND h.window_no = v.window_no
        AND h.subject_no = v.subject_no AND h.aspect_no = v.aspect_no AND h.version < v.version
    ORDER BY h.version DESC LIMIT 1
) b ON true
"""
SITTERS = """
CREATE OR REPLACE FUNCTION window_sitters(in_tenant uuid, of_window smallint) RETURNS TABLE (pupil_id uuid, census_school_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER COST 100000 ROWS 1000 SET search_path = public, pg_temp AS $$
    WITH reached AS MATERIALIZED (
        SELECT DISTINCT r.school_id FROM reach r
        WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
            AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now()) AND 'pupils:read' = ANY (r.scopes)
    ), seen AS MATERIALIZED (
        SELECT p.id FROM pupils p WHERE p.tenant_id = in_tenant AND p.school_id IN (SELECT school_id FROM reached)
        UNION SELECT s.pupil_id FROM shared_pupils s WHERE s.tenant_id = in_tenant AND s.school_id IN (SELECT school_id FROM reached)
    )
    SELECT c.pupil_id, c.school_id FROM seen JOIN census c ON c.tenant_id = in_tenant AND c.window_no = of_window AND c.pupil_id = seen.id
    WHERE EXISTS (SELECT 1 FROM pins n WHERE n.tenant_id = in_tenant AND n.window_no = of_window AND n.school_id = c.school_id)
$$
"""
PUPILS = """
CREATE OR REPLACE VIEW window_pupils WITH (security_invoker = true) AS
SELECT p.*, w.no AS window_no, f.census_school_id
FROM windows w CROSS JOIN LATERAL window_sitters(w.tenant_id, w.no) f JOIN pupils p ON p.tenant_id = w.tenant_id AND p.id = f.pupil_id
"""


def upgrade() -> None:
    run_each(
        "ALTER TABLE targets ADD COLUMN IF NOT EXISTS recorded_at_school_id uuid",
        "ALTER TABLE target_history ADD COLUMN IF NOT EXISTS recorded_at_school_id uuid",
        "COMMENT ON COLUMN targets.recorded_at_school_id IS 'Null of what older programs wrote'",
        CHANGES,
        SITTERS,
        "COMMENT ON FUNCTION window_sitters IS 'The pupils of a window whom the caller reaches today, with the school where they count'",
        "REVOKE ALL ON FUNCTION window_sitters FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION window_sitters TO markonce_app, markonce_operator",
        PUPILS,
        "GRANT SELECT ON judgement_changes, window_pupils TO markonce_app, markonce_operator",
    )
