"""Figures of aggregates and of target outcomes as of a day, and figures of one school by class: rows are counted for the query, as the owner.

Cells have the counts of now, of whole schools. So what stood on a day, or in a class, is counted anew, with the same rules, at schools where the
caller holds aggregates:internal.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0087", "0086", None, None

CALLER = "NULLIF(current_setting('markonce.caller', true), '')::uuid"
IN_FORCE = "r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())"
AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"
CATEGORIES = "year_group, sex, disadvantaged, eal, sen"


def list_of(alias: str, columns: str = CATEGORIES) -> str:
    """Returns columns with the alias of their relation."""
    return ", ".join(f"{alias}.{column}" for column in columns.split(", "))


FIND_ONLY_SCHOOL = f"""
CREATE OR REPLACE FUNCTION find_only_school() RETURNS uuid LANGUAGE sql STABLE {AS_OWNER} $$
    SELECT (array_agg(DISTINCT r.school_id))[1] FROM reach r JOIN grants g ON g.id = r.grant_id
    WHERE r.client_id = {CALLER} AND {IN_FORCE} AND r.scopes && ARRAY['aggregates:read', 'aggregates:internal']
    HAVING count(DISTINCT r.school_id) = 1 AND bool_and(g.target = 'school') AND bool_or('aggregates:internal' = ANY (r.scopes))
$$
"""

STOOD = "x.known_from < known_before AND x.known_until >= known_before"
KEY_OF_VALUE = """x.tenant_id = in_tenant AND x.academic_year = ANY (years) AND x.academic_year = e.academic_year AND x.pupil_id = e.pupil_id
                AND x.window_no = e.window_no AND x.subject_no = p.subject_no AND x.aspect_no = 0"""
COUNT_ROWS = f"""
CREATE OR REPLACE FUNCTION count_rows(
    in_tenant uuid, in_windows smallint[], of_schools uuid[], known_before timestamptz, by_class boolean
) RETURNS TABLE (
    academic_year smallint, window_no smallint, school_id uuid, subject_no smallint, apart boolean, year_group text, sex text, disadvantaged text,
    eal text, sen text, class_id uuid, class_code text, scheme_version_no smallint, grade_no smallint, parts smallint[], versions smallint[],
    grade_nos smallint[], n integer
) LANGUAGE plpgsql STABLE {AS_OWNER} $$
#variable_conflict use_column
DECLARE
    reached uuid[];
    years smallint[];
    members smallint[];
    wholes smallint[];
    places integer[];
    slots integer[];
    needed bigint[];
    outcomes smallint[];
BEGIN
    SELECT array_agg(DISTINCT r.school_id) INTO reached FROM reach r
    WHERE r.tenant_id = in_tenant AND r.client_id = {CALLER} AND {IN_FORCE} AND r.school_id = ANY (of_schools)
        AND 'aggregates:internal' = ANY (r.scopes) AND (NOT by_class OR r.school_id = find_only_school());
    SELECT array_agg(DISTINCT w.academic_year) INTO years FROM windows w WHERE w.tenant_id = in_tenant AND w.no = ANY (in_windows);
    SELECT array_agg(c.part_no), array_agg(c.subject_no), array_agg(c.place), array_agg(c.slot), array_agg(c.needed), array_agg(v.no)
        INTO members, wholes, places, slots, needed, outcomes
    FROM list_conjunctions(in_tenant) c
    JOIN subjects s ON s.tenant_id = in_tenant AND s.no = c.subject_no
    LEFT JOIN schemes m ON m.tenant_id = in_tenant AND m.code = s.code AND m.derived
    LEFT JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.scheme_id = m.id AND v.version = 1;
    RETURN QUERY WITH counted AS MATERIALIZED (
        SELECT c.*, w.census_on, EXISTS (
            SELECT 1 FROM discounts d
            WHERE d.tenant_id = in_tenant AND d.window_no = c.window_no AND d.pupil_id = c.pupil_id AND d.withdrawn_at IS NULL
        ) AS discounted
        FROM census c JOIN windows w ON w.tenant_id = in_tenant AND w.no = c.window_no
        WHERE c.tenant_id = in_tenant AND c.window_no = ANY (in_windows) AND c.school_id = ANY (reached)
    ), expected AS MATERIALIZED (
        SELECT c.*, k.id AS class_id, k.code AS class_code
        FROM counted c
        LEFT JOIN LATERAL (
            SELECT DISTINCT g.id, g.code FROM group_members m JOIN groups g ON g.tenant_id = in_tenant AND g.id = m.group_id
            WHERE by_class AND m.tenant_id = in_tenant AND m.pupil_id = c.pupil_id AND m.school_id = c.school_id
                AND m.from_on <= c.census_on AND COALESCE(m.to_on, 'infinity') >= c.census_on AND g.kind IN ('class', 'registration')
        ) k ON true
    ), judged AS MATERIALIZED (
        SELECT e.*, p.subject_no, a.apart, COALESCE(j.scheme_version_no, p.scheme_version_no) AS version_no,
            CASE WHEN j.status_code = 'left' OR (e.discounted AND NOT a.apart) THEN -1::smallint ELSE COALESCE(j.grade_no, 0::smallint) END AS grade
        FROM expected e
        JOIN pins p ON p.tenant_id = in_tenant AND p.window_no = e.window_no AND p.school_id = e.school_id AND p.aspect_no = 0
        LEFT JOIN LATERAL (
            SELECT x.scheme_version_no, x.grade_no, x.status_code FROM judgements x
            WHERE known_before IS NULL AND {KEY_OF_VALUE}
            UNION ALL
            SELECT x.scheme_version_no, x.grade_no, x.status_code FROM judgements_known x
            WHERE known_before IS NOT NULL AND {KEY_OF_VALUE} AND {STOOD}
        ) j ON true
        CROSS JOIN LATERAL unnest(CASE WHEN e.discounted THEN '{{f,t}}'::boolean[] ELSE '{{f}}' END) AS a (apart)
    ), combined AS (
        SELECT j.academic_year, j.window_no, j.school_id, c.whole, j.apart, {list_of("j")}, j.class_id, j.class_code, c.outcome,
            CASE WHEN bool_or(NOT COALESCE(g.eligible, j.grade >= 0)) THEN 1 WHEN NOT bool_and(COALESCE(g.valid, false)) THEN 2
                WHEN bool_and(COALESCE(g.higher, false)) THEN 5 WHEN bool_and(COALESCE(g.expected, false)) THEN 4 ELSE 3 END::smallint AS result,
            array_agg(c.member ORDER BY c.place) AS parts, array_agg(j.version_no ORDER BY c.place) AS versions,
            array_agg(j.grade ORDER BY c.place) AS grade_nos
        FROM unnest(members, wholes, places, slots, needed, outcomes) AS c (member, whole, place, slot, needed, outcome)
        JOIN judged j ON j.subject_no = c.member
        LEFT JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = j.version_no AND g.no = j.grade
        GROUP BY j.pupil_id, j.academic_year, j.window_no, j.school_id, c.whole, j.apart, {list_of("j")}, j.class_id, j.class_code, c.outcome, c.needed
        HAVING bit_or(1::bigint << c.slot) & c.needed = c.needed
    )
    SELECT j.academic_year, j.window_no, j.school_id, j.subject_no, j.apart, {list_of("j")}, j.class_id, j.class_code, j.version_no, j.grade,
        NULL::smallint[], NULL::smallint[], NULL::smallint[], count(*)::integer
    FROM judged j GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
    UNION ALL
    SELECT c.academic_year, c.window_no, c.school_id, c.whole, c.apart, {list_of("c")}, c.class_id, c.class_code, c.outcome, c.result,
        c.parts, c.versions, c.grade_nos, count(*)::integer
    FROM combined c GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17;
END $$
"""

OF_CONJUNCTION = "window_no, school_id, subject_no, apart, year_group, sex, disadvantaged, eal, sen"
MEASURED = (
    "eligible boolean, valid boolean, expected_of boolean, expected boolean, higher_of boolean, higher boolean, judged boolean"
)
MEASURE = f"""
CREATE OR REPLACE FUNCTION measure_counted_conjunctions(
    in_tenant uuid, in_windows smallint[], of_schools uuid[], on_day date, declared_only boolean, known_before timestamptz, by_class boolean
) RETURNS TABLE (
    window_no smallint, school_id uuid, subject_no smallint, apart boolean, year_group text, sex text, disadvantaged text, eal text, sen text,
    class_id uuid, class_code text, n integer, {MEASURED}
) LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY WITH places AS MATERIALIZED (
        SELECT * FROM list_places(in_tenant, on_day)
    ), scaled AS MATERIALIZED (
        SELECT p.scheme_version_no, bool_or(p.expected IS NOT NULL) AS has_expected, bool_or(p.higher IS NOT NULL) AS has_higher FROM places p GROUP BY 1
    ), parts_of AS MATERIALIZED (
        SELECT * FROM list_conjunctions(in_tenant) d WHERE d.declared OR NOT declared_only
    ), found AS MATERIALIZED (
        SELECT {list_of("c", OF_CONJUNCTION)}, NULL::uuid AS class_id, NULL::text AS class_code, c.parts, c.versions, c.grade_nos, c.n
        FROM conjunction_cells c
        WHERE known_before IS NULL AND NOT by_class AND c.tenant_id = in_tenant AND c.window_no = ANY (in_windows)
            AND c.school_id = ANY (of_schools) AND c.subject_no IN (SELECT d.subject_no FROM parts_of d)
        UNION ALL
        SELECT {list_of("c", OF_CONJUNCTION)}, c.class_id, c.class_code, c.parts, c.versions, c.grade_nos, c.n
        FROM count_rows(in_tenant, in_windows, of_schools, known_before, by_class) c
        WHERE (known_before IS NOT NULL OR by_class) AND c.parts IS NOT NULL AND c.subject_no IN (SELECT d.subject_no FROM parts_of d)
    ), tuples AS (
        SELECT DISTINCT f.subject_no, f.parts, f.versions, f.grade_nos FROM found f
    ), judged AS (
        SELECT t.*, d.slot, d.required, d.weight, COALESCE(g.eligible, u.grade_no >= 0) AS eligible, COALESCE(g.valid, false) AS valid, u.grade_no > 0 AS judged,
            CASE d.threshold WHEN 'higher' THEN p.higher ELSE p.expected END AS reached,
            CASE d.higher_threshold WHEN 'higher' THEN p.higher WHEN 'expected' THEN p.expected END AS reached_higher,
            CASE d.threshold WHEN 'higher' THEN s.has_higher ELSE s.has_expected END AS has_place,
            CASE d.higher_threshold WHEN 'higher' THEN s.has_higher WHEN 'expected' THEN s.has_expected END AS has_higher_place
        FROM tuples t CROSS JOIN LATERAL unnest(t.parts, t.versions, t.grade_nos) AS u (part_no, version_no, grade_no)
        JOIN parts_of d ON d.subject_no = t.subject_no AND d.part_no = u.part_no
        LEFT JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = u.version_no AND g.no = u.grade_no
        LEFT JOIN places p ON p.scheme_version_no = u.version_no AND p.grade_no = u.grade_no
        LEFT JOIN scaled s ON s.scheme_version_no = u.version_no
    ), slots AS (
        SELECT j.subject_no, j.parts, j.versions, j.grade_nos, j.slot, bool_or(j.required) AS required, max(j.weight) AS weight, bool_or(j.eligible) AS eligible,
            bool_or(j.valid) AS valid, bool_or(j.judged) AS judged, bool_or(COALESCE(j.reached, false)) AS reached,
            bool_or(COALESCE(j.reached_higher, false)) AS reached_higher,
            bool_and(CASE WHEN j.valid THEN j.reached IS NOT NULL ELSE COALESCE(j.has_place, false) END) AS placed,
            bool_and(CASE WHEN j.valid THEN j.reached_higher IS NOT NULL ELSE COALESCE(j.has_higher_place, false) END) AS higher_placed
        FROM judged j GROUP BY 1, 2, 3, 4, 5
    ), outcomes AS (
        SELECT s.subject_no, s.parts, s.versions, s.grade_nos, bool_and(s.eligible OR NOT s.required) AND bool_or(s.eligible) AS eligible,
            bool_and(s.valid OR NOT s.required) AND COALESCE(sum(s.weight) FILTER (WHERE s.valid), 0) >= COALESCE(max(w.least_weight), 1) AS valid,
            bool_and(s.judged OR NOT s.required) AND bool_or(s.judged) AS judged, bool_and(s.placed) AS placed, bool_and(s.higher_placed) AS higher_placed,
            bool_and(s.reached OR NOT s.required) AND COALESCE(sum(s.weight) FILTER (WHERE s.reached), 0) >= COALESCE(max(w.least_weight), 1) AS reached,
            bool_and(s.reached_higher OR NOT s.required)
                AND COALESCE(sum(s.weight) FILTER (WHERE s.reached_higher), 0) >= COALESCE(max(w.least_weight), 1) AS reached_higher
        FROM slots s JOIN subjects w ON w.tenant_id = in_tenant AND w.no = s.subject_no GROUP BY 1, 2, 3, 4
    )
    SELECT {list_of("f", OF_CONJUNCTION)}, f.class_id, f.class_code, f.n, o.eligible, o.eligible AND o.valid,
        o.eligible AND o.placed, o.eligible AND o.placed AND o.valid AND o.reached, o.eligible AND o.higher_placed,
        o.eligible AND o.higher_placed AND o.valid AND o.reached_higher, o.judged
    FROM found f JOIN outcomes o USING (subject_no, parts, versions, grade_nos);
END $$
"""
MEASURE_NOW = f"""
CREATE OR REPLACE FUNCTION measure_conjunctions(in_tenant uuid, in_windows smallint[], of_schools uuid[], on_day date, declared_only boolean)
RETURNS TABLE (
    window_no smallint, school_id uuid, subject_no smallint, apart boolean, year_group text, sex text, disadvantaged text, eal text, sen text,
    n integer, {MEASURED}
) LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT {list_of("m", OF_CONJUNCTION)}, m.n, m.eligible, m.valid, m.expected_of, m.expected, m.higher_of, m.higher, m.judged
    FROM measure_counted_conjunctions(in_tenant, in_windows, of_schools, on_day, declared_only, NULL, false) m;
END $$
"""

COUNTS = ("eligible", "above", "on_target", "below", "no_target", "not_comparable", "not_judged")
OUTCOMES = ", ".join(f"{name} integer" for name in COUNTS)
KEY_OF_JUDGEMENT = """x.tenant_id = in_tenant AND x.academic_year = c.academic_year
                AND x.pupil_id = c.pupil_id AND x.window_no = of_window AND x.subject_no = n.subject_no AND x.aspect_no = n.aspect_no
                AND x.grade_no IS NOT NULL"""
KEY_OF_TARGET = """x.tenant_id = in_tenant AND x.pupil_id = c.pupil_id
                        AND x.subject_no = n.subject_no AND x.aspect_no = n.aspect_no"""
OF_TARGET = "x.id, x.version, x.horizon_year, x.horizon_point, x.scheme_version_no, x.grade_no, x.recorded_at"
STOOD_THEN = "x.known_from < w.ended_at AND x.known_until >= w.ended_at"
TARGET_OUTCOMES_ON = f"""
CREATE OR REPLACE FUNCTION school_target_outcomes_on(in_tenant uuid, of_window smallint, of_school uuid, on_day date) RETURNS TABLE (
    subject_no smallint, aspect_no smallint, {OUTCOMES}
) LANGUAGE sql STABLE COST 100000 ROWS 10 {AS_OWNER} $$
    WITH w AS MATERIALIZED (
        SELECT census_on, ended_at, CASE WHEN ended_at IS NULL OR closing < ended_at THEN closing END AS closed_at FROM (
            SELECT census_on, COALESCE(closed_at, closes_at) AS closing, (on_day + 1)::timestamp AT TIME ZONE 'Europe/London' AS ended_at
            FROM windows WHERE tenant_id = in_tenant AND no = of_window AND EXISTS (
                SELECT 1 FROM reach r WHERE r.client_id = {CALLER} AND r.tenant_id = in_tenant
                    AND r.school_id = of_school AND 'aggregates:internal' = ANY (r.scopes) AND {IN_FORCE}
            )
        ) of_window
    ), pairs AS MATERIALIZED (
        SELECT n.subject_no, n.aspect_no, j.scheme_version_no, j.grade_no, t.version_no AS goal_version, t.grade_no AS goal_grade, count(*)::integer AS n
        FROM w
        JOIN census c ON c.tenant_id = in_tenant AND c.window_no = of_window AND c.school_id = of_school
        JOIN pins n ON n.tenant_id = in_tenant AND n.window_no = of_window AND n.school_id = of_school
        LEFT JOIN LATERAL (
            SELECT x.scheme_version_no, x.grade_no FROM judgements x WHERE on_day IS NULL AND {KEY_OF_JUDGEMENT}
            UNION ALL
            SELECT x.scheme_version_no, x.grade_no FROM judgements_known x WHERE on_day IS NOT NULL AND {KEY_OF_JUDGEMENT} AND {STOOD_THEN}
            LIMIT 1
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
                FROM (
                    SELECT {OF_TARGET} FROM targets x WHERE on_day IS NULL AND {KEY_OF_TARGET}
                    UNION ALL
                    SELECT {OF_TARGET} FROM targets_known x WHERE on_day IS NOT NULL AND {KEY_OF_TARGET} AND {STOOD_THEN}
                ) g CROSS JOIN LATERAL (SELECT COALESCE(g.recorded_at > w.closed_at, false) AS yes) late
                LEFT JOIN LATERAL (
                    SELECT f.scheme_version_no, f.grade_no, f.recorded_at FROM target_history f
                    WHERE late.yes AND f.tenant_id = in_tenant AND f.id = g.id AND f.version < g.version AND f.recorded_at <= w.closed_at
                    ORDER BY f.version DESC LIMIT 1
                ) h ON true
            ) s WHERE s.version_no IS NOT NULL AND s.horizon_on >= w.census_on
            ORDER BY s.horizon_on, s.version_no IS DISTINCT FROM j.scheme_version_no, s.recorded_at DESC, s.id LIMIT 1
        ) t ON j.grade_no IS NOT NULL
        GROUP BY 1, 2, 3, 4, 5, 6
    ), outcomes AS (
        SELECT p.subject_no, p.aspect_no, p.n, CASE WHEN p.grade_no IS NULL THEN 'not judged' WHEN p.goal_version IS NULL THEN 'no target'
            ELSE COALESCE(compare_with_goal(
                in_tenant, COALESCE(on_day, (now() AT TIME ZONE 'Europe/London')::date), p.scheme_version_no, p.grade_no, p.goal_version, p.goal_grade
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
TARGET_OUTCOMES_NOW = f"""
CREATE OR REPLACE FUNCTION school_target_outcomes(in_tenant uuid, of_window smallint, of_school uuid) RETURNS TABLE (
    subject_no smallint, aspect_no smallint, {OUTCOMES}
) LANGUAGE sql STABLE COST 100000 ROWS 10 {AS_OWNER} $$
    SELECT * FROM school_target_outcomes_on(in_tenant, of_window, of_school, NULL)
$$
"""
# the days on which anything may have stood: a statement picks one of them before it counts
VIEW_KNOWN = f"""
CREATE OR REPLACE VIEW target_outcomes_known WITH (security_invoker = true) AS
SELECT p.tenant_id, p.window_no, p.school_id, f.subject_no, f.aspect_no, {", ".join(f"f.{name}" for name in COUNTS)},
    w.state, w.opens_at, w.closes_at, d.day::date AS known_on
FROM (SELECT DISTINCT n.tenant_id, n.window_no, n.school_id FROM pins n) p
JOIN windows w ON w.tenant_id = p.tenant_id AND w.no = p.window_no
CROSS JOIN generate_series('2016-09-01'::timestamp, now()::timestamp + interval '20 years', interval '1 day') AS d (day)
CROSS JOIN LATERAL school_target_outcomes_on(p.tenant_id, p.window_no, p.school_id, d.day::date) f
"""


ON_DAY = "school_target_outcomes_on(uuid, smallint, uuid, date)"
AS_OWNER_ONLY = ("find_only_school()", "count_rows(uuid, smallint[], uuid[], timestamptz, boolean)", ON_DAY)


def upgrade() -> None:
    run_each(
        *(FIND_ONLY_SCHOOL, COUNT_ROWS, MEASURE, MEASURE_NOW, TARGET_OUTCOMES_ON, TARGET_OUTCOMES_NOW, VIEW_KNOWN),
        *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in AS_OWNER_ONLY),
        *(f"GRANT EXECUTE ON FUNCTION {name} TO markonce_app, markonce_operator" for name in AS_OWNER_ONLY),
        "REVOKE ALL ON target_outcomes_known FROM PUBLIC",
        "GRANT SELECT ON target_outcomes_known TO markonce_app, markonce_operator",
    )
