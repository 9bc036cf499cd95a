"""Of which academic year a school's newest roll is; for what is stored already, the newest year in which its pupils have a year group."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SQL = """
ALTER TABLE school_versions ADD COLUMN roll_year smallint;

COMMENT ON COLUMN school_versions.roll_year IS 'The calendar year in which the academic year of the newest roll began';

UPDATE school_versions v SET roll_year = c.roll_year
FROM (
    SELECT tenant_id, school_id, EXTRACT(year FROM max(from_on))::smallint AS roll_year
    FROM characteristics WHERE kind = 'yearGroup' GROUP BY tenant_id, school_id
) c
WHERE v.tenant_id = c.tenant_id AND v.school_id = c.school_id
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
