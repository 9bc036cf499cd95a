"""How many pupils of a window are on target is counted school by school, by the owner, for whoever may see counts there."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0069", "0068", None, None

HORIZON = """
CREATE OR REPLACE FUNCTION horizon_day(of_year smallint, point text) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT NULL::date $$
"""
FUNCTION = """
CREATE OR REPLACE FUNCTION school_target_outcomes(in_tenant uuid, of_window smallint, of_school uuid) RETURNS TABLE (
    subject_no smallint, aspect_no smallint, eligible integer, above integer, on_target integer, below integer, no_target integer,
    not_comparable integer, not_judged integer
) LANGUAGE sql STABLE SECURITY DEFINER ROWS 10 COST 100000 SET search_path = public, pg_temp AS $$
    WITH w AS MATERIALIZED (
        SELECT census_on, COALESCE(closed_at, closes_at) AS closed_at FROM windows WHERE tenant_id = in_tenant AND no = of_window AND EXISTS (
            SELECT 1 FROM reach r WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
                AND r.school_id = of_school AND 'aggregates:internal' = ANY (r.scopes) AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
        )
    ), outcomes AS (
        SELECT n.subject_no, n.aspect_no, CASE WHEN j.grade_no IS NULL THEN 'not judged' WHEN t.version_no IS NULL THEN 'no target'
            WHEN t.version_no <> j.scheme_version_no OR jg.rank IS NULL OR tg.rank IS NULL THEN 'not comparable'
            WHEN jg.rank > tg.rank THEN 'above' WHEN jg.rank = tg.rank THEN 'on' ELSE 'below' END AS outcome
        FROM w
        JOIN census c ON c.tenant_id = in_tenant AND c.window_no = of_window AND c.school_id = of_school
        JOIN pins n ON n.tenant_id = in_tenant AND n.window_no = of_window AND n.school_id = of_school
        LEFT JOIN LATERAL (
            SELECT x.scheme_version_no, x.grade_no FROM judgements x WHERE x.tenant_id = in_tenant AND x.academic_year = c.academic_year
                AND x.pupil_id = c.pupil_id AND x.window_no = of_window AND x.subject_no = n.subject_no AND x.aspect_no = n.aspect_no LIMIT 1
        ) j ON true
        LEFT JOIN LATERAL (
            SELECT s.version_no, s.grade_no FROM (
                SELECT g.id, CASE WHEN late.yes THEN h.scheme_version_no ELSE g.scheme_version_no END AS version_no,
                    CASE WHEN late.yes THEN h.grade_no ELSE g.grade_no END AS grade_no,
                    CASE WHEN late.yes THEN h.recorded_at ELSE g.recorded_at END AS recorded_at,
                    COALESCE(
                        horizon_day(g.horizon_year, g.horizon_point),
                        (SELECT min(o.census_on) FROM windows o WHERE o.tenant_id = in_tenant AND o.academic_year = g.horizon_year AND o.code = g.horizon_point),
                        horizon_day(g.horizon_year, 'summer')
                    ) AS horizon_on
                FROM targets g CROSS JOIN LATERAL (SELECT COALESCE(g.recorded_at > w.closed_at, false) AS yes) late
                LEFT JOIN LATERAL (
                    SELECT f.scheme_version_no, f.grade_no, f.recorded_at FROM target_history f
                    WHERE late.yes AND f.tenant_id = in_tenant AND f.id = g.id AND f.recorded_at <= w.closed_at ORDER BY f.version DESC LIMIT 1
                ) h ON true
                WHERE g.tenant_id = in_tenant AND g.pupil_id = c.pupil_id AND g.subject_no = n.subject_no AND g.aspect_no = n.aspect_no
            ) s WHERE s.version_no IS NOT NULL AND s.horizon_on >= w.census_on
            ORDER BY s.horizon_on, s.version_no IS DISTINCT FROM j.scheme_version_no, s.recorded_at DESC, s.id LIMIT 1
        ) t ON true
        LEFT JOIN grades jg ON jg.tenant_id = in_tenant AND jg.scheme_version_no = j.scheme_version_no AND jg.no = j.grade_no
        LEFT JOIN grades tg ON tg.tenant_id = in_tenant AND tg.scheme_version_no = t.version_no AND tg.no = t.grade_no
    )
    SELECT o.subject_no, o.aspect_no, count(*)::integer, (count(*) FILTER (WHERE outcome = 'above'))::integer,
        (count(*) FILTER (WHERE outcome = 'on'))::integer, (count(*) FILTER (WHERE outcome = 'below'))::integer,
        (count(*) FILTER (WHERE outcome = 'no target'))::integer, (count(*) FILTER (WHERE outcome = 'not comparable'))::integer,
        (count(*) FILTER (WHERE outcome = 'not judged'))::integer
    FROM outcomes o GROUP BY o.subject_no, o.aspect_no
$$
"""
VIEW = """
CREATE OR REPLACE VIEW target_outcomes WITH (security_invoker = true) AS
SELECT p.tenant_id, p.window_no, p.school_id, f.subject_no, f.aspect_no, f.eligible, f.above, f.on_target, f.below, f.no_target, f.not_comparable,
    f.not_judged, w.state, w.opens_at, w.closes_at
FROM (SELECT DISTINCT n.tenant_id, n.window_no, n.school_id FROM pins n) p
JOIN windows w ON w.tenant_id = p.tenant_id AND w.no = p.window_no
CROSS JOIN LATERAL school_target_outcomes(p.tenant_id, p.window_no, p.school_id) f
"""


def upgrade() -> None:
    run_each(
        HORIZON,
        "COMMENT ON FUNCTION horizon_day IS 'The day of a horizon that the sector shares; null for any other. migrate writes it from horizons.json'",
        FUNCTION,
        "COMMENT ON FUNCTION school_target_outcomes IS 'How many pupils of a window are above, on and below the target that counts for it, by subject and"
        " aspect. Counts alone, of every target whoever may see it; nothing unless the caller holds aggregates:internal at the school'",
        "REVOKE ALL ON FUNCTION school_target_outcomes FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION school_target_outcomes TO markonce_app, markonce_operator",
        VIEW,
        "GRANT SELECT ON target_outcomes TO markonce_app, markonce_operator",
    )
