"""A signature that is renewed puts nothing back in force: of two that hold from the same day, the one that was signed first later replaces the other."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0081", "0080", None, None

_FIND_SCALE = """
CREATE OR REPLACE FUNCTION find_scale(in_tenant uuid, on_day date) RETURNS uuid
    LANGUAGE plpgsql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    RETURN (SELECT s.id FROM common_scales s WHERE s.tenant_id = in_tenant AND s.from_on <= on_day ORDER BY s.from_on DESC, COALESCE(s.first_signed_at, s.signed_at) DESC LIMIT 1);
END $$
"""
_LIST_PLACES = """
CREATE OR REPLACE FUNCTION list_places(in_tenant uuid, on_day date) RETURNS TABLE(scheme_version_no smallint, grade_no smallint, band text, band_no integer, expected boolean, higher boolean)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
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
        WHERE c.tenant_id = in_tenant AND c.from_on <= on_day ORDER BY c.scheme_version_no, c.from_on DESC, COALESCE(c.first_signed_at, c.signed_at) DESC
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
_FIND_PLACE = """
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
    WHERE c.tenant_id = in_tenant AND c.scheme_version_no = of_version AND c.from_on <= on_day ORDER BY c.from_on DESC, COALESCE(c.first_signed_at, c.signed_at) DESC LIMIT 1;
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


def upgrade() -> None:
    tables = ("common_scales", "crosswalks")
    run_each(
        *(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS first_signed_at timestamptz" for table in tables),
        *(
            f"UPDATE {table} t SET first_signed_at ="
            " (SELECT min(s.signed_at) FROM scale_signatures s WHERE s.tenant_id = t.tenant_id AND s.of_id = t.id)"
            " WHERE t.signed_at IS NOT NULL AND t.first_signed_at IS NULL"
            for table in tables
        ),
        _FIND_SCALE,
        _LIST_PLACES,
        _FIND_PLACE,
    )
