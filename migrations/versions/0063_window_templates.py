"""Windows know the statutory collection that they are made from, their season and their audience."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0063", "0062", None, None


FUNCTION = """
CREATE OR REPLACE FUNCTION collections_beyond_budget(in_tenant uuid, of_pupil uuid, in_year smallint) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER COST 10000 SET search_path = public, pg_temp AS $$
    SELECT GREATEST(COALESCE(sum(point.n), 0) - (SELECT workload_budget FROM tenants WHERE id = in_tenant), 0)::integer
    FROM (
        SELECT max(collected.n) AS n FROM (
            SELECT COALESCE(w.season, CASE WHEN extract(month FROM w.census_on) >= 9 THEN 'autumn'
                WHEN w.census_on <= make_date(extract(year FROM w.census_on)::int, 4, 15) THEN 'spring' ELSE 'summer' END) AS season, count(*) AS n
            FROM census c JOIN windows w ON w.tenant_id = in_tenant AND w.no = c.window_no AND NOT w.statutory
            JOIN pins p ON p.tenant_id = in_tenant AND p.window_no = c.window_no AND p.school_id = c.school_id
            WHERE c.tenant_id = in_tenant AND c.pupil_id = of_pupil AND c.academic_year = in_year
            GROUP BY 1, p.subject_no, p.aspect_no
        ) collected GROUP BY collected.season
    ) point
    WHERE EXISTS (
        SELECT 1 FROM reach r WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
            AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    )
$$
"""


def upgrade() -> None:
    run_each(
        "ALTER TABLE windows ADD COLUMN IF NOT EXISTS template text, ADD COLUMN IF NOT EXISTS season text, ADD COLUMN IF NOT EXISTS audience text,"
        " ADD COLUMN IF NOT EXISTS source text",
        "COMMENT ON COLUMN windows.template IS 'The statutory collection that it is made from; null where it is none, and of what older programs made'",
        "COMMENT ON COLUMN windows.season IS 'autumn, spring or summer; null of what older programs made: that of the census day'",
        "COMMENT ON COLUMN windows.source IS 'What the statutory collection is required by'",
        FUNCTION,
        "COMMENT ON FUNCTION collections_beyond_budget IS 'By how many collection points a pupil is assessed beyond the workload budget in an academic year,"
        " at all schools of the tenant together: after a move it may be more than at any one of them. Nothing is refused for it'",
        "REVOKE ALL ON FUNCTION collections_beyond_budget FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION collections_beyond_budget TO markonce_app, markonce_operator",
    )
