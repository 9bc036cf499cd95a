"""The public register: trusts, schools, dated memberships, URN succession; and the tenants that control data."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQL = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'markonce_app') THEN CREATE ROLE markonce_app NOLOGIN; END IF;
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'markonce_operator') THEN CREATE ROLE markonce_operator NOLOGIN; END IF;
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;

GRANT USAGE ON SCHEMA public TO markonce_app, markonce_operator;

CREATE TABLE trusts (
    id uuid PRIMARY KEY,
    group_uid integer NOT NULL UNIQUE,
    group_id text,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('multi-academy', 'single-academy')),
    status text NOT NULL,
    companies_house_number text,
    ukprn text,
    opened_on date,
    closed_on date
);

CREATE TABLE schools (
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

CREATE INDEX schools_by_tenant ON schools (tenant_id, id);

CREATE INDEX schools_by_laestab ON schools (laestab);

COMMENT ON COLUMN schools.tenant_id IS 'Who controls its data: the id of its trust, or its own id';

CREATE TABLE memberships (
    id uuid PRIMARY KEY,
    trust_id uuid NOT NULL REFERENCES trusts,
    school_id uuid NOT NULL REFERENCES schools,
    joined_on date,
    left_on date,
    UNIQUE NULLS NOT DISTINCT (school_id, trust_id, joined_on)
);

CREATE INDEX memberships_by_trust ON memberships (trust_id, school_id);

CREATE TABLE succession (
    predecessor_urn integer,
    successor_urn integer,
    PRIMARY KEY (predecessor_urn, successor_urn)
);

CREATE TABLE academic_years (
    year smallint PRIMARY KEY
);

CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('trust', 'school')),
    prepared_at timestamptz NOT NULL DEFAULT now(),
    workload_budget smallint NOT NULL DEFAULT 3 CHECK (workload_budget BETWEEN 1 AND 3),
    suppression_threshold smallint NOT NULL DEFAULT 6 CHECK (suppression_threshold >= 6)
);

CREATE TABLE school_versions (
    tenant_id uuid,
    school_id uuid,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, school_id)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON trusts, schools, memberships, succession TO markonce_app, markonce_operator;

GRANT SELECT ON academic_years TO markonce_app, markonce_operator;

GRANT SELECT, INSERT, UPDATE ON tenants, school_versions TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
