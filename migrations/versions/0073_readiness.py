"""What stops each school of a trust from being aggregated: counts, made above row-level security for schools where the caller holds aggregates:internal."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0073", "0072", None, None

READINESS = """
CREATE OR REPLACE FUNCTION count_readiness(in_tenant uuid, in_year smallint, on_day date, at_instant timestamptz) RETURNS TABLE (
    school_id uuid, judged bigint, obstacle text, scheme text, scheme_version smallint, kept_out bigint
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    is_scaled boolean := find_scale(in_tenant, on_day) IS NOT NULL;
BEGIN
    RETURN QUERY WITH seen AS MATERIALIZED (
        SELECT DISTINCT s.id FROM schools s JOIN reach r ON r.tenant_id = in_tenant AND r.school_id = s.id
        WHERE s.tenant_id = in_tenant AND s.status <> 'closed' AND 'aggregates:internal' = ANY (r.scopes)
            AND r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid
            AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    ), opened AS MATERIALIZED (
        SELECT w.no FROM windows w
        WHERE w.tenant_id = in_tenant AND w.academic_year = in_year AND (w.state <> 'planned' OR w.opens_at <= at_instant)
    ), pinned AS MATERIALIZED (
        SELECT DISTINCT p.school_id, p.scheme_version_no FROM pins p JOIN opened o ON o.no = p.window_no
        WHERE p.tenant_id = in_tenant AND p.aspect_no = 0 AND p.school_id IN (SELECT id FROM seen)
    ), places AS MATERIALIZED (
        SELECT * FROM list_places(in_tenant, on_day)
    ), placed AS MATERIALIZED (
        SELECT DISTINCT p.scheme_version_no FROM places p WHERE p.expected IS NOT NULL
    ), counted AS MATERIALIZED (
        SELECT c.school_id, c.scheme_version_no, sum(c.n) AS judged,
            sum(c.n) FILTER (WHERE g.valid AND p.expected IS NULL) AS kept_out
        FROM cells c JOIN opened o ON o.no = c.window_no
        JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
        LEFT JOIN places p ON p.scheme_version_no = c.scheme_version_no AND p.grade_no = c.grade_no
        WHERE c.tenant_id = in_tenant AND c.aspect_no = 0 AND c.grade_no > 0 AND c.n > 0 AND c.school_id IN (SELECT id FROM seen)
            AND NOT EXISTS (SELECT 1 FROM subjects d WHERE d.tenant_id = in_tenant AND d.no = c.subject_no AND d.derived)
        GROUP BY 1, 2
    ), summed AS (
        SELECT s.id, COALESCE(sum(c.judged), 0)::bigint AS judged FROM seen s LEFT JOIN counted c ON c.school_id = s.id GROUP BY 1
    ), found AS (
        SELECT s.id, 'nobody-on-roll' AS obstacle, NULL::text AS scheme, NULL::smallint AS version, 0::bigint AS kept_out FROM seen s
        WHERE NOT EXISTS (
            SELECT 1 FROM enrolments e WHERE e.tenant_id = in_tenant AND e.school_id = s.id AND e.from_on <= on_day AND (e.to_on IS NULL OR e.to_on >= on_day)
        )
        UNION ALL
        SELECT s.id, 'not-collected', NULL, NULL, 0 FROM seen s WHERE NOT EXISTS (SELECT 1 FROM pinned p WHERE p.school_id = s.id)
        UNION ALL
        SELECT s.id, 'nothing-judged', NULL, NULL, 0 FROM summed s
        WHERE s.judged = 0 AND EXISTS (SELECT 1 FROM pinned p WHERE p.school_id = s.id)
        UNION ALL
        SELECT COALESCE(p.school_id, c.school_id), CASE WHEN v.expected_status = 'x' THEN 'standard-later' WHEN is_scaled THEN 'no-crosswalk' ELSE 'no-standard' END,
            m.code, v.version, COALESCE(c.judged, 0)::bigint
        FROM pinned p FULL JOIN counted c ON c.school_id = p.school_id AND c.scheme_version_no = p.scheme_version_no
        JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.no = COALESCE(p.scheme_version_no, c.scheme_version_no)
        JOIN schemes m ON m.tenant_id = in_tenant AND m.id = v.scheme_id
        WHERE v.no NOT IN (SELECT scheme_version_no FROM placed) AND NOT (m.template IS NOT NULL AND v.expected_status = 'z')
        UNION ALL
        SELECT c.school_id, 'not-mapped', m.code, v.version, c.kept_out::bigint FROM counted c
        JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.no = c.scheme_version_no JOIN schemes m ON m.tenant_id = in_tenant AND m.id = v.scheme_id
        WHERE c.kept_out > 0 AND v.no IN (SELECT scheme_version_no FROM placed)
    )
    SELECT s.id, s.judged, f.obstacle, f.scheme, f.version, COALESCE(f.kept_out, 0) FROM summed s LEFT JOIN found f ON f.id = s.id;
END $$
"""


def upgrade() -> None:
    run_each(
        READINESS,
        "COMMENT ON FUNCTION count_readiness IS 'By school where the caller holds aggregates:internal, what stops it from being aggregated, in counts'",
        "REVOKE ALL ON FUNCTION count_readiness FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION count_readiness TO markonce_app, markonce_operator",
    )
