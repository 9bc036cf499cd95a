"""What a window collects from each school, and the grades of it that the window's academic year has."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0035", "0034", None, None

SUBJECTS = """
CREATE OR REPLACE VIEW window_subjects WITH (security_invoker = true) AS
SELECT p.tenant_id, p.window_no, p.school_id, p.subject_no, p.aspect_no, p.scheme_version_no, v.scheme_id, v.version AS scheme_version, v.rounding
FROM pins p JOIN scheme_versions v ON v.tenant_id = p.tenant_id AND v.no = p.scheme_version_no
WHERE EXISTS (
    SELECT 1 FROM reach r WHERE r.client_id = (SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid)
        AND r.tenant_id = p.tenant_id AND r.school_id = p.school_id AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
)
"""
GRADES = """
CREATE OR REPLACE VIEW window_grades WITH (security_invoker = true) AS
SELECT g.*, w.no AS window_no
FROM windows w JOIN scheme_grades g ON g.tenant_id = w.tenant_id
    AND (g.valid_from IS NULL OR g.valid_from <= make_date(w.academic_year + 1, 8, 31))
    AND (g.valid_to IS NULL OR g.valid_to >= make_date(w.academic_year, 9, 1))
"""


def upgrade() -> None:
    run_each(
        SUBJECTS,
        "COMMENT ON VIEW window_subjects IS 'The pins of the schools within reach; pins themselves are read by whoever reaches the tenant'",
        GRADES,
        "GRANT SELECT ON window_subjects, window_grades TO markonce_app, markonce_operator",
    )
