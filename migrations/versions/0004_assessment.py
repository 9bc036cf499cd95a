"""Subjects, schemes with versioned grades, windows and what they collect, judgements and targets with history."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JUDGEMENT = """
    tenant_id uuid,
    academic_year smallint,
    pupil_id uuid,
    window_no smallint,
    subject_no smallint,
    aspect_no smallint,
    school_id uuid NOT NULL,
    scheme_version_no smallint NOT NULL,
    grade_no smallint,
    mark numeric(8, 2),
    status_code text,
    recorded_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    recorded_at_school_id uuid NOT NULL,
    client_id uuid NOT NULL,
    actor text,
    source text,
    method text,
    version integer NOT NULL DEFAULT 1,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
"""

TARGET = """
    tenant_id uuid,
    id uuid,
    pupil_id uuid NOT NULL,
    school_id uuid NOT NULL,
    subject_no smallint NOT NULL,
    aspect_no smallint NOT NULL,
    horizon_year smallint NOT NULL,
    horizon_point text NOT NULL,
    basis text NOT NULL,
    scheme_version_no smallint NOT NULL,
    grade_no smallint NOT NULL,
    visibility text NOT NULL DEFAULT 'school',
    locked_at timestamptz,
    recorded_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    client_id uuid NOT NULL,
    actor text,
    version integer NOT NULL DEFAULT 1,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
"""

SQL = f"""
CREATE TABLE subjects (
    tenant_id uuid,
    id uuid,
    no smallint NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    derived boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, no),
    UNIQUE (tenant_id, code)
);

CREATE INDEX subjects_by_id ON subjects (id);

CREATE TABLE aspects (
    tenant_id uuid,
    no smallint,
    code text NOT NULL,
    name text NOT NULL,
    counted boolean NOT NULL,
    PRIMARY KEY (tenant_id, no),
    UNIQUE (tenant_id, code)
);

CREATE TABLE schemes (
    tenant_id uuid,
    id uuid,
    code text NOT NULL,
    name text NOT NULL,
    school_id uuid REFERENCES schools,
    derived boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
);

CREATE INDEX schemes_by_id ON schemes (id);

CREATE TABLE scheme_versions (
    tenant_id uuid,
    no smallint,
    scheme_id uuid NOT NULL,
    version smallint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, no),
    UNIQUE (tenant_id, scheme_id, version),
    FOREIGN KEY (tenant_id, scheme_id) REFERENCES schemes
);

CREATE TABLE grades (
    tenant_id uuid,
    scheme_version_no smallint,
    no smallint,
    code text NOT NULL,
    label text NOT NULL,
    rank smallint,
    value numeric(8, 2),
    points numeric(8, 2),
    year_group text,
    band text,
    eligible boolean NOT NULL,
    valid boolean NOT NULL,
    expected boolean NOT NULL,
    higher boolean NOT NULL,
    PRIMARY KEY (tenant_id, scheme_version_no, no),
    UNIQUE (tenant_id, scheme_version_no, code),
    FOREIGN KEY (tenant_id, scheme_version_no) REFERENCES scheme_versions,
    CHECK (no > 0),
    CHECK (expected OR NOT higher),
    CHECK (valid OR NOT expected),
    CHECK (eligible OR NOT valid)
);

CREATE VIEW scheme_grades WITH (security_invoker = true) AS
SELECT v.tenant_id, v.scheme_id, v.version AS scheme_version, g.scheme_version_no, g.no, g.code, g.label, g.rank, g.value, g.points, g.year_group, g.band,
    g.eligible, g.valid, g.expected, g.higher
FROM grades g JOIN scheme_versions v ON v.tenant_id = g.tenant_id AND v.no = g.scheme_version_no;

CREATE TABLE windows (
    tenant_id uuid,
    id uuid,
    no smallint NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    academic_year smallint NOT NULL REFERENCES academic_years,
    census_on date NOT NULL,
    opens_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL,
    accept_until timestamptz,
    state text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'open', 'closed', 'locked')),
    statutory boolean NOT NULL,
    purpose text NOT NULL,
    decision text NOT NULL,
    frequency_reasons jsonb,
    year_groups text[] NOT NULL,
    published_at timestamptz,
    version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, no),
    UNIQUE (tenant_id, code),
    CHECK (closes_at > opens_at),
    CHECK (accept_until >= closes_at)
);

CREATE INDEX windows_by_id ON windows (id);

CREATE TABLE collects (
    tenant_id uuid,
    window_no smallint,
    subject_no smallint,
    aspect_no smallint,
    school_id uuid,
    scheme_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, window_no, subject_no, aspect_no, school_id),
    FOREIGN KEY (tenant_id, window_no) REFERENCES windows (tenant_id, no) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, subject_no) REFERENCES subjects (tenant_id, no),
    FOREIGN KEY (tenant_id, scheme_id) REFERENCES schemes
);

COMMENT ON COLUMN collects.school_id IS 'A school, or the tenant''s own id for every school that has no line of its own';

CREATE TABLE pins (
    tenant_id uuid,
    window_no smallint,
    school_id uuid,
    subject_no smallint,
    aspect_no smallint,
    scheme_version_no smallint NOT NULL,
    PRIMARY KEY (tenant_id, window_no, school_id, subject_no, aspect_no),
    FOREIGN KEY (tenant_id, window_no) REFERENCES windows (tenant_id, no) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, scheme_version_no) REFERENCES scheme_versions
);

COMMENT ON TABLE pins IS 'The scheme version of each school, subject and aspect, fixed when the window opened';

CREATE TABLE judgements ({JUDGEMENT}) PARTITION BY LIST (academic_year);

ALTER TABLE judgements ADD PRIMARY KEY (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no) INCLUDE (grade_no);

CREATE INDEX judgements_by_school ON judgements (tenant_id, school_id, window_no);

CREATE INDEX judgements_by_pupil ON judgements (pupil_id);

CREATE TABLE judgement_history ({JUDGEMENT}, until timestamptz NOT NULL) PARTITION BY LIST (academic_year);

ALTER TABLE judgement_history ADD PRIMARY KEY (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, version);

CREATE TABLE targets ({TARGET});

ALTER TABLE targets ADD PRIMARY KEY (tenant_id, id),
    ADD UNIQUE (tenant_id, pupil_id, subject_no, aspect_no, horizon_year, horizon_point, basis),
    ADD FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils;

CREATE INDEX targets_by_id ON targets (id);

CREATE INDEX targets_by_school ON targets (tenant_id, school_id);

CREATE TABLE target_history ({TARGET}, until timestamptz NOT NULL);

ALTER TABLE target_history ADD PRIMARY KEY (tenant_id, id, version);

CREATE FUNCTION prepare_years(first smallint, last smallint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE y smallint;
BEGIN
    FOR y IN first..last LOOP
        IF NOT EXISTS (SELECT 1 FROM academic_years WHERE year = y) THEN
            INSERT INTO academic_years VALUES (y);
            EXECUTE format('CREATE TABLE judgements_%s PARTITION OF judgements FOR VALUES IN (%s)', y, y);
            EXECUTE format('CREATE TABLE judgement_history_%s PARTITION OF judgement_history FOR VALUES IN (%s)', y, y);
        END IF;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION prepare_years FROM PUBLIC;

GRANT SELECT, INSERT, UPDATE, DELETE ON subjects, aspects, schemes, scheme_versions, grades, windows, collects, pins, judgements, judgement_history, targets, target_history TO markonce_app;

GRANT SELECT ON scheme_grades TO markonce_app, markonce_operator;

GRANT SELECT, INSERT, UPDATE, DELETE ON subjects, aspects, schemes, scheme_versions, grades, windows, collects, pins, judgements, judgement_history, targets, target_history TO markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
