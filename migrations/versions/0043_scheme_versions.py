"""Versions of schemes can be read; where a pupil sat a window is told to who reaches that school alone."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0043", "0042", None, None

VERSIONS = """
CREATE OR REPLACE VIEW versions_of_schemes WITH (security_invoker = true) AS
SELECT v.tenant_id, v.no, v.scheme_id, v.version, v.rounding, v.expected_status, v.higher_status,
    (SELECT array_agg(y || '-' || lpad(((y + 1) % 100)::text, 2, '0') ORDER BY y) FROM unnest(v.years) y) AS academic_years
FROM scheme_versions v
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
    SELECT c.pupil_id, CASE WHEN c.school_id IN (SELECT school_id FROM reached) THEN c.school_id END
    FROM seen JOIN census c ON c.tenant_id = in_tenant AND c.window_no = of_window AND c.pupil_id = seen.id
    WHERE EXISTS (SELECT 1 FROM pins n WHERE n.tenant_id = in_tenant AND n.window_no = of_window AND n.school_id = c.school_id)
$$
"""
"""The school of the census is told to who reaches it alone: it may lead to a child's former identity."""


def upgrade() -> None:
    run_each(VERSIONS, "GRANT SELECT ON versions_of_schemes TO markonce_app, markonce_operator", SITTERS)
