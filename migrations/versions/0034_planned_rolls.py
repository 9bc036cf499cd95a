"""Rolls of the coming academic year, which wait for their day: the header, which stays, and the rows, which go when the roll is applied, refused or withdrawn.

A school with planned rolls holds pupils. A new identity takes the rows of the old one with it.
"""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0034", "0033", None, None

SQL = """
CREATE TABLE planned_rolls (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    school_id uuid NOT NULL REFERENCES schools,
    client_id uuid NOT NULL,
    as_of date NOT NULL,
    academic_year smallint NOT NULL,
    complete boolean NOT NULL,
    max_leavers smallint,
    row_count integer NOT NULL,
    digest bytea NOT NULL,
    state text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'applied', 'refused')),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at timestamptz,
    problem text,
    issue_codes text[] NOT NULL DEFAULT '{}',
    created integer,
    updated integer,
    unchanged integer,
    superseded integer,
    rejected integer,
    leavers integer,
    PRIMARY KEY (tenant_id, id)
);

COMMENT ON TABLE planned_rolls IS 'Rolls of the coming academic year, of one school and client each. digest is of the rows as they were sent; problem is the code of the error for which a roll was refused';

CREATE INDEX planned_rolls_by_id ON planned_rolls (id);

CREATE INDEX planned_rolls_by_school ON planned_rolls (tenant_id, school_id, id);

CREATE INDEX planned_rolls_due ON planned_rolls (tenant_id, as_of) WHERE state = 'planned';

CREATE TABLE planned_pupils (
    tenant_id uuid NOT NULL,
    planned_roll_id uuid NOT NULL,
    n integer NOT NULL,
    school_id uuid NOT NULL REFERENCES schools,
    pupil_id uuid,
    reference text,
    upns text[] NOT NULL,
    entry jsonb NOT NULL,
    PRIMARY KEY (tenant_id, planned_roll_id, n),
    FOREIGN KEY (tenant_id, planned_roll_id) REFERENCES planned_rolls ON DELETE CASCADE
);

COMMENT ON TABLE planned_pupils IS 'The rows of planned rolls. pupil_id is whom the row meant when it was sent, reference the client''s, upns the current and former ones in it';

CREATE INDEX planned_pupils_by_pupil ON planned_pupils (tenant_id, pupil_id)
"""
TABLES = ("planned_rolls", "planned_pupils")
DELETE_OLD_IDENTITY = """    DELETE FROM planned_pupils x USING planned_rolls r, pupils p
    WHERE r.tenant_id = in_tenant AND x.tenant_id = in_tenant AND x.planned_roll_id = r.id AND p.tenant_id = in_tenant AND p.id = old_pupil AND (
        x.pupil_id = old_pupil
        OR EXISTS (SELECT 1 FROM upns u WHERE u.tenant_id = in_tenant AND u.pupil_id = old_pupil AND u.upn = ANY (x.upns))
        OR EXISTS (
            SELECT 1 FROM external_ids e WHERE e.tenant_id = in_tenant AND e.kind = 'pupil' AND e.id = old_pupil
                AND e.source = r.client_id AND e.school_id = r.school_id AND e.value = x.reference
        )
        OR (x.entry->>'dateOfBirth' = p.date_of_birth::text AND lower(x.entry->>'surname') = lower(p.surname) AND lower(x.entry->>'forename') = lower(p.forename))
    );
"""
PATCHES = (
    ("retire_identity", "    DELETE FROM upns WHERE", DELETE_OLD_IDENTITY + "    DELETE FROM upns WHERE"),
    (
        "holds_pupils",
        "        OR EXISTS (SELECT 1 FROM groups g",
        "        OR EXISTS (SELECT 1 FROM planned_rolls r WHERE r.tenant_id = s.tenant_id AND r.school_id = s.id)\n"
        "        OR EXISTS (SELECT 1 FROM groups g",
    ),
)
"""Functions of which a line is replaced, wherever they were written last."""


def upgrade() -> None:
    connection = op.get_bind()
    for statement in SQL.strip().split(";\n\n"):
        connection.exec_driver_sql(statement)
    for table in TABLES:
        reached = f"EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {table}.tenant_id AND r.school_id = {table}.school_id)"
        connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        connection.exec_driver_sql(f"CREATE POLICY reached ON {table} TO markonce_app USING ({reached})")
        connection.exec_driver_sql(
            f"CREATE POLICY maintenance ON {table} TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)"
        )
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO markonce_app, markonce_operator")
    for name, before, after in PATCHES:
        definition = connection.exec_driver_sql(
            f"SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = '{name}' AND pronamespace = 'public'::regnamespace"
        ).scalar_one()
        assert definition.count(before) == 1, name
        connection.exec_driver_sql(definition.replace(before, after))
