"""A grade says of a standard that it is unknown (null) where its scheme has no such standard, or where it is told later."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0045", "0044", None, None

GRADES = """
CREATE OR REPLACE VIEW scheme_grades WITH (security_invoker = true) AS
SELECT v.tenant_id, v.scheme_id, v.version AS scheme_version, g.scheme_version_no, g.no, g.code, g.label, g.rank, g.value, g.points, g.year_group, g.band,
    g.eligible, g.valid, CASE WHEN v.expected_status IS NULL THEN g.expected END AS expected, CASE WHEN v.higher_status IS NULL THEN g.higher END AS higher,
    g.valid_from, g.valid_to
FROM grades g JOIN scheme_versions v ON v.tenant_id = g.tenant_id AND v.no = g.scheme_version_no
"""


def upgrade() -> None:
    run_each(GRADES)
