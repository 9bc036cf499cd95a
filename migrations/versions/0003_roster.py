"""Pupils, their UPNs and external ids, enrolment spells, shared pupils, characteristics as dated spells, groups."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SQL = """
CREATE TABLE pupils (
    tenant_id uuid,
    id uuid,
    school_id uuid NOT NULL REFERENCES schools,
    upn text,
    surname text NOT NULL,
    forename text NOT NULL,
    date_of_birth date NOT NULL,
    sex text NOT NULL CHECK (sex IN ('F', 'M')),
    year_group text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX pupils_by_id ON pupils (id);

CREATE INDEX pupils_by_school ON pupils (tenant_id, school_id, id);

CREATE INDEX pupils_by_name ON pupils (tenant_id, school_id, surname, forename, id);

CREATE TABLE upns (
    tenant_id uuid,
    upn text,
    pupil_id uuid NOT NULL,
    school_id uuid NOT NULL,
    current boolean NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, upn),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

CREATE INDEX upns_by_pupil ON upns (tenant_id, pupil_id);

CREATE TABLE external_ids (
    tenant_id uuid,
    source uuid,
    kind text,
    school_id uuid,
    value text,
    id uuid NOT NULL,
    PRIMARY KEY (tenant_id, source, kind, school_id, value)
);

CREATE INDEX external_ids_by_id ON external_ids (tenant_id, id);

COMMENT ON TABLE external_ids IS 'A client''s own references. Scoped to the school too: two schools of a trust may number their pupils alike';

CREATE TABLE enrolments (
    tenant_id uuid,
    id uuid,
    pupil_id uuid NOT NULL,
    school_id uuid NOT NULL REFERENCES schools,
    status text NOT NULL CHECK (status IN ('C', 'M', 'S', 'G')),
    from_on date NOT NULL,
    to_on date CHECK (to_on >= from_on),
    leaving_reason text,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, pupil_id, school_id, from_on),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

CREATE INDEX enrolments_by_id ON enrolments (id);

CREATE INDEX enrolments_by_school ON enrolments (tenant_id, school_id, pupil_id);

CREATE TABLE shared_pupils (
    tenant_id uuid,
    pupil_id uuid,
    school_id uuid,
    PRIMARY KEY (tenant_id, pupil_id, school_id),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

CREATE TABLE characteristics (
    tenant_id uuid,
    pupil_id uuid,
    kind text,
    from_on date,
    school_id uuid NOT NULL,
    to_on date CHECK (to_on >= from_on),
    value text NOT NULL,
    PRIMARY KEY (tenant_id, pupil_id, kind, from_on),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

CREATE TABLE groups (
    tenant_id uuid,
    id uuid,
    school_id uuid NOT NULL REFERENCES schools,
    kind text NOT NULL CHECK (kind IN ('class', 'registration', 'teaching', 'adhoc')),
    code text NOT NULL,
    name text NOT NULL,
    academic_year smallint NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, school_id, academic_year, code)
);

CREATE INDEX groups_by_id ON groups (id);

CREATE TABLE group_members (
    tenant_id uuid,
    group_id uuid,
    pupil_id uuid,
    from_on date,
    school_id uuid NOT NULL,
    to_on date CHECK (to_on >= from_on),
    PRIMARY KEY (tenant_id, group_id, pupil_id, from_on),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups,
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

CREATE INDEX group_members_by_pupil ON group_members (tenant_id, pupil_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON pupils, upns, external_ids, enrolments, shared_pupils, characteristics, groups, group_members TO markonce_app;

GRANT SELECT, INSERT, UPDATE, DELETE ON pupils, upns, external_ids, enrolments, shared_pupils, characteristics, groups, group_members TO markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
