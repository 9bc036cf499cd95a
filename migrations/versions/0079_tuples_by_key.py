"""A count of a tuple of a conjunction is changed by the key of its cell.

It was joined to the cells of the tenant, which the planner did by reading all of them, twice a write, in a database of fewer than 14,000.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0079", "0078", None, None

KEY = (
    "tenant_id, window_no, school_id, subject_no, aspect_no, year_group, sex, disadvantaged, eal, sen, scheme_version_no, grade_no"
)
GRAIN = KEY.replace("tenant_id,", "tenant_id, academic_year,")
TUPLE_KEY = (
    "tenant_id, window_no, school_id, subject_no, apart, year_group, sex, disadvantaged, eal, sen, parts, versions, grade_nos"
)
TUPLE_GRAIN = TUPLE_KEY.replace("tenant_id,", "tenant_id, academic_year,")
SAME = " AND ".join(f"c.{name} = t.{name}" for name in TUPLE_KEY.split(", "))
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
        SELECT t.*, c.row_id, COALESCE(c.n, 0) + t.n AS sum FROM (
            SELECT {TUPLE_GRAIN}, (COALESCE(sign, 1) * sum(n))::integer AS n
            FROM listed WHERE parts IS NOT NULL GROUP BY {TUPLE_GRAIN} HAVING sum(n) <> 0
        ) t LEFT JOIN LATERAL (SELECT c.ctid AS row_id, c.n FROM conjunction_cells c WHERE {SAME} LIMIT 1) c ON true
    ), emptied AS (
        DELETE FROM conjunction_cells WHERE ctid = ANY (ARRAY(SELECT row_id FROM combined WHERE sum = 0))
    ), combined_kept AS (
        INSERT INTO conjunction_cells AS c ({TUPLE_GRAIN}, n) SELECT {TUPLE_GRAIN}, n FROM combined WHERE sum <> 0
        ON CONFLICT ({TUPLE_KEY}) DO UPDATE SET n = c.n + excluded.n
    ), summed AS (
        INSERT INTO totals AS t (tenant_id, academic_year, window_no, school_id, subject_no, aspect_no, eligible, valid, expected, higher, valued, value_sum)
        SELECT c.tenant_id, c.academic_year, c.window_no, c.school_id, c.subject_no, c.aspect_no,
            COALESCE(sum(n) FILTER (WHERE COALESCE(g.eligible, c.grade_no >= 0)), 0), COALESCE(sum(n) FILTER (WHERE g.valid), 0),
            COALESCE(sum(n) FILTER (WHERE g.expected), 0), COALESCE(sum(n) FILTER (WHERE g.higher), 0),
            COALESCE(sum(n) FILTER (WHERE g.valid AND g.value IS NOT NULL), 0), COALESCE(sum(n * g.value) FILTER (WHERE g.valid), 0)
        FROM counted c LEFT JOIN grades g ON g.tenant_id = c.tenant_id AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
        GROUP BY c.tenant_id, c.academic_year, c.window_no, c.school_id, c.subject_no, c.aspect_no
        ON CONFLICT (tenant_id, window_no, school_id, subject_no, aspect_no) DO UPDATE SET eligible = t.eligible + excluded.eligible,
            valid = t.valid + excluded.valid, expected = t.expected + excluded.expected, higher = t.higher + excluded.higher,
            valued = t.valued + excluded.valued, value_sum = t.value_sum + excluded.value_sum
    )
    SELECT p, w FROM unnest(of_pupils) p CROSS JOIN unnest(in_windows) w
    WHERE NOT EXISTS (SELECT 1 FROM listed l WHERE l.pupil_id = p AND l.window_no = w);
END $$
"""


def upgrade() -> None:
    run_each(COUNT)
