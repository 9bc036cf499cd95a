"""Conjunctions of any subjects, such as the good level of development; a window that is open may be judged in a newer version of a scheme."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0029", "0028", None, None

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
    wholes smallint[];
    versions smallint[];
    sizes integer[];
    has_discounts boolean;
BEGIN
    SELECT ARRAY(SELECT DISTINCT w.academic_year FROM windows w WHERE w.tenant_id = in_tenant AND w.no = ANY (in_windows)),
        ARRAY(SELECT a.no FROM aspects a WHERE a.tenant_id = in_tenant AND a.counted),
        EXISTS (SELECT 1 FROM discounts d WHERE d.tenant_id = in_tenant AND d.withdrawn_at IS NULL)
        INTO years, aspects_counted, has_discounts;
    SELECT array_agg(part.no), array_agg(s.no), array_agg(v.no), array_agg(cardinality(s.combined)) INTO parts, wholes, versions, sizes
    FROM (
        SELECT no, code, COALESCE(combines, CASE code WHEN 'rwm' THEN ARRAY['reading', 'writing', 'maths'] END) AS combined
        FROM subjects WHERE tenant_id = in_tenant AND derived
    ) s
    JOIN subjects part ON part.tenant_id = in_tenant AND part.code = ANY (s.combined)
    JOIN schemes m ON m.tenant_id = in_tenant AND m.code = s.code AND m.derived
    JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.scheme_id = m.id AND v.version = 1;
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
    SELECT j.pupil_id, j.apart, j.tenant_id, j.academic_year, j.window_no, j.school_id, c.whole, 0::smallint, j.year_group, j.sex,
        j.disadvantaged, j.eal, j.sen, c.version,
        CASE WHEN bool_or(NOT COALESCE(g.eligible, j.grade >= 0)) THEN 1 WHEN NOT bool_and(COALESCE(g.valid, false)) THEN 2
            WHEN bool_and(COALESCE(g.higher, false)) THEN 5 WHEN bool_and(COALESCE(g.expected, false)) THEN 4 ELSE 3 END::smallint, j.n
    FROM unnest(parts, wholes, versions, sizes) AS c (part, whole, version, size)
    JOIN judged j ON j.subject_no = c.part AND j.aspect_no = 0
    LEFT JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = j.in_version AND g.no = j.grade
    GROUP BY j.pupil_id, j.apart, j.tenant_id, j.academic_year, j.window_no, j.school_id, j.year_group, j.sex, j.disadvantaged, j.eal, j.sen, j.n,
        c.whole, c.version, c.size
    HAVING count(*) = c.size;
END $$
"""
REPIN = """
CREATE OR REPLACE FUNCTION repin_window(in_tenant uuid, in_window smallint) RETURNS TABLE (subject_no smallint, aspect_no smallint, code text, repinned boolean)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    in_year smallint;
BEGIN
    PERFORM acts_in(in_tenant);
    SELECT w.academic_year INTO in_year FROM windows w WHERE w.tenant_id = in_tenant AND w.no = in_window;
    RETURN QUERY SELECT DISTINCT j.subject_no, j.aspect_no, o.code, false
    FROM judgements j
    JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.no = j.scheme_version_no
    JOIN grades o ON o.tenant_id = in_tenant AND o.scheme_version_no = j.scheme_version_no AND o.no = j.grade_no
    WHERE j.tenant_id = in_tenant AND j.academic_year = in_year AND j.window_no = in_window AND NOT EXISTS (
        SELECT 1 FROM grades g WHERE g.tenant_id = in_tenant AND g.scheme_version_no = newest_version(in_tenant, v.scheme_id, in_year) AND g.code = o.code
    );
    IF FOUND THEN
        RETURN;
    END IF;
    WITH moved AS MATERIALIZED (
        SELECT j.pupil_id, j.subject_no, j.aspect_no, n.no AS version_no, g.no AS grade_no
        FROM judgements j
        JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.no = j.scheme_version_no
        CROSS JOIN LATERAL (SELECT newest_version(in_tenant, v.scheme_id, in_year) AS no) n
        LEFT JOIN grades o ON o.tenant_id = in_tenant AND o.scheme_version_no = j.scheme_version_no AND o.no = j.grade_no
        LEFT JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = n.no AND g.code = o.code
        WHERE j.tenant_id = in_tenant AND j.academic_year = in_year AND j.window_no = in_window AND n.no <> j.scheme_version_no
    ), kept AS (
        INSERT INTO judgement_history (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, scheme_version_no, grade_no, mark, status_code,
        recorded_at, received_at, recorded_at_school_id, client_id, actor, source, method, version, xid, changed_at, until)
        SELECT j.tenant_id, j.academic_year, j.pupil_id, j.window_no, j.subject_no, j.aspect_no, j.school_id, j.scheme_version_no, j.grade_no, j.mark, j.status_code,
        j.recorded_at, j.received_at, j.recorded_at_school_id, j.client_id, j.actor, j.source, j.method, j.version, j.xid, j.changed_at, GREATEST(clock_timestamp(),
        j.received_at) FROM judgements j JOIN moved m USING (pupil_id, subject_no, aspect_no)
        WHERE j.tenant_id = in_tenant AND j.academic_year = in_year AND j.window_no = in_window
    )
    UPDATE judgements j SET scheme_version_no = m.version_no, grade_no = m.grade_no, version = j.version + 1, xid = pg_current_xact_id(), changed_at = clock_timestamp()
    FROM moved m
    WHERE j.tenant_id = in_tenant AND j.academic_year = in_year AND j.window_no = in_window AND j.pupil_id = m.pupil_id
        AND j.subject_no = m.subject_no AND j.aspect_no = m.aspect_no;
    RETURN QUERY UPDATE pins p SET scheme_version_no = newest_version(in_tenant, v.scheme_id, in_year)
    FROM scheme_versions v
    WHERE p.tenant_id = in_tenant AND p.window_no = in_window AND v.tenant_id = in_tenant AND v.no = p.scheme_version_no
        AND newest_version(in_tenant, v.scheme_id, in_year) <> p.scheme_version_no
    RETURNING p.subject_no, p.aspect_no, NULL::text, true;
END $$
"""


def upgrade() -> None:
    run_each(
        "ALTER TABLE subjects ADD COLUMN IF NOT EXISTS combines text[]",
        "COMMENT ON COLUMN subjects.combines IS 'Codes of the subjects that a derived one is the conjunction of'",
        "UPDATE subjects SET combines = ARRAY['reading', 'writing', 'maths'] WHERE code = 'rwm' AND derived AND combines IS NULL",
        CONTRIBUTIONS,
        REPIN,
        "COMMENT ON FUNCTION repin_window IS 'Pins the newest versions of a window''s schemes and rewrites its judgements in them, or returns the grades"
        " that a newest version lacks'",
        "REVOKE ALL ON FUNCTION repin_window FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION repin_window TO markonce_app, markonce_operator",
    )
