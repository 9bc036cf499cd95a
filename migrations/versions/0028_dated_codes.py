"""Code lists; versions of schemes for academic years, with grades that come and go; subjects and aspects of a tenant's own."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0028", "0027", None, None

GRADES = """
CREATE OR REPLACE VIEW scheme_grades WITH (security_invoker = true) AS
SELECT v.tenant_id, v.scheme_id, v.version AS scheme_version, g.scheme_version_no, g.no, g.code, g.label, g.rank, g.value, g.points, g.year_group, g.band,
    g.eligible, g.valid, g.expected, g.higher, g.valid_from, g.valid_to
FROM grades g JOIN scheme_versions v ON v.tenant_id = g.tenant_id AND v.no = g.scheme_version_no
"""
CODES = """
CREATE TABLE IF NOT EXISTS codes (
    list text, no smallint, code text NOT NULL, meaning text NOT NULL, valid_from date, valid_to date, also text[] NOT NULL DEFAULT '{}',
    stage text, subjects text[] NOT NULL DEFAULT '{}', method text, eligible boolean, valid boolean, in_average boolean, expected boolean, higher boolean,
    national_code text, source text NOT NULL, PRIMARY KEY (list, no)
)
"""
COUNTED = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = 'codes'::regclass AND tgname = 'count_change') THEN
        CREATE CONSTRAINT TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON codes
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION count_change('references');
    END IF;
END $$
"""
STANDARDS = """
UPDATE scheme_versions v SET
    expected_status = CASE WHEN NOT EXISTS (SELECT 1 FROM grades g WHERE g.tenant_id = v.tenant_id AND g.scheme_version_no = v.no AND g.expected) THEN 'z' END,
    higher_status = CASE WHEN NOT EXISTS (SELECT 1 FROM grades g WHERE g.tenant_id = v.tenant_id AND g.scheme_version_no = v.no AND g.higher) THEN 'z' END
"""

NATIONAL = """
UPDATE subjects s SET national_code = n.national_code
FROM (VALUES ('reading', 'REA'), ('writing', 'WRI'), ('maths', 'MAT'), ('gps', 'GPS'), ('science', 'SCI'), ('phonics', 'PHO')) AS n (code, national_code)
WHERE s.code = n.code AND s.national_code IS NULL
"""
NEWEST = """
CREATE OR REPLACE FUNCTION newest_version(in_tenant uuid, of_scheme uuid, in_year smallint) RETURNS smallint LANGUAGE sql STABLE AS $$
    SELECT v.no FROM scheme_versions v
    WHERE v.tenant_id = in_tenant AND v.scheme_id = of_scheme AND (v.years IS NULL OR in_year = ANY (v.years))
    ORDER BY v.years IS NULL, v.version DESC LIMIT 1
$$
"""
PIN_SCHOOL = """
CREATE OR REPLACE FUNCTION pin_school() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO pins (tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no)
    SELECT NEW.tenant_id, c.window_no, NEW.id, c.subject_no, c.aspect_no, v.no
    FROM windows w
    JOIN collects c ON c.tenant_id = w.tenant_id AND c.window_no = w.no AND c.school_id = w.tenant_id
    CROSS JOIN LATERAL (SELECT newest_version(w.tenant_id, c.scheme_id, w.academic_year) AS no) v
    WHERE w.tenant_id = NEW.tenant_id AND w.state IN ('planned', 'open') AND v.no IS NOT NULL
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    run_each(
        "ALTER TABLE scheme_versions ADD COLUMN IF NOT EXISTS years smallint[], ADD COLUMN IF NOT EXISTS rounding smallint,"
        " ADD COLUMN IF NOT EXISTS expected_status text CHECK (expected_status IN ('x', 'z')),"
        " ADD COLUMN IF NOT EXISTS higher_status text CHECK (higher_status IN ('x', 'z'))",
        "COMMENT ON COLUMN scheme_versions.years IS 'The academic years it is for, by the year they begin in; null: those that no other version is for'",
        "COMMENT ON COLUMN scheme_versions.expected_status IS 'Why it has no expected standard: x not told yet, z not applicable; null where it has one'",
        "ALTER TABLE grades ADD COLUMN IF NOT EXISTS valid_from date, ADD COLUMN IF NOT EXISTS valid_to date",
        GRADES,
        "ALTER TABLE subjects ADD COLUMN IF NOT EXISTS national_code text, ADD COLUMN IF NOT EXISTS retired boolean NOT NULL DEFAULT false,"
        " ADD COLUMN IF NOT EXISTS version integer NOT NULL DEFAULT 1",
        "ALTER TABLE aspects ADD COLUMN IF NOT EXISTS id uuid, ADD COLUMN IF NOT EXISTS national_code text,"
        " ADD COLUMN IF NOT EXISTS retired boolean NOT NULL DEFAULT false, ADD COLUMN IF NOT EXISTS version integer NOT NULL DEFAULT 1",
        "ALTER TABLE aspects ALTER COLUMN id SET DEFAULT gen_random_uuid()",
        STANDARDS,
        "ALTER TABLE schemes ADD COLUMN IF NOT EXISTS template text",
        "COMMENT ON COLUMN schemes.template IS 'Code of the template whose new versions migrate appends; null for a scheme of the tenant''s own'",
        "UPDATE schemes SET template = code WHERE template IS NULL AND code IN ('ks2-scaled-score', 'ks2-writing-ta', 'ks2-science-ta', 'rwm')",
        NATIONAL,
        NEWEST,
        "COMMENT ON FUNCTION newest_version IS 'The version of a scheme in which windows of an academic year are judged'",
        "REVOKE ALL ON FUNCTION newest_version FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION newest_version TO markonce_app, markonce_operator",
        PIN_SCHOOL,
        CODES,
        "COMMENT ON TABLE codes IS 'Every code list, as this program knows it; migrate writes it anew'",
        COUNTED,
        "GRANT SELECT ON codes TO markonce_app, markonce_operator",
    )
