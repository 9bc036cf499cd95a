"""How pupils moved between two windows is counted by the owner, school by school; a scheme says by which method a difference of its grades is progress."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0078", "0077", None, None

COLUMNS = ("progress_method text", "progress_statement text", "progress_declared_at timestamptz", "progress_declared_by text")
FUNCTION = """
CREATE OR REPLACE FUNCTION count_transitions(
    in_tenant uuid, from_window smallint, to_window smallint, of_subject smallint, of_aspect smallint, of_schools uuid[], on_day date,
    known_before timestamptz, by_method text
) RETURNS TABLE (
    school_id uuid, compared_by text, from_place text, from_no integer, to_place text, to_no integer, moved text, left_out text, pupils bigint,
    change_of bigint, change numeric
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    is_scaled boolean := find_scale(in_tenant, on_day) IS NOT NULL;
    from_year smallint;
    from_day date;
    to_year smallint;
    to_day date;
BEGIN
    SELECT w.academic_year, w.census_on INTO from_year, from_day FROM windows w WHERE w.tenant_id = in_tenant AND w.no = from_window;
    SELECT w.academic_year, w.census_on INTO to_year, to_day FROM windows w WHERE w.tenant_id = in_tenant AND w.no = to_window;
    RETURN QUERY WITH pinned AS MATERIALIZED (
        SELECT n.school_id, count(DISTINCT n.window_no) = 2 AS in_both FROM pins n
        WHERE n.tenant_id = in_tenant AND n.window_no IN (from_window, to_window) AND n.subject_no = of_subject AND n.aspect_no = of_aspect
            AND n.school_id = ANY (of_schools) AND EXISTS (
                SELECT 1 FROM reach r WHERE r.tenant_id = in_tenant AND r.school_id = n.school_id AND 'aggregates:internal' = ANY (r.scopes)
                    AND r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid
                    AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
            )
        GROUP BY n.school_id
    ), places AS MATERIALIZED (
        SELECT * FROM list_places(in_tenant, on_day)
    ), before AS MATERIALIZED (
        SELECT c.pupil_id, c.school_id FROM census c JOIN pinned p ON p.school_id = c.school_id WHERE c.tenant_id = in_tenant AND c.window_no = from_window
    ), after AS MATERIALIZED (
        SELECT c.pupil_id, c.school_id FROM census c JOIN pinned p ON p.school_id = c.school_id WHERE c.tenant_id = in_tenant AND c.window_no = to_window
    ), members AS (
        SELECT COALESCE(b.pupil_id, a.pupil_id) AS pupil_id, COALESCE(b.school_id, a.school_id) AS school_id, b.pupil_id IS NOT NULL AS was_there,
            a.pupil_id IS NOT NULL AS is_there
        FROM before b FULL JOIN after a ON a.pupil_id = b.pupil_id AND a.school_id = b.school_id
    ), rolled AS (
        SELECT m.*, p.in_both, (
            SELECT e.school_id FROM enrolments e WHERE e.tenant_id = in_tenant AND e.pupil_id = m.pupil_id AND e.status IN ('C', 'M', 'F', 'O')
                AND e.from_on <= d.day AND COALESCE(e.to_on, 'infinity') >= d.day ORDER BY e.from_on DESC, e.id DESC LIMIT 1
        ) AS elsewhere
        FROM members m JOIN pinned p ON p.school_id = m.school_id
        LEFT JOIN LATERAL (SELECT CASE WHEN m.was_there THEN to_day ELSE from_day END AS day WHERE NOT (m.was_there AND m.is_there)) d ON true
    ), judged AS (
        SELECT r.school_id, r.pupil_id, CASE
                WHEN NOT r.in_both THEN 'not-collected'
                WHEN r.was_there AND r.is_there THEN CASE WHEN EXISTS (
                    SELECT 1 FROM discounts d
                    WHERE d.tenant_id = in_tenant AND d.pupil_id = r.pupil_id AND d.window_no IN (from_window, to_window) AND d.withdrawn_at IS NULL
                ) THEN 'discounted' END
                WHEN r.elsewhere = r.school_id THEN 'not-collected'
                WHEN r.elsewhere IS NULL THEN CASE WHEN r.was_there THEN 'left' ELSE 'new' END
                WHEN r.was_there THEN 'to-another-school' ELSE 'from-another-school' END AS reason,
            f.scheme_version_no AS from_version, f.grade_no AS from_grade, t.scheme_version_no AS to_version, t.grade_no AS to_grade
        FROM rolled r
        LEFT JOIN LATERAL (
            SELECT x.scheme_version_no, x.grade_no FROM judgements x WHERE known_before IS NULL AND x.tenant_id = in_tenant AND x.academic_year = from_year
                AND x.pupil_id = r.pupil_id AND x.window_no = from_window AND x.subject_no = of_subject AND x.aspect_no = of_aspect
            UNION ALL
            SELECT x.scheme_version_no, x.grade_no FROM judgements_known x WHERE known_before IS NOT NULL AND x.tenant_id = in_tenant
                AND x.academic_year = from_year AND x.pupil_id = r.pupil_id AND x.window_no = from_window AND x.subject_no = of_subject
                AND x.aspect_no = of_aspect AND x.known_from < known_before AND x.known_until >= known_before
        ) f ON true
        LEFT JOIN LATERAL (
            SELECT x.scheme_version_no, x.grade_no FROM judgements x WHERE known_before IS NULL AND x.tenant_id = in_tenant AND x.academic_year = to_year
                AND x.pupil_id = r.pupil_id AND x.window_no = to_window AND x.subject_no = of_subject AND x.aspect_no = of_aspect
            UNION ALL
            SELECT x.scheme_version_no, x.grade_no FROM judgements_known x WHERE known_before IS NOT NULL AND x.tenant_id = in_tenant
                AND x.academic_year = to_year AND x.pupil_id = r.pupil_id AND x.window_no = to_window AND x.subject_no = of_subject
                AND x.aspect_no = of_aspect AND x.known_from < known_before AND x.known_until >= known_before
        ) t ON true
    ), pairs AS MATERIALIZED (
        SELECT j.school_id, j.reason, j.from_version, j.from_grade, j.to_version, j.to_grade, count(*) AS n FROM judged j GROUP BY 1, 2, 3, 4, 5, 6
    ), graded AS (
        SELECT p.*, fg.rank AS from_rank, tg.rank AS to_rank, fp.band AS from_band, fp.band_no AS from_band_no, tp.band AS to_band, tp.band_no AS to_band_no,
            fp.expected AS was_expected, tp.expected AS is_expected, fp.higher AS was_higher, tp.higher AS is_higher,
            fg.no IS NOT NULL AS has_from, tg.no IS NOT NULL AS has_to,
            CASE WHEN p.reason IS NULL AND fv.scheme_id = tv.scheme_id THEN CASE by_method WHEN 'points' THEN tg.points - fg.points
                WHEN 'standardised' THEN tg.value - fg.value END END AS difference
        FROM pairs p
        LEFT JOIN grades fg ON fg.tenant_id = in_tenant AND fg.scheme_version_no = p.from_version AND fg.no = p.from_grade AND fg.valid
        LEFT JOIN grades tg ON tg.tenant_id = in_tenant AND tg.scheme_version_no = p.to_version AND tg.no = p.to_grade AND tg.valid
        LEFT JOIN places fp ON fp.scheme_version_no = p.from_version AND fp.grade_no = p.from_grade
        LEFT JOIN places tp ON tp.scheme_version_no = p.to_version AND tp.grade_no = p.to_grade
        LEFT JOIN scheme_versions fv ON fv.tenant_id = in_tenant AND fv.no = p.from_version AND EXISTS (
            SELECT 1 FROM schemes m WHERE m.tenant_id = in_tenant AND m.id = fv.scheme_id AND m.progress_method = by_method
        )
        LEFT JOIN scheme_versions tv ON tv.tenant_id = in_tenant AND tv.no = p.to_version
    ), reasoned AS (
        SELECT g.*, COALESCE(g.reason, CASE WHEN NOT g.has_from AND NOT g.has_to THEN 'not-judged' WHEN NOT g.has_from THEN 'not-judged-from'
            WHEN NOT g.has_to THEN 'not-judged-to' END) AS unjudged
        FROM graded g
    ), compared AS (
        SELECT r.*, CASE WHEN r.unjudged IS NOT NULL THEN NULL WHEN r.from_band_no IS NOT NULL AND r.to_band_no IS NOT NULL THEN 'band'
            WHEN r.was_expected IS NOT NULL AND r.is_expected IS NOT NULL THEN
                CASE WHEN r.was_higher IS NOT NULL AND r.is_higher IS NOT NULL THEN 'standards' ELSE 'expected' END
            WHEN NOT is_scaled AND r.from_version = r.to_version AND r.from_rank IS NOT NULL AND r.to_rank IS NOT NULL THEN 'rank' END AS by
        FROM reasoned r
    ), placed AS (
        SELECT c.*, CASE c.by WHEN 'band' THEN c.from_band_no WHEN 'standards' THEN c.was_expected::integer + c.was_higher::integer
                WHEN 'expected' THEN c.was_expected::integer WHEN 'rank' THEN c.from_rank END AS at_from,
            CASE c.by WHEN 'band' THEN c.to_band_no WHEN 'standards' THEN c.is_expected::integer + c.is_higher::integer
                WHEN 'expected' THEN c.is_expected::integer WHEN 'rank' THEN c.to_rank END AS at_to,
            COALESCE(c.unjudged, CASE WHEN c.by IS NULL THEN CASE WHEN c.was_expected IS NULL AND c.is_expected IS NULL THEN 'not-placed'
                WHEN c.was_expected IS NULL THEN 'not-placed-from' ELSE 'not-placed-to' END END) AS why
        FROM compared c
    ), named AS (
        SELECT p.*, CASE WHEN p.by = 'band' THEN p.from_band WHEN p.by <> 'rank' THEN ('{below,expected,higher}'::text[])[p.at_from + 1] END AS from_name,
            CASE WHEN p.by = 'band' THEN p.to_band WHEN p.by <> 'rank' THEN ('{below,expected,higher}'::text[])[p.at_to + 1] END AS to_name,
            CASE WHEN p.at_to > p.at_from THEN 'higher' WHEN p.at_to = p.at_from THEN 'same' WHEN p.at_to < p.at_from THEN 'lower' END AS direction
        FROM placed p
    )
    SELECT n.school_id, n.by, n.from_name, CASE WHEN n.by <> 'rank' THEN n.at_from END, n.to_name, CASE WHEN n.by <> 'rank' THEN n.at_to END, n.direction,
        n.why, sum(n.n)::bigint, COALESCE(sum(n.n) FILTER (WHERE n.difference IS NOT NULL), 0)::bigint, COALESCE(sum(n.n * n.difference), 0)
    FROM named n GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
END $$
"""


def upgrade() -> None:
    run_each(
        *(f"ALTER TABLE schemes ADD COLUMN IF NOT EXISTS {column}" for column in COLUMNS),
        FUNCTION,
        "COMMENT ON FUNCTION count_transitions IS 'How the pupils of two windows moved between the places of their grades, by school where the caller holds"
        " aggregates:internal, and how many are left out and why. Counts alone'",
        "REVOKE ALL ON FUNCTION count_transitions FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION count_transitions TO markonce_app, markonce_operator",
    )
