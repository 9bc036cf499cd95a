"""A conjunction's cells count the tuples of its parts (scheme version and grade), and a conjunction of a trust's own may be declared.

What a grade counts for may change when a trust signs another scale, and a tuple tells its outcome by any scale without a recount. The outcome by the
grades' own standards never changes, since a version of a scheme never does: it stays in `cells`, which programs before this one read, and servers
where no scale is signed.
"""

from migrations.steps import protect_table, run_each

revision, down_revision, branch_labels, depends_on = "0061", "0060", None, None

KEY = (
    "tenant_id, window_no, school_id, subject_no, aspect_no, year_group, sex, disadvantaged, eal, sen, scheme_version_no, grade_no"
)
GRAIN = KEY.replace("tenant_id,", "tenant_id, academic_year,")
TUPLE_KEY = (
    "tenant_id, window_no, school_id, subject_no, apart, year_group, sex, disadvantaged, eal, sen, parts, versions, grade_nos"
)
TUPLE_GRAIN = TUPLE_KEY.replace("tenant_id,", "tenant_id, academic_year,")
SAME = " AND ".join(f"c.{name} = t.{name}" for name in TUPLE_KEY.split(", "))
SUMMED = """SELECT c.tenant_id, c.academic_year, c.window_no, c.school_id, c.subject_no, c.aspect_no,
    COALESCE(sum(n) FILTER (WHERE COALESCE(g.eligible, c.grade_no >= 0)), 0), COALESCE(sum(n) FILTER (WHERE g.valid), 0),
    COALESCE(sum(n) FILTER (WHERE g.expected), 0), COALESCE(sum(n) FILTER (WHERE g.higher), 0),
    COALESCE(sum(n) FILTER (WHERE g.valid AND g.value IS NOT NULL), 0), COALESCE(sum(n * g.value) FILTER (WHERE g.valid), 0)
    FROM counted c LEFT JOIN grades g ON g.tenant_id = c.tenant_id AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
    GROUP BY c.tenant_id, c.academic_year, c.window_no, c.school_id, c.subject_no, c.aspect_no"""
PARTS = """
CREATE TABLE IF NOT EXISTS conjunction_parts (
    tenant_id uuid NOT NULL, subject_no smallint NOT NULL, part_no smallint NOT NULL, slot smallint NOT NULL, threshold text NOT NULL,
    higher_threshold text, weight smallint NOT NULL, required boolean NOT NULL,
    PRIMARY KEY (tenant_id, subject_no, part_no),
    FOREIGN KEY (tenant_id, subject_no) REFERENCES subjects (tenant_id, no), FOREIGN KEY (tenant_id, part_no) REFERENCES subjects (tenant_id, no),
    CHECK (threshold IN ('expected', 'higher')), CHECK (higher_threshold IN ('expected', 'higher')), CHECK (slot BETWEEN 0 AND 39)
)
"""
CELLS = f"""
CREATE TABLE IF NOT EXISTS conjunction_cells (
    tenant_id uuid NOT NULL, academic_year smallint, window_no smallint NOT NULL, school_id uuid NOT NULL, subject_no smallint NOT NULL,
    apart boolean NOT NULL, year_group text NOT NULL, sex text NOT NULL, disadvantaged text NOT NULL, eal text NOT NULL, sen text NOT NULL,
    parts smallint[] NOT NULL, versions smallint[] NOT NULL, grade_nos smallint[] NOT NULL, n integer NOT NULL,
    PRIMARY KEY ({TUPLE_KEY})
)
"""
CONJUNCTIONS = """
CREATE OR REPLACE FUNCTION list_conjunctions(in_tenant uuid) RETURNS TABLE (
    subject_no smallint, part_no smallint, place integer, slot integer, needed bigint, threshold text, higher_threshold text, weight integer,
    required boolean, declared boolean
) LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT p.subject_no, p.part_no, (row_number() OVER (PARTITION BY p.subject_no ORDER BY p.slot, p.part_no))::integer, p.slot::integer,
        (SELECT COALESCE(bit_or(1::bigint << o.slot), 0) FROM conjunction_parts o
            WHERE o.tenant_id = in_tenant AND o.subject_no = p.subject_no AND o.required),
        p.threshold, p.higher_threshold, p.weight::integer, p.required, true
    FROM conjunction_parts p WHERE p.tenant_id = in_tenant
    UNION ALL
    SELECT s.no, part.no, u.place::integer, u.place::integer, (1::bigint << (cardinality(s.combined) + 1)) - 2, 'expected', 'higher', 1, true, false
    FROM (
        SELECT d.no, COALESCE(d.combines, CASE d.code WHEN 'rwm' THEN ARRAY['reading', 'writing', 'maths'] END) AS combined
        FROM subjects d WHERE d.tenant_id = in_tenant AND d.derived
            AND NOT EXISTS (SELECT 1 FROM conjunction_parts p WHERE p.tenant_id = in_tenant AND p.subject_no = d.no)
    ) s
    CROSS JOIN LATERAL unnest(s.combined) WITH ORDINALITY AS u (code, place)
    JOIN subjects part ON part.tenant_id = in_tenant AND part.code = u.code;
END $$
"""
COUNTS = """
CREATE OR REPLACE FUNCTION list_counts(in_tenant uuid, of_pupils uuid[], in_windows smallint[], and_before boolean) RETURNS TABLE(pupil_id uuid, apart boolean, tenant_id uuid, academic_year smallint, window_no smallint, school_id uuid, subject_no smallint, aspect_no smallint, year_group text, sex text, disadvantaged text, eal text, sen text, scheme_version_no smallint, grade_no smallint, n integer, parts smallint[], versions smallint[], grade_nos smallint[])
    LANGUAGE plpgsql STABLE
    SET search_path = public, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    years smallint[];
    aspects_counted smallint[];
    members smallint[];
    wholes smallint[];
    places integer[];
    slots integer[];
    needed bigint[];
    outcomes smallint[];
    has_discounts boolean;
BEGIN
    SELECT ARRAY(SELECT DISTINCT w.academic_year FROM windows w WHERE w.tenant_id = in_tenant AND w.no = ANY (in_windows)),
        ARRAY(SELECT a.no FROM aspects a WHERE a.tenant_id = in_tenant AND a.counted),
        EXISTS (SELECT 1 FROM discounts d WHERE d.tenant_id = in_tenant AND d.withdrawn_at IS NULL)
        INTO years, aspects_counted, has_discounts;
    SELECT array_agg(c.part_no), array_agg(c.subject_no), array_agg(c.place), array_agg(c.slot), array_agg(c.needed), array_agg(v.no)
        INTO members, wholes, places, slots, needed, outcomes
    FROM list_conjunctions(in_tenant) c
    JOIN subjects s ON s.tenant_id = in_tenant AND s.no = c.subject_no
    LEFT JOIN schemes m ON m.tenant_id = in_tenant AND m.code = s.code AND m.derived
    LEFT JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.scheme_id = m.id AND v.version = 1;
    RETURN QUERY WITH expected AS MATERIALIZED (
        SELECT c.*, has_discounts AND EXISTS (
            SELECT 1 FROM discounts d
            WHERE d.tenant_id = in_tenant AND d.window_no = c.window_no AND d.pupil_id = c.pupil_id AND d.withdrawn_at IS NULL
        ) AS discounted
        FROM census c WHERE c.tenant_id = in_tenant AND c.pupil_id = ANY (of_pupils) AND c.window_no = ANY (in_windows)
    ), held AS MATERIALIZED (
        SELECT e.*, p.subject_no, p.aspect_no, p.scheme_version_no AS pinned, j.scheme_version_no,
            CASE WHEN j.status_code = 'left' THEN -1::smallint ELSE j.grade_no END AS grade_no,
            CASE WHEN j.fresh THEN h.scheme_version_no ELSE j.scheme_version_no END AS scheme_version_no_before,
            CASE WHEN (CASE WHEN j.fresh THEN h.status_code ELSE j.status_code END) = 'left' THEN -1::smallint
                WHEN j.fresh THEN h.grade_no ELSE j.grade_no END AS grade_no_before
        FROM expected e
        JOIN pins p ON p.tenant_id = in_tenant AND p.window_no = e.window_no AND p.school_id = e.school_id AND p.aspect_no = ANY (aspects_counted)
        LEFT JOIN LATERAL (
            SELECT scheme_version_no, grade_no, status_code, version, xid = pg_current_xact_id() AS fresh
            FROM judgements
            WHERE tenant_id = in_tenant AND academic_year = ANY (years) AND academic_year = e.academic_year AND pupil_id = e.pupil_id
                AND window_no = e.window_no AND subject_no = p.subject_no AND aspect_no = p.aspect_no LIMIT 1
        ) j ON true
        LEFT JOIN LATERAL (
            SELECT scheme_version_no, grade_no, status_code FROM judgement_history
            WHERE and_before AND j.fresh AND tenant_id = in_tenant AND academic_year = ANY (years) AND academic_year = e.academic_year
                AND pupil_id = e.pupil_id AND window_no = e.window_no AND subject_no = p.subject_no AND aspect_no = p.aspect_no
                AND version = j.version - 1 LIMIT 1
        ) h ON true
    ), judged AS MATERIALIZED (
        SELECT h.*, t.n, COALESCE(t.version_no, h.pinned) AS in_version, a.apart,
            CASE WHEN h.discounted AND NOT a.apart THEN -1::smallint ELSE COALESCE(t.grade, 0::smallint) END AS grade
        FROM held h
        CROSS JOIN LATERAL (VALUES (1, scheme_version_no, grade_no), (-1, scheme_version_no_before, grade_no_before)) AS t (n, version_no, grade)
        CROSS JOIN LATERAL unnest(CASE WHEN h.discounted THEN '{f,t}'::boolean[] ELSE '{f}' END) AS a (apart)
        WHERE t.n = 1 OR and_before
    )
    SELECT j.pupil_id, j.apart, j.tenant_id, j.academic_year, j.window_no, j.school_id, j.subject_no, j.aspect_no, j.year_group, j.sex,
        j.disadvantaged, j.eal, j.sen, j.in_version, j.grade, j.n, NULL::smallint[], NULL::smallint[], NULL::smallint[]
    FROM judged j
    UNION ALL
    SELECT j.pupil_id, j.apart, j.tenant_id, j.academic_year, j.window_no, j.school_id, c.whole, 0::smallint, j.year_group, j.sex,
        j.disadvantaged, j.eal, j.sen, c.outcome,
        CASE WHEN bool_or(NOT COALESCE(g.eligible, j.grade >= 0)) THEN 1 WHEN NOT bool_and(COALESCE(g.valid, false)) THEN 2
            WHEN bool_and(COALESCE(g.higher, false)) THEN 5 WHEN bool_and(COALESCE(g.expected, false)) THEN 4 ELSE 3 END::smallint, j.n,
        array_agg(c.member ORDER BY c.place), array_agg(j.in_version ORDER BY c.place), array_agg(j.grade ORDER BY c.place)
    FROM unnest(members, wholes, places, slots, needed, outcomes) AS c (member, whole, place, slot, needed, outcome)
    JOIN judged j ON j.subject_no = c.member AND j.aspect_no = 0
    LEFT JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = j.in_version AND g.no = j.grade
    GROUP BY j.pupil_id, j.apart, j.tenant_id, j.academic_year, j.window_no, j.school_id, j.year_group, j.sex, j.disadvantaged, j.eal, j.sen, j.n,
        c.whole, c.outcome, c.needed
    HAVING bit_or(1::bigint << c.slot) & c.needed = c.needed;
END $$
"""
COUNT = f"""
CREATE OR REPLACE FUNCTION count_contributions(in_tenant uuid, of_pupils uuid[], in_windows smallint[], sign integer DEFAULT NULL::integer) RETURNS TABLE(pupil_id uuid, window_no smallint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN QUERY WITH listed AS MATERIALIZED (
        SELECT * FROM list_counts(in_tenant, of_pupils, in_windows, sign IS NULL)
    ), counted AS MATERIALIZED (
        SELECT {GRAIN}, (COALESCE(sign, 1) * sum(n))::integer AS n FROM listed WHERE NOT apart AND scheme_version_no IS NOT NULL GROUP BY {GRAIN} HAVING sum(n) <> 0
    ), kept AS (
        INSERT INTO cells ({GRAIN}, n) SELECT {GRAIN}, n FROM counted ON CONFLICT ({KEY}) DO UPDATE SET n = cells.n + excluded.n
    ), kept_apart AS (
        INSERT INTO discounted_cells AS a ({GRAIN}, n)
        SELECT {GRAIN}, (COALESCE(sign, 1) * sum(n))::integer FROM listed WHERE apart AND scheme_version_no IS NOT NULL GROUP BY {GRAIN} HAVING sum(n) <> 0
        ON CONFLICT ({KEY}) DO UPDATE SET n = a.n + excluded.n
    ), combined AS MATERIALIZED (
        SELECT {TUPLE_GRAIN}, (COALESCE(sign, 1) * sum(n))::integer AS n
        FROM listed WHERE parts IS NOT NULL GROUP BY {TUPLE_GRAIN} HAVING sum(n) <> 0
    ), emptied AS (
        DELETE FROM conjunction_cells c USING combined t
        WHERE {SAME}
            AND t.n < 0 AND c.n + t.n = 0
    ), lowered AS (
        UPDATE conjunction_cells c SET n = c.n + t.n FROM combined t
        WHERE {SAME}
            AND t.n < 0 AND c.n + t.n <> 0
    ), raised AS (
        INSERT INTO conjunction_cells AS c ({TUPLE_GRAIN}, n) SELECT {TUPLE_GRAIN}, n FROM combined WHERE n > 0
        ON CONFLICT ({TUPLE_KEY}) DO UPDATE SET n = c.n + excluded.n
    ), summed AS (
        INSERT INTO totals AS t (tenant_id, academic_year, window_no, school_id, subject_no, aspect_no, eligible, valid, expected, higher, valued, value_sum)
{SUMMED}
        ON CONFLICT (tenant_id, window_no, school_id, subject_no, aspect_no) DO UPDATE SET eligible = t.eligible + excluded.eligible,
            valid = t.valid + excluded.valid, expected = t.expected + excluded.expected, higher = t.higher + excluded.higher,
            valued = t.valued + excluded.valued, value_sum = t.value_sum + excluded.value_sum
    )
    SELECT p, w FROM unnest(of_pupils) p CROSS JOIN unnest(in_windows) w
    WHERE NOT EXISTS (SELECT 1 FROM listed l WHERE l.pupil_id = p AND l.window_no = w);
END $$
"""
REBUILD = f"""
CREATE OR REPLACE FUNCTION rebuild_cells(in_tenant uuid, of_schools uuid[], in_windows smallint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp
    AS $$
DECLARE
    of_pupils uuid[];
BEGIN
    PERFORM acts_in(in_tenant);
    DELETE FROM cells c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    DELETE FROM discounted_cells c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    DELETE FROM totals c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    DELETE FROM conjunction_cells c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    of_pupils := ARRAY(SELECT DISTINCT e.pupil_id FROM enrolments e WHERE e.tenant_id = in_tenant AND e.school_id = ANY (of_schools));
    WITH listed AS MATERIALIZED (
        SELECT * FROM list_counts(in_tenant, of_pupils, in_windows, false) c WHERE c.school_id = ANY (of_schools)
    ), counted AS (
        INSERT INTO cells ({GRAIN}, n) SELECT {GRAIN}, sum(n) FROM listed WHERE NOT apart AND scheme_version_no IS NOT NULL GROUP BY {GRAIN}
        RETURNING *
    ), kept_apart AS (
        INSERT INTO discounted_cells ({GRAIN}, n) SELECT {GRAIN}, sum(n) FROM listed WHERE apart AND scheme_version_no IS NOT NULL GROUP BY {GRAIN}
    ), combined AS (
        INSERT INTO conjunction_cells ({TUPLE_GRAIN}, n) SELECT {TUPLE_GRAIN}, sum(n) FROM listed WHERE parts IS NOT NULL GROUP BY {TUPLE_GRAIN}
    )
    INSERT INTO totals (tenant_id, academic_year, window_no, school_id, subject_no, aspect_no, eligible, valid, expected, higher, valued, value_sum)
{SUMMED}
;
END $$
"""
DELETE = """
CREATE OR REPLACE FUNCTION delete_window(in_tenant uuid, in_window smallint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp
    AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    IF EXISTS (SELECT 1 FROM judgements j WHERE j.tenant_id = in_tenant AND j.window_no = in_window)
        OR EXISTS (SELECT 1 FROM judgement_history j WHERE j.tenant_id = in_tenant AND j.window_no = in_window) THEN
        RETURN false;
    END IF;
    DELETE FROM cells c WHERE c.tenant_id = in_tenant AND c.window_no = in_window;
    DELETE FROM discounted_cells c WHERE c.tenant_id = in_tenant AND c.window_no = in_window;
    DELETE FROM conjunction_cells c WHERE c.tenant_id = in_tenant AND c.window_no = in_window;
    DELETE FROM totals t WHERE t.tenant_id = in_tenant AND t.window_no = in_window;
    UPDATE receipts r SET window_no = NULL WHERE r.tenant_id = in_tenant AND r.window_no = in_window;
    DELETE FROM windows w WHERE w.tenant_id = in_tenant AND w.no = in_window;
    RETURN true;
END $$
"""
FILL = """
DO $$
DECLARE
    at record;
BEGIN
    FOR at IN SELECT v.tenant_id, v.school_id FROM school_versions v WHERE EXISTS (SELECT 1 FROM windows w WHERE w.tenant_id = v.tenant_id)
            AND EXISTS (SELECT 1 FROM subjects s WHERE s.tenant_id = v.tenant_id AND s.derived) ORDER BY 1, 2 LOOP
        PERFORM 1 FROM school_versions v WHERE v.tenant_id = at.tenant_id AND v.school_id = at.school_id FOR UPDATE;
        PERFORM rebuild_cells(at.tenant_id, ARRAY[at.school_id], ARRAY(SELECT w.no FROM windows w WHERE w.tenant_id = at.tenant_id));
        COMMIT;
    END LOOP;
END $$
"""


def upgrade() -> None:
    run_each(
        PARTS,
        CELLS,
        "COMMENT ON TABLE conjunction_cells IS 'Counts of pupils by the scheme version and grade of each part of a conjunction'",
        "ALTER TABLE subjects ADD COLUMN IF NOT EXISTS least_weight smallint",
        CONJUNCTIONS,
        "REVOKE ALL ON FUNCTION list_conjunctions FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION list_conjunctions TO markonce_app, markonce_operator",
    )
    protect_table("conjunction_parts", rows_of="tenant")
    protect_table("conjunction_cells", rows_of="school")
    run_each(
        "REVOKE INSERT, UPDATE, DELETE ON conjunction_cells FROM markonce_app",
        COUNTS,
        "REVOKE ALL ON FUNCTION list_counts FROM PUBLIC",
        COUNT,
        REBUILD,
        DELETE,
        FILL,
    )
