"""What stands today: who is on roll at a school, the latest judgement of each subject and aspect, the targets of the nearest year that is not over."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SQL = """
CREATE VIEW school_roll WITH (security_invoker = true) AS
SELECT DISTINCT e.school_id AS roll_school_id, p.* FROM enrolments e JOIN pupils p ON p.tenant_id = e.tenant_id AND p.id = e.pupil_id;

COMMENT ON VIEW school_roll IS 'Who is or was on roll at a school, each once; a question adds the day';

CREATE VIEW latest_judgements WITH (security_invoker = true) AS
SELECT DISTINCT ON (j.tenant_id, j.pupil_id, j.subject_no, j.aspect_no) j.*
FROM judgements j JOIN windows w ON w.tenant_id = j.tenant_id AND w.no = j.window_no
WHERE j.grade_no IS NOT NULL
ORDER BY j.tenant_id, j.pupil_id, j.subject_no, j.aspect_no, w.census_on DESC, w.no DESC;

COMMENT ON VIEW latest_judgements IS 'A value stands until a later one: a status says why there is none, and replaces none';

CREATE VIEW current_targets WITH (security_invoker = true) AS
SELECT t.* FROM (
    SELECT t.*, rank() OVER (PARTITION BY t.tenant_id, t.pupil_id, t.subject_no, t.aspect_no ORDER BY t.horizon_year) AS nearness
    FROM targets t WHERE t.horizon_year >= extract(year FROM (now() AT TIME ZONE 'Europe/London') - interval '8 months')
) t WHERE t.nearness = 1;

COMMENT ON VIEW current_targets IS 'An academic year begins on 1 September, eight months into its calendar year';

GRANT SELECT ON school_roll, latest_judgements, current_targets TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
