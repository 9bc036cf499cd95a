"""Who counts: the status `left` leaves the denominator, as a grade that is not eligible does, and so does a pupil who is discounted.

In cells, grade -1 is a pupil who is not eligible. What the discounted would add is counted apart, in `discounted_cells`, so that internal readers see both
figures. `count_contributions` also says which of the pupils count in none of the windows.
"""

from alembic import op

from migrations.steps import run_each

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

KEY = (
    "tenant_id, window_no, school_id, subject_no, aspect_no, year_group, sex, disadvantaged, eal, sen, scheme_version_no, grade_no"
)
GRAIN = KEY.replace("tenant_id,", "tenant_id, academic_year,")
TOTAL = "tenant_id, academic_year, window_no, school_id, subject_no, aspect_no"
SUMS = """
    COALESCE(sum(n) FILTER (WHERE COALESCE(g.eligible, c.grade_no >= 0)), 0), COALESCE(sum(n) FILTER (WHERE g.valid), 0),
    COALESCE(sum(n) FILTER (WHERE g.expected), 0), COALESCE(sum(n) FILTER (WHERE g.higher), 0),
    COALESCE(sum(n) FILTER (WHERE g.valid AND g.value IS NOT NULL), 0), COALESCE(sum(n * g.value) FILTER (WHERE g.valid), 0)
"""
OF_COUNTED = ", ".join("c." + column for column in TOTAL.split(", "))
SUMMED = f"""
    SELECT {OF_COUNTED}, {SUMS}
    FROM counted c LEFT JOIN grades g ON g.tenant_id = c.tenant_id AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
    GROUP BY {OF_COUNTED}
"""
CALLER = "(SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid)"
REACH = f"r.client_id = {CALLER} AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())"
BY_SCHOOL = (
    f"EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {{table}}.tenant_id AND r.school_id = {{table}}.school_id AND {REACH})"
)
BY_PUPIL = f"""{BY_SCHOOL} OR EXISTS (SELECT 1 FROM shared_pupils s JOIN reach r ON r.school_id = s.school_id
    WHERE s.tenant_id = {{table}}.tenant_id AND s.pupil_id = {{table}}.pupil_id AND {REACH})"""

DISCOUNTS = """
CREATE TABLE IF NOT EXISTS discounts (
    tenant_id uuid NOT NULL, id uuid NOT NULL, window_no smallint NOT NULL, pupil_id uuid NOT NULL, school_id uuid NOT NULL REFERENCES schools,
    reason text NOT NULL, author text NOT NULL, client_id uuid NOT NULL, created_at timestamptz NOT NULL,
    withdrawn_at timestamptz, withdrawn_by text, version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils,
    FOREIGN KEY (tenant_id, window_no) REFERENCES windows (tenant_id, no) ON DELETE CASCADE
)
"""
DISCOUNTED_CELLS = f"""
CREATE TABLE IF NOT EXISTS discounted_cells (
    tenant_id uuid NOT NULL, academic_year smallint, window_no smallint NOT NULL, school_id uuid NOT NULL, subject_no smallint NOT NULL,
    aspect_no smallint NOT NULL, year_group text NOT NULL, sex text NOT NULL, disadvantaged text NOT NULL, eal text NOT NULL, sen text NOT NULL,
    scheme_version_no smallint NOT NULL, grade_no smallint NOT NULL, n integer NOT NULL, PRIMARY KEY ({KEY})
)
"""
CONTRIBUTIONS = """
CREATE OR REPLACE FUNCTION list_contributions(in_tenant uuid, of_pupils uuid[], in_windows smallint[], and_before boolean) RETURNS TABLE (
    pupil_id uuid, apart boolean, tenant_id uuid, academic_year smallint, window_no smallint, school_id uuid, subject_no smallint, aspect_no smallint,
    year_group text, sex text, disadvantaged text, eal text, sen text, scheme_version_no smallint, grade_no smallint, n integer
) LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    years smallint[];
    aspects_counted smallint[];
    parts smallint[];
    combined smallint;
    combined_in smallint;
    has_discounts boolean;
BEGIN
    SELECT ARRAY(SELECT DISTINCT w.academic_year FROM windows w WHERE w.tenant_id = in_tenant AND w.no = ANY (in_windows)),
        ARRAY(SELECT a.no FROM aspects a WHERE a.tenant_id = in_tenant AND a.counted),
        ARRAY(SELECT s.no FROM subjects s WHERE s.tenant_id = in_tenant AND s.code IN ('reading', 'writing', 'maths')),
        (SELECT s.no FROM subjects s WHERE s.tenant_id = in_tenant AND s.code = 'rwm'),
        (SELECT v.no FROM schemes m JOIN scheme_versions v ON v.tenant_id = m.tenant_id AND v.scheme_id = m.id AND v.version = 1
            WHERE m.tenant_id = in_tenant AND m.code = 'rwm'),
        EXISTS (SELECT 1 FROM discounts d WHERE d.tenant_id = in_tenant AND d.withdrawn_at IS NULL)
        INTO years, aspects_counted, parts, combined, combined_in, has_discounts;
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
        j.disadvantaged, j.eal, j.sen, j.in_version, j.grade, j.n
    FROM judged j
    UNION ALL
    SELECT j.pupil_id, j.apart, j.tenant_id, j.academic_year, j.window_no, j.school_id, combined, 0::smallint, j.year_group, j.sex,
        j.disadvantaged, j.eal, j.sen, combined_in,
        CASE WHEN bool_or(NOT COALESCE(g.eligible, j.grade >= 0)) THEN 1 WHEN NOT bool_and(COALESCE(g.valid, false)) THEN 2
            WHEN bool_and(COALESCE(g.higher, false)) THEN 5 WHEN bool_and(COALESCE(g.expected, false)) THEN 4 ELSE 3 END::smallint, j.n
    FROM judged j LEFT JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = j.in_version AND g.no = j.grade
    WHERE j.subject_no = ANY (parts) AND j.aspect_no = 0 AND combined IS NOT NULL AND combined_in IS NOT NULL
    GROUP BY j.pupil_id, j.apart, j.tenant_id, j.academic_year, j.window_no, j.school_id, j.year_group, j.sex, j.disadvantaged, j.eal, j.sen, j.n
    HAVING count(*) = 3;
END $$
"""
COUNT = f"""
CREATE OR REPLACE FUNCTION count_contributions(in_tenant uuid, of_pupils uuid[], in_windows smallint[], sign integer DEFAULT NULL)
    RETURNS TABLE (pupil_id uuid, window_no smallint) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN QUERY WITH listed AS MATERIALIZED (
        SELECT * FROM list_contributions(in_tenant, of_pupils, in_windows, sign IS NULL)
    ), counted AS MATERIALIZED (
        SELECT {GRAIN}, (COALESCE(sign, 1) * sum(n))::integer AS n FROM listed WHERE NOT apart GROUP BY {GRAIN} HAVING sum(n) <> 0
    ), kept AS (
        INSERT INTO cells ({GRAIN}, n) SELECT {GRAIN}, n FROM counted ON CONFLICT ({KEY}) DO UPDATE SET n = cells.n + excluded.n
    ), kept_apart AS (
        INSERT INTO discounted_cells AS a ({GRAIN}, n)
        SELECT {GRAIN}, (COALESCE(sign, 1) * sum(n))::integer FROM listed WHERE apart GROUP BY {GRAIN} HAVING sum(n) <> 0
        ON CONFLICT ({KEY}) DO UPDATE SET n = a.n + excluded.n
    ), summed AS (
        INSERT INTO totals AS t ({TOTAL}, eligible, valid, expected, higher, valued, value_sum) {SUMMED}
        ON CONFLICT (tenant_id, window_no, school_id, subject_no, aspect_no) DO UPDATE SET eligible = t.eligible + excluded.eligible,
            valid = t.valid + excluded.valid, expected = t.expected + excluded.expected, higher = t.higher + excluded.higher,
            valued = t.valued + excluded.valued, value_sum = t.value_sum + excluded.value_sum
    )
    SELECT p, w FROM unnest(of_pupils) p CROSS JOIN unnest(in_windows) w
    WHERE NOT EXISTS (SELECT 1 FROM listed l WHERE l.pupil_id = p AND l.window_no = w);
END $$
"""
ADJUST = """
CREATE OR REPLACE FUNCTION adjust_cells(in_tenant uuid, of_pupils uuid[], in_windows smallint[], sign integer DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM count_contributions(in_tenant, of_pupils, in_windows, sign);
END $$
"""
REBUILD = f"""
CREATE OR REPLACE FUNCTION rebuild_cells(in_tenant uuid, of_schools uuid[], in_windows smallint[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
DECLARE
    of_pupils uuid[];
BEGIN
    PERFORM acts_in(in_tenant);
    DELETE FROM cells c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    DELETE FROM discounted_cells c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    DELETE FROM totals c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    of_pupils := ARRAY(SELECT DISTINCT e.pupil_id FROM enrolments e WHERE e.tenant_id = in_tenant AND e.school_id = ANY (of_schools));
    WITH listed AS MATERIALIZED (
        SELECT * FROM list_contributions(in_tenant, of_pupils, in_windows, false) c WHERE c.school_id = ANY (of_schools)
    ), counted AS (
        INSERT INTO cells ({GRAIN}, n) SELECT {GRAIN}, sum(n) FROM listed WHERE NOT apart GROUP BY {GRAIN}
        RETURNING *
    ), kept_apart AS (
        INSERT INTO discounted_cells ({GRAIN}, n) SELECT {GRAIN}, sum(n) FROM listed WHERE apart GROUP BY {GRAIN}
    )
    INSERT INTO totals ({TOTAL}, eligible, valid, expected, higher, valued, value_sum) {SUMMED};
END $$
"""
DELETE_WINDOW = """
CREATE OR REPLACE FUNCTION delete_window(in_tenant uuid, in_window smallint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    IF EXISTS (SELECT 1 FROM judgements j WHERE j.tenant_id = in_tenant AND j.window_no = in_window)
        OR EXISTS (SELECT 1 FROM judgement_history j WHERE j.tenant_id = in_tenant AND j.window_no = in_window) THEN
        RETURN false;
    END IF;
    DELETE FROM cells c WHERE c.tenant_id = in_tenant AND c.window_no = in_window;
    DELETE FROM discounted_cells c WHERE c.tenant_id = in_tenant AND c.window_no = in_window;
    DELETE FROM totals t WHERE t.tenant_id = in_tenant AND t.window_no = in_window;
    UPDATE receipts r SET window_no = NULL WHERE r.tenant_id = in_tenant AND r.window_no = in_window;
    DELETE FROM windows w WHERE w.tenant_id = in_tenant AND w.no = in_window;
    RETURN true;
END $$
"""
FOLLOW = """
CREATE OR REPLACE FUNCTION follow_pupil() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE discounts d SET school_id = NEW.school_id WHERE d.tenant_id = NEW.tenant_id AND d.pupil_id = NEW.id;
    RETURN NULL;
END $$
"""
FOLLOW_RECORD = """
CREATE OR REPLACE FUNCTION follow_record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    NEW.school_id := COALESCE((SELECT p.school_id FROM pupils p WHERE p.tenant_id = NEW.tenant_id AND p.id = NEW.pupil_id), NEW.school_id);
    IF NEW.withdrawn_at IS NULL AND EXISTS (
        SELECT 1 FROM discounts d WHERE d.tenant_id = NEW.tenant_id AND d.window_no = NEW.window_no AND d.pupil_id = NEW.pupil_id AND d.withdrawn_at IS NULL
    ) THEN
        NEW.withdrawn_at := clock_timestamp();
        NEW.withdrawn_by := 'merge';
        NEW.version := NEW.version + 1;
    END IF;
    RETURN NEW;
END $$
"""
LEFT = "SELECT DISTINCT tenant_id::text, window_no FROM judgements WHERE status_code = 'left' ORDER BY 1, 2"
RECOUNT = """
SELECT rebuild_cells('{tenant_id}', l.schools, ARRAY[{no}]::smallint[]), bump_versions('{tenant_id}', l.schools)
FROM (SELECT lock_schools('{tenant_id}', (SELECT array_agg(id) FROM schools WHERE tenant_id = '{tenant_id}'), '{{}}') AS schools OFFSET 0) l
"""
"""The eligible are others now, so that each window is counted again, under the locks of its tenant."""


def wall(table: str, rule: str) -> list[str]:
    """Row-level security of a table."""
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS reached ON {table}",
        f"CREATE POLICY reached ON {table} TO markonce_app USING ({rule.format(table=table)})",
        f"DROP POLICY IF EXISTS maintenance ON {table}",
        f"CREATE POLICY maintenance ON {table} TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)",
    ]


def upgrade() -> None:
    run_each(
        DISCOUNTS,
        "CREATE INDEX IF NOT EXISTS discounts_by_id ON discounts (id)",
        "CREATE INDEX IF NOT EXISTS discounts_by_school ON discounts (tenant_id, school_id, id)",
        "CREATE INDEX IF NOT EXISTS discounts_by_pupil ON discounts (tenant_id, pupil_id, window_no)",
        "CREATE UNIQUE INDEX IF NOT EXISTS discounts_in_force ON discounts (tenant_id, window_no, pupil_id) WHERE withdrawn_at IS NULL",
        *wall("discounts", BY_PUPIL),
        "GRANT SELECT, INSERT, UPDATE, DELETE ON discounts TO markonce_app, markonce_operator",
        DISCOUNTED_CELLS,
        *wall("discounted_cells", BY_SCHOOL),
        "GRANT SELECT ON discounted_cells TO markonce_app",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON discounted_cells TO markonce_operator",
        CONTRIBUTIONS,
        "COMMENT ON FUNCTION list_contributions IS 'What these pupils add to the cells of these windows, and apart what the discounted would add; with and_before"
        " also what they added before this transaction judged them, as -1. Reading, writing and maths combined is a conjunction per pupil (grades 1-5 of the"
        " scheme rwm: not eligible, not valid, below, expected, higher)'",
        "REVOKE ALL ON FUNCTION list_contributions FROM PUBLIC",
        COUNT,
        "REVOKE ALL ON FUNCTION count_contributions FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION count_contributions TO markonce_app, markonce_operator",
        ADJUST,
        REBUILD,
        DELETE_WINDOW,
        FOLLOW,
        "REVOKE ALL ON FUNCTION follow_pupil FROM PUBLIC",
        "CREATE OR REPLACE TRIGGER follow_pupil AFTER UPDATE OF school_id ON pupils FOR EACH ROW WHEN (OLD.school_id <> NEW.school_id)"
        " EXECUTE FUNCTION follow_pupil()",
        FOLLOW_RECORD,
        "REVOKE ALL ON FUNCTION follow_record FROM PUBLIC",
        "CREATE OR REPLACE TRIGGER follow_record BEFORE UPDATE OF pupil_id ON discounts FOR EACH ROW WHEN (OLD.pupil_id <> NEW.pupil_id)"
        " EXECUTE FUNCTION follow_record()",
    )
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        for tenant_id, no in connection.exec_driver_sql(LEFT).all():
            connection.exec_driver_sql(RECOUNT.format(tenant_id=tenant_id, no=no))
