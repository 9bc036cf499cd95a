-- The tables that pgbench and the ordinary servers use, as they were when the limit was set: what is measured against does not move with the product.
CREATE SCHEMA fixed;

CREATE TABLE fixed.schools (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    urn integer NOT NULL UNIQUE,
    laestab text,
    ukprn text,
    name text NOT NULL,
    local_authority_code text NOT NULL,
    local_authority text NOT NULL,
    kind text,
    phase text,
    status text NOT NULL,
    low_age smallint,
    high_age smallint,
    opened_on date,
    closed_on date,
    town text,
    postcode text
);

CREATE UNIQUE INDEX ON fixed.schools (tenant_id, id);

CREATE TABLE fixed.subjects (
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

CREATE TABLE fixed.grades (
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
    UNIQUE (tenant_id, scheme_version_no, code)
);

CREATE TABLE fixed.windows (
    tenant_id uuid,
    id uuid,
    no smallint NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    academic_year smallint NOT NULL,
    census_on date NOT NULL,
    opens_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL,
    state text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, no),
    UNIQUE (tenant_id, code)
);

CREATE TABLE fixed.pins (
    tenant_id uuid,
    window_no smallint,
    school_id uuid,
    subject_no smallint,
    aspect_no smallint,
    scheme_version_no smallint NOT NULL,
    PRIMARY KEY (tenant_id, window_no, school_id, subject_no, aspect_no)
);

CREATE TABLE fixed.pupils (
    tenant_id uuid,
    id uuid,
    school_id uuid NOT NULL,
    upn text,
    surname text NOT NULL,
    forename text NOT NULL,
    date_of_birth date NOT NULL,
    sex text NOT NULL,
    year_group text NOT NULL,
    version integer NOT NULL,
    xid xid8 NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX ON fixed.pupils (tenant_id, school_id, id);

CREATE TABLE fixed.enrolments (
    tenant_id uuid,
    id uuid,
    pupil_id uuid NOT NULL,
    school_id uuid NOT NULL,
    status text NOT NULL,
    from_on date NOT NULL,
    to_on date,
    leaving_reason text,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, pupil_id, school_id, from_on)
);

CREATE INDEX ON fixed.enrolments (tenant_id, school_id, pupil_id);

CREATE TABLE fixed.judgements (
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
) PARTITION BY LIST (academic_year);

ALTER TABLE fixed.judgements ADD PRIMARY KEY (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no) INCLUDE (grade_no);

CREATE INDEX ON fixed.judgements (tenant_id, school_id, window_no);

CREATE INDEX ON fixed.judgements (pupil_id);

CREATE TABLE fixed.targets (
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
    visibility text NOT NULL,
    locked_at timestamptz,
    recorded_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    client_id uuid NOT NULL,
    actor text,
    version integer NOT NULL,
    xid xid8 NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, pupil_id, subject_no, aspect_no, horizon_year, horizon_point, basis)
);

CREATE INDEX ON fixed.targets (tenant_id, school_id);
