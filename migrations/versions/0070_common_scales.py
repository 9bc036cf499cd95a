"""Common scales of trusts, crosswalks from versions of schemes to their bands, and the place of every grade on a day."""

from migrations.steps import protect_table, run_each

revision, down_revision, branch_labels, depends_on = "0070", "0069", None, None

SIGNED = "from_on date, signed_at timestamptz, signed_by text, signer_role text, signed_client_id uuid"
SCALES = f"""
CREATE TABLE IF NOT EXISTS common_scales (
    tenant_id uuid NOT NULL, id uuid NOT NULL, name text NOT NULL, bands text[] NOT NULL, band_labels text[] NOT NULL,
    expected_from text NOT NULL, expected_label text, higher_from text, higher_label text,
    created_at timestamptz NOT NULL, {SIGNED}, version integer NOT NULL DEFAULT 1, PRIMARY KEY (tenant_id, id)
)
"""
CROSSWALKS = f"""
CREATE TABLE IF NOT EXISTS crosswalks (
    tenant_id uuid NOT NULL, id uuid NOT NULL, scale_id uuid NOT NULL, scheme_version_no smallint NOT NULL, scheme_id uuid NOT NULL,
    scheme_version smallint NOT NULL,
    created_at timestamptz NOT NULL, {SIGNED}, version integer NOT NULL DEFAULT 1, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, scale_id) REFERENCES common_scales
)
"""
CROSSWALK_GRADES = """
CREATE TABLE IF NOT EXISTS crosswalk_grades (
    tenant_id uuid NOT NULL, crosswalk_id uuid NOT NULL, grade_no smallint NOT NULL, grade text NOT NULL, band text,
    PRIMARY KEY (tenant_id, crosswalk_id, grade_no), FOREIGN KEY (tenant_id, crosswalk_id) REFERENCES crosswalks
)
"""
SIGNATURES = """
CREATE TABLE IF NOT EXISTS scale_signatures (
    tenant_id uuid NOT NULL, of_id uuid NOT NULL, signed_at timestamptz NOT NULL, signed_by text NOT NULL, signer_role text NOT NULL, client_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, of_id, signed_at)
)
"""
FIND_SCALE = """
CREATE OR REPLACE FUNCTION find_scale(in_tenant uuid, on_day date) RETURNS uuid LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
BEGIN
    RETURN (SELECT s.id FROM common_scales s WHERE s.tenant_id = in_tenant AND s.from_on <= on_day ORDER BY s.from_on DESC, s.signed_at DESC LIMIT 1);
END $$
"""
PLACES = """
CREATE OR REPLACE FUNCTION list_places(in_tenant uuid, on_day date) RETURNS TABLE (
    scheme_version_no smallint, grade_no smallint, band text, band_no integer, expected boolean, higher boolean
) LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
#variable_conflict use_column
DECLARE
    in_force uuid := find_scale(in_tenant, on_day);
    bands text[];
    expected_no integer;
    higher_no integer;
BEGIN
    IF in_force IS NULL THEN
        RETURN QUERY SELECT g.scheme_version_no, g.no, NULL::text, NULL::integer, CASE WHEN v.expected_status IS NULL THEN g.expected END,
            CASE WHEN v.higher_status IS NULL THEN g.higher END
        FROM scheme_versions v JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = v.no
        WHERE v.tenant_id = in_tenant AND g.valid AND (v.expected_status IS NULL OR v.higher_status IS NULL);
        RETURN;
    END IF;
    SELECT s.bands, array_position(s.bands, s.expected_from), array_position(s.bands, s.higher_from) INTO bands, expected_no, higher_no
    FROM common_scales s WHERE s.tenant_id = in_tenant AND s.id = in_force;
    RETURN QUERY WITH signed AS (
        SELECT DISTINCT ON (c.scheme_version_no) c.scheme_version_no, c.id FROM crosswalks c
        WHERE c.tenant_id = in_tenant AND c.from_on <= on_day ORDER BY c.scheme_version_no, c.from_on DESC, c.signed_at DESC
    ), placed AS (
        SELECT s.scheme_version_no, g.grade_no, array_position(bands, g.band) AS band_no
        FROM signed s JOIN crosswalk_grades g ON g.tenant_id = in_tenant AND g.crosswalk_id = s.id
        UNION ALL
        SELECT v.no, g.no, CASE WHEN v.higher_status IS NULL AND g.higher THEN COALESCE(higher_no, expected_no) WHEN g.expected THEN expected_no
            WHEN expected_no = 2 THEN 1 END
        FROM schemes m
        JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.scheme_id = m.id AND v.expected_status IS NULL
        JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = v.no AND g.valid
        WHERE m.tenant_id = in_tenant AND m.template IS NOT NULL AND NOT m.derived AND NOT EXISTS (SELECT 1 FROM signed s WHERE s.scheme_version_no = v.no)
    )
    SELECT p.scheme_version_no, p.grade_no, bands[p.band_no], p.band_no,
        CASE WHEN p.band_no IS NULL THEN g.expected ELSE p.band_no >= expected_no END,
        CASE WHEN higher_no IS NULL THEN NULL WHEN p.band_no IS NULL THEN CASE WHEN v.higher_status IS NULL THEN g.higher END
            WHEN NOT s.is AND v.higher_status IS NOT NULL THEN NULL ELSE p.band_no >= higher_no END
    FROM placed p
    CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM signed x WHERE x.scheme_version_no = p.scheme_version_no) AS is) s
    JOIN grades g ON g.tenant_id = in_tenant AND g.scheme_version_no = p.scheme_version_no AND g.no = p.grade_no
    JOIN scheme_versions v ON v.tenant_id = in_tenant AND v.no = p.scheme_version_no
    WHERE g.valid AND (p.band_no IS NOT NULL OR NOT s.is);
END $$
"""
MEASURE = """
CREATE OR REPLACE FUNCTION measure_conjunctions(in_tenant uuid, in_windows smallint[], of_schools uuid[], on_day date, declared_only boolean) RETURNS TABLE (
    window_no smallint, school_id uuid, subject_no smallint, apart boolean, year_group text, sex text, disadvantaged text, eal text, sen text, n integer,
    eligible boolean, valid boolean, expected_of boolean, expected boolean, higher_of boolean, higher boolean, judged boolean
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
        SELECT c.* FROM conjunction_cells c
        WHERE c.tenant_id = in_tenant AND c.window_no = ANY (in_windows) AND c.school_id = ANY (of_schools)
            AND c.subject_no IN (SELECT d.subject_no FROM parts_of d)
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
    SELECT f.window_no, f.school_id, f.subject_no, f.apart, f.year_group, f.sex, f.disadvantaged, f.eal, f.sen, f.n, o.eligible, o.eligible AND o.valid,
        o.eligible AND o.placed, o.eligible AND o.placed AND o.valid AND o.reached, o.eligible AND o.higher_placed,
        o.eligible AND o.higher_placed AND o.valid AND o.reached_higher, o.judged
    FROM found f JOIN outcomes o USING (subject_no, parts, versions, grade_nos);
END $$
"""
COUNTS_ALONE = """
ALTER POLICY reached ON conjunction_cells USING (EXISTS (
    SELECT 1 FROM reach r WHERE r.tenant_id = conjunction_cells.tenant_id AND r.school_id = conjunction_cells.school_id AND r.sees_counts
))
"""
FUNCTIONS = (
    "find_scale",
    "list_places",
    "measure_conjunctions",
)


def upgrade() -> None:
    run_each(
        SCALES,
        CROSSWALKS,
        CROSSWALK_GRADES,
        SIGNATURES,
        "CREATE INDEX IF NOT EXISTS common_scales_by_id ON common_scales (id)",
        "CREATE INDEX IF NOT EXISTS crosswalks_by_id ON crosswalks (id)",
        "CREATE INDEX IF NOT EXISTS crosswalks_by_version ON crosswalks (tenant_id, scheme_version_no, from_on)",
    )
    for table in ("common_scales", "crosswalks", "crosswalk_grades", "scale_signatures"):
        protect_table(table, rows_of="tenant")
    run_each(FIND_SCALE, PLACES, MEASURE, COUNTS_ALONE)
    for function in FUNCTIONS:
        run_each(
            f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC",
            f"GRANT EXECUTE ON FUNCTION {function} TO markonce_app, markonce_operator",
        )
