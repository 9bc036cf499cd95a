"""A target that is sent again with a later time is confirmed: what was set before that time replaces it no more, in whatever order both arrive.

A grade and its goal are placed by one statement, since a page of judgements compares a thousand of them.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0086", "0085", None, None


FIND_PLACES = """
CREATE OR REPLACE FUNCTION find_places(in_tenant uuid, on_day date, of_versions smallint[], of_grades smallint[]) RETURNS TABLE (
    n bigint, band_no integer, expected boolean
) LANGUAGE plpgsql STABLE ROWS 2 SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY WITH scale AS (
        SELECT s.bands, array_position(s.bands, s.expected_from) AS expected_no, array_position(s.bands, s.higher_from) AS higher_no
        FROM common_scales s WHERE s.tenant_id = in_tenant AND s.from_on <= on_day ORDER BY s.from_on DESC, COALESCE(s.first_signed_at, s.signed_at) DESC LIMIT 1
    )
    SELECT a.n, b.band_no, CASE WHEN b.band_no IS NOT NULL THEN b.band_no >= k.expected_no WHEN t.is_statutory THEN g.expected END
    FROM scale k CROSS JOIN unnest(of_versions, of_grades) WITH ORDINALITY AS a (version_no, grade_no, n)
    JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = a.version_no AND g.no = a.grade_no AND g.valid
    JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.no = a.version_no
    JOIN schemes m ON m.tenant_id = in_tenant AND m.id = v.scheme_id
    LEFT JOIN LATERAL (
        SELECT c.id FROM crosswalks c WHERE c.tenant_id = in_tenant AND c.scheme_version_no = a.version_no AND c.from_on <= on_day
        ORDER BY c.from_on DESC, COALESCE(c.first_signed_at, c.signed_at) DESC LIMIT 1
    ) w ON true
    LEFT JOIN crosswalk_grades l ON l.tenant_id = in_tenant AND l.crosswalk_id = w.id AND l.grade_no = a.grade_no
    CROSS JOIN LATERAL (
        SELECT w.id IS NULL AND m.template IS NOT NULL AND NOT m.derived AND v.expected_status IS NULL AS is_statutory
    ) t
    CROSS JOIN LATERAL (
        SELECT CASE WHEN w.id IS NOT NULL THEN array_position(k.bands, l.band) WHEN NOT t.is_statutory THEN NULL
            WHEN v.higher_status IS NULL AND g.higher THEN COALESCE(k.higher_no, k.expected_no) WHEN g.expected THEN k.expected_no
            WHEN k.expected_no = 2 THEN 1 END AS band_no
    ) b;
END $$
"""
COMPARE = """
CREATE OR REPLACE FUNCTION compare_with_goal(
    in_tenant uuid, on_day date, of_version smallint, of_grade smallint, goal_version smallint, goal_grade smallint
) RETURNS text LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    difference integer;
BEGIN
    IF (of_version, of_grade) IS DISTINCT FROM (goal_version, goal_grade) THEN
        SELECT COALESCE(judged.band_no - goal.band_no, NULLIF(judged.expected::integer - goal.expected::integer, 0)) INTO difference
        FROM (
            SELECT array_agg(p.band_no ORDER BY p.n) AS bands, array_agg(p.expected ORDER BY p.n) AS standards, count(*) AS found
            FROM find_places(in_tenant, on_day, ARRAY[of_version, goal_version], ARRAY[of_grade, goal_grade]) p
        ) f
        CROSS JOIN LATERAL (SELECT f.bands[1] AS band_no, f.standards[1] AS expected) judged
        CROSS JOIN LATERAL (SELECT f.bands[2] AS band_no, f.standards[2] AS expected) goal
        WHERE f.found = 2;
    END IF;
    IF difference IS NULL AND of_version = goal_version THEN
        difference := (SELECT n.rank FROM grades n WHERE n.tenant_id = in_tenant AND n.scheme_version_no = of_version AND n.no = of_grade)
            - (SELECT n.rank FROM grades n WHERE n.tenant_id = in_tenant AND n.scheme_version_no = goal_version AND n.no = goal_grade);
    END IF;
    RETURN CASE sign(difference) WHEN 1 THEN 'above' WHEN 0 THEN 'on' WHEN -1 THEN 'below' END;
END $$
"""


def upgrade() -> None:
    run_each(
        "ALTER TABLE targets ADD COLUMN IF NOT EXISTS confirmed_at timestamptz",
        "ALTER TABLE target_history ADD COLUMN IF NOT EXISTS confirmed_at timestamptz",
        "COMMENT ON COLUMN targets.confirmed_at IS 'The latest time at which the same value was set again; null where there is none since recorded_at'",
        FIND_PLACES,
        "COMMENT ON FUNCTION find_places IS 'The bands of grades on the common scale in force on a day, and whether they are expected; no row without a"
        " scale. As list_places says it of all grades'",
        COMPARE,
    )
