"""What rolls said of pupils: former spells and characteristics, and the day of the newest roll about each pupil at each school."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

OF_SCHOOL = "EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {0}.tenant_id AND r.school_id = {0}.school_id)"
OF_PUPIL = "EXISTS (SELECT 1 FROM shared_pupils s WHERE s.tenant_id = {0}.tenant_id AND s.pupil_id = {0}.pupil_id)"
SQL = """
CREATE TABLE enrolment_history (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    pupil_id uuid NOT NULL,
    school_id uuid NOT NULL REFERENCES schools,
    status text NOT NULL,
    from_on date NOT NULL,
    to_on date,
    leaving_reason text,
    until timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id, until),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

CREATE INDEX enrolment_history_by_pupil ON enrolment_history (tenant_id, pupil_id);

CREATE TABLE characteristic_history (
    tenant_id uuid NOT NULL,
    pupil_id uuid NOT NULL,
    kind text NOT NULL,
    from_on date NOT NULL,
    school_id uuid NOT NULL REFERENCES schools,
    to_on date,
    value text NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, pupil_id, kind, from_on, until),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

CREATE TABLE pupil_rolls (
    tenant_id uuid NOT NULL,
    pupil_id uuid NOT NULL,
    school_id uuid NOT NULL REFERENCES schools,
    as_of date NOT NULL,
    PRIMARY KEY (tenant_id, pupil_id, school_id),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

COMMENT ON TABLE pupil_rolls IS 'The day of the newest roll that was about a pupil, by school. An older one changes nothing of the pupil';

CREATE FUNCTION find_main_spells(in_tenant uuid, of_pupils uuid[]) RETURNS TABLE (pupil_id uuid, school_id uuid, from_on date, to_on date)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO 'public', 'pg_temp' AS $$#variable_conflict use_column
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN QUERY SELECT e.pupil_id, e.school_id, e.from_on, e.to_on FROM enrolments e
    WHERE e.tenant_id = in_tenant AND e.pupil_id = ANY (of_pupils) AND e.status IN ('C', 'M');
END $$;

REVOKE ALL ON FUNCTION find_main_spells(uuid, uuid[]) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION find_main_spells(uuid, uuid[]) TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    connection = op.get_bind()
    for statement in SQL.strip().split(";\n\n"):
        connection.exec_driver_sql(statement)
    for table, reached in (
        ("enrolment_history", OF_SCHOOL),
        ("characteristic_history", f"{OF_SCHOOL} OR {OF_PUPIL}"),
        ("pupil_rolls", OF_SCHOOL),
    ):
        connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        connection.exec_driver_sql(f"CREATE POLICY reached ON {table} TO markonce_app USING ({reached.format(table)})")
        connection.exec_driver_sql(
            f"CREATE POLICY maintenance ON {table} TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)"
        )
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO markonce_app, markonce_operator")
