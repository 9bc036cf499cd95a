"""LAESTABs that schools had before, and the days of the GIAS extracts that were imported: of the public register, which no tenant owns."""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0044", "0043", None, None

SQL = """
CREATE TABLE former_laestabs (
    school_id uuid NOT NULL REFERENCES schools,
    laestab text NOT NULL,
    replaced_on date NOT NULL,
    PRIMARY KEY (school_id, laestab)
);

COMMENT ON TABLE former_laestabs IS 'LAESTABs that schools had until an extract of GIAS said another: local government is reorganised while the URN stays';

CREATE INDEX former_laestabs_by_laestab ON former_laestabs (laestab);

CREATE TABLE register_imports (
    imported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    as_of date NOT NULL,
    forced boolean NOT NULL,
    PRIMARY KEY (imported_at)
);

COMMENT ON TABLE register_imports IS 'The days of the GIAS extracts that were imported, where a day is another than that of the import before';

GRANT SELECT, INSERT, UPDATE, DELETE ON former_laestabs, register_imports TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
