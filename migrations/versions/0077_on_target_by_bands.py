"""Who is on target is told by the bands of the common scale where the trust has one, and by rank inside one scheme version where it has none."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0077", "0076", None, None

FIND_PLACE = """
CREATE OR REPLACE FUNCTION find_place(in_tenant uuid, on_day date, of_version smallint, of_grade smallint, OUT band_no integer, OUT expected boolean)
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    scale common_scales;
    walk uuid;
    g record;
BEGIN
    SELECT s.* INTO scale FROM common_scales s WHERE s.tenant_id = in_tenant AND s.id = find_scale(in_tenant, on_day);
    SELECT n.expected, n.higher, v.expected_status, v.higher_status, m.template IS NOT NULL AND NOT m.derived AS is_statutory INTO g
    FROM grades n JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.no = of_version JOIN schemes m ON m.tenant_id = in_tenant AND m.id = v.scheme_id
    WHERE n.tenant_id = in_tenant AND n.scheme_version_no = of_version AND n.no = of_grade AND n.valid;
    IF NOT FOUND OR scale.id IS NULL THEN
        RETURN;
    END IF;
    SELECT c.id INTO walk FROM crosswalks c
    WHERE c.tenant_id = in_tenant AND c.scheme_version_no = of_version AND c.from_on <= on_day ORDER BY c.from_on DESC, c.signed_at DESC LIMIT 1;
    IF walk IS NOT NULL THEN
        band_no := array_position(scale.bands, (
            SELECT l.band FROM crosswalk_grades l WHERE l.tenant_id = in_tenant AND l.crosswalk_id = walk AND l.grade_no = of_grade
        ));
    ELSIF g.is_statutory AND g.expected_status IS NULL THEN
        expected := g.expected;
        band_no := CASE WHEN g.higher_status IS NULL AND g.higher THEN COALESCE(array_position(scale.bands, scale.higher_from), array_position(scale.bands, scale.expected_from))
            WHEN g.expected THEN array_position(scale.bands, scale.expected_from) WHEN array_position(scale.bands, scale.expected_from) = 2 THEN 1 END;
    END IF;
    IF band_no IS NOT NULL THEN
        expected := band_no >= array_position(scale.bands, scale.expected_from);
    END IF;
END $$
"""
COMPARE = """
CREATE OR REPLACE FUNCTION compare_with_goal(
    in_tenant uuid, on_day date, of_version smallint, of_grade smallint, goal_version smallint, goal_grade smallint
) RETURNS text LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    judged record;
    goal record;
    difference integer;
BEGIN
    IF (of_version, of_grade) IS DISTINCT FROM (goal_version, goal_grade) AND find_scale(in_tenant, on_day) IS NOT NULL THEN
        SELECT * INTO judged FROM find_place(in_tenant, on_day, of_version, of_grade);
        SELECT * INTO goal FROM find_place(in_tenant, on_day, goal_version, goal_grade);
        difference := COALESCE(judged.band_no - goal.band_no, NULLIF(judged.expected::integer - goal.expected::integer, 0));
    END IF;
    IF difference IS NULL AND of_version = goal_version THEN
        difference := (SELECT n.rank FROM grades n WHERE n.tenant_id = in_tenant AND n.scheme_version_no = of_version AND n.no = of_grade)
            - (SELECT n.rank FROM grades n WHERE n.tenant_id = in_tenant AND n.scheme_version_no = goal_version AND n.no = goal_grade);
    END IF;
    RETURN CASE sign(difference) WHEN 1 THEN 'above' WHEN 0 THEN 'on' WHEN -1 THEN 'below' END;
END $$
"""
OUTCOMES = """
CREATE OR REPLACE FUNCTION school_target_outcomes(in_tenant uuid, of_window smallint, of_school uuid) RETURNS TABLE (
    subject_no smallint, aspect_no smallint, eligible integer, above integer, on_target integer, below integer, no_target integer,
    not_comparable integer, not_judged integer
) LANGUAGE sql STABLE SECURITY DEFINER ROWS 10 COST 100000 SET search_path = public, pg_temp AS $$
    WITH w AS MATERIALIZED (
        SELECT census_on, COALESCE(closed_at, closes_at) AS closed_at FROM windows WHERE tenant_id = in_tenant AND no = of_window AND EXISTS (
            SELECT 1 FROM reach r WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
                AND r.school_id = of_school AND 'aggregates:internal' = ANY (r.scopes) AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
        )
    ), pairs AS MATERIALIZED (
        SELECT n.subject_no, n.aspect_no, j.scheme_version_no, j.grade_no, t.version_no AS goal_version, t.grade_no AS goal_grade, count(*)::integer AS n
        FROM w
        JOIN census c ON c.tenant_id = in_tenant AND c.window_no = of_window AND c.school_id = of_school
        JOIN pins n ON n.tenant_id = in_tenant AND n.window_no = of_window AND n.school_id = of_school
        LEFT JOIN LATERAL (
            SELECT x.scheme_version_no, x.grade_no FROM judgements x WHERE x.tenant_id = in_tenant AND x.academic_year = c.academic_year
                AND x.pupil_id = c.pupil_id AND x.window_no = of_window AND x.subject_no = n.subject_no AND x.aspect_no = n.aspect_no
                AND x.grade_no IS NOT NULL LIMIT 1
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
        ) t ON j.grade_no IS NOT NULL
        GROUP BY 1, 2, 3, 4, 5, 6
    ), outcomes AS (
        SELECT p.subject_no, p.aspect_no, p.n, CASE WHEN p.grade_no IS NULL THEN 'not judged' WHEN p.goal_version IS NULL THEN 'no target'
            ELSE COALESCE(compare_with_goal(
                in_tenant, (now() AT TIME ZONE 'Europe/London')::date, p.scheme_version_no, p.grade_no, p.goal_version, p.goal_grade
            ), 'not comparable') END AS outcome
        FROM pairs p
    )
    SELECT o.subject_no, o.aspect_no, sum(o.n)::integer, COALESCE(sum(o.n) FILTER (WHERE outcome = 'above'), 0)::integer,
        COALESCE(sum(o.n) FILTER (WHERE outcome = 'on'), 0)::integer, COALESCE(sum(o.n) FILTER (WHERE outcome = 'below'), 0)::integer,
        COALESCE(sum(o.n) FILTER (WHERE outcome = 'no target'), 0)::integer,
        COALESCE(sum(o.n) FILTER (WHERE outcome = 'not comparable'), 0)::integer,
        COALESCE(sum(o.n) FILTER (WHERE outcome = 'not judged'), 0)::integer
    FROM outcomes o GROUP BY o.subject_no, o.aspect_no
$$
"""


def upgrade() -> None:
    run_each(
        FIND_PLACE,
        "COMMENT ON FUNCTION find_place IS 'The band of one grade on the common scale in force on a day, and whether it is expected; both null without a"
        " scale. As list_places says it of all grades'",
        COMPARE,
        "COMMENT ON FUNCTION compare_with_goal IS 'Whether a grade is above, on or below a goal: by the bands of the common scale in force on a day, else by"
        " rank inside one scheme version; null where neither tells'",
        OUTCOMES,
    )
