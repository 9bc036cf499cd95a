"""What the import of the register asks before it changes who controls a school.

The function is SECURITY DEFINER because the answer must not depend on what the importing client reaches: row-level security hides
pupils from the app role, and a school that seems empty would be moved away from its pupils' data. It tells yes or no, nothing else.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SQL = """
CREATE FUNCTION holds_pupils(school_ids uuid[]) RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT COALESCE(array_agg(s.id ORDER BY s.id), '{}')
    FROM schools s
    WHERE s.id = ANY (school_ids) AND (
        EXISTS (SELECT 1 FROM pupils p WHERE p.tenant_id = s.tenant_id AND p.school_id = s.id)
        OR EXISTS (SELECT 1 FROM enrolments e WHERE e.tenant_id = s.tenant_id AND e.school_id = s.id)
        OR EXISTS (SELECT 1 FROM judgements j WHERE j.tenant_id = s.tenant_id AND j.school_id = s.id)
        OR EXISTS (SELECT 1 FROM targets t WHERE t.tenant_id = s.tenant_id AND t.school_id = s.id)
        OR EXISTS (SELECT 1 FROM groups g WHERE g.tenant_id = s.tenant_id AND g.school_id = s.id)
        OR EXISTS (SELECT 1 FROM windows w WHERE w.tenant_id = s.id AND s.tenant_id = s.id)
    )
$$;

COMMENT ON FUNCTION holds_pupils IS 'Which of these schools have pupils, former pupils, groups or windows of their own';

REVOKE ALL ON FUNCTION holds_pupils FROM PUBLIC;

GRANT EXECUTE ON FUNCTION holds_pupils TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
