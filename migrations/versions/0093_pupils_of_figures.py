"""Which pupils a figure of aggregates came from: the counted rows of a window before they are added up, at schools of a caller with aggregates:internal."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0093", "0092", None, None

LIST_COUNTED_PUPILS = """
CREATE OR REPLACE FUNCTION list_counted_pupils(in_tenant uuid, in_window smallint, of_schools uuid[], of_subjects smallint[], on_day date, with_pupils boolean) RETURNS TABLE (
    school_id uuid, pupil_no integer, pupil_id uuid, apart boolean, year_group text, sex text, disadvantaged text, eal text, sen text, subject_no smallint,
    scheme_version_no smallint, grade_no smallint, grade text, status text, eligible boolean, valid boolean, band text, expected boolean, higher boolean,
    has_expected boolean, has_higher boolean
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    counted uuid[];
    readable uuid[];
    of_pupils uuid[];
BEGIN
    SELECT array_agg(s.id), array_agg(s.id) FILTER (WHERE with_pupils AND s.is_readable) INTO counted, readable
    FROM (
        SELECT r.school_id AS id, bool_or('aggregates:internal' = ANY (r.scopes)) AS is_counted,
            bool_or('pupils:read' = ANY (r.scopes)) AND bool_or('judgements:read' = ANY (r.scopes)) AS is_readable
        FROM reach r
        WHERE r.tenant_id = in_tenant AND r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid
            AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now()) AND r.school_id = ANY (of_schools)
        GROUP BY r.school_id
    ) s WHERE s.is_counted;
    of_pupils := ARRAY(
        SELECT DISTINCT c.pupil_id FROM census c WHERE c.tenant_id = in_tenant AND c.window_no = in_window AND c.school_id = ANY (counted)
    );
    RETURN QUERY WITH places AS MATERIALIZED (
        SELECT * FROM list_places(in_tenant, on_day)
    ), placed AS MATERIALIZED (
        SELECT p.scheme_version_no, bool_or(p.expected IS NOT NULL) AS has_expected, bool_or(p.higher IS NOT NULL) AS has_higher FROM places p GROUP BY 1
    )
    SELECT l.school_id, (dense_rank() OVER (ORDER BY l.pupil_id))::integer, CASE WHEN l.school_id = ANY (readable) THEN l.pupil_id END, l.apart, l.year_group,
        l.sex, l.disadvantaged, l.eal, l.sen, l.subject_no, l.scheme_version_no, l.grade_no, g.code, j.status_code, COALESCE(g.eligible, l.grade_no >= 0),
        COALESCE(g.valid, false), p.band, p.expected, p.higher, COALESCE(v.has_expected, false), COALESCE(v.has_higher, false)
    FROM list_counts(in_tenant, of_pupils, ARRAY[in_window], false) l
    LEFT JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = l.scheme_version_no AND g.no = l.grade_no
    LEFT JOIN places p ON p.scheme_version_no = l.scheme_version_no AND p.grade_no = l.grade_no
    LEFT JOIN placed v ON v.scheme_version_no = l.scheme_version_no
    LEFT JOIN judgements j ON j.tenant_id = in_tenant AND j.academic_year = l.academic_year AND j.pupil_id = l.pupil_id AND j.window_no = in_window
        AND j.subject_no = l.subject_no AND j.aspect_no = 0
    WHERE l.school_id = ANY (counted) AND l.subject_no = ANY (of_subjects) AND l.aspect_no = 0 AND l.parts IS NULL;
END $$
"""


NAME = "list_counted_pupils(uuid, smallint, uuid[], smallint[], date, boolean)"


def upgrade() -> None:
    run_each(
        LIST_COUNTED_PUPILS,
        f"REVOKE ALL ON FUNCTION {NAME} FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION {NAME} TO markonce_app, markonce_operator",
    )
