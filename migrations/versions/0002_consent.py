"""Clients and keys, grants, and the reach derived from them; what was already done (idempotency, used assertions)."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQL = """
CREATE TABLE clients (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    auth_method text NOT NULL CHECK (auth_method IN ('client_secret', 'private_key_jwt')),
    jwks jsonb,
    jwks_uri text,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CHECK (auth_method = 'client_secret' OR jwks IS NOT NULL OR jwks_uri IS NOT NULL)
);

CREATE TABLE client_secrets (
    client_id uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (client_id, sha256)
);

CREATE TABLE signing_keys (
    kid text PRIMARY KEY,
    public_jwk jsonb NOT NULL,
    private_encrypted bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);

CREATE TABLE used_assertions (
    client_id uuid NOT NULL,
    jti text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, jti)
);

CREATE TABLE idempotency (
    client_id uuid NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    answer text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, route, key)
);

CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE grants (
    id uuid PRIMARY KEY,
    client_id uuid NOT NULL REFERENCES clients ON DELETE CASCADE,
    target text NOT NULL CHECK (target IN ('installation', 'trusts', 'schools', 'trust', 'school')),
    target_id uuid,
    scopes text[] NOT NULL,
    purpose text NOT NULL,
    agreement_version text,
    approved_by text NOT NULL,
    approved_at timestamptz NOT NULL DEFAULT now(),
    starts_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    CHECK ((target IN ('trust', 'school')) = (target_id IS NOT NULL))
);

CREATE INDEX grants_by_client ON grants (client_id);

CREATE TABLE reach (
    client_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    school_id uuid NOT NULL,
    grant_id uuid NOT NULL REFERENCES grants ON DELETE CASCADE,
    scopes text[] NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    PRIMARY KEY (client_id, tenant_id, school_id, grant_id)
);

CREATE INDEX reach_by_school ON reach (client_id, school_id);

COMMENT ON TABLE reach IS 'Derived from grants by derive_reach(). A row whose school_id equals its tenant_id is the right over the tenant itself; the nil tenant is the installation';

ALTER TABLE reach ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON reach TO markonce_app USING (client_id = (SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid));

CREATE POLICY maintenance ON reach TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true);

CREATE FUNCTION derive_reach(for_clients uuid[] DEFAULT NULL) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT 1 FROM clients WHERE for_clients IS NULL OR id = ANY (for_clients) ORDER BY id FOR UPDATE;
    DELETE FROM reach WHERE for_clients IS NULL OR client_id = ANY (for_clients);
    INSERT INTO reach (client_id, tenant_id, school_id, grant_id, scopes, starts_at, ends_at)
    SELECT DISTINCT g.client_id, t.tenant_id, t.school_id, g.id, g.scopes, g.starts_at, g.expires_at
    FROM grants g
    JOIN clients c ON c.id = g.client_id AND c.revoked_at IS NULL
    CROSS JOIN LATERAL (
        SELECT '00000000-0000-0000-0000-000000000000'::uuid AS tenant_id, '00000000-0000-0000-0000-000000000000'::uuid AS school_id
        WHERE g.target = 'installation'
        UNION ALL SELECT s.tenant_id, s.id FROM schools s WHERE g.target = 'schools'
        UNION ALL SELECT s.tenant_id, s.id FROM schools s WHERE g.target = 'school' AND s.id = g.target_id
        UNION ALL SELECT s.tenant_id, s.id FROM schools s WHERE g.target = 'trust' AND s.tenant_id = g.target_id
        UNION ALL SELECT t.id, t.id FROM trusts t WHERE g.target = 'trusts' OR (g.target = 'trust' AND t.id = g.target_id)
    ) t
    WHERE g.revoked_at IS NULL AND (for_clients IS NULL OR g.client_id = ANY (for_clients))
$$;

REVOKE ALL ON FUNCTION derive_reach FROM PUBLIC;

GRANT EXECUTE ON FUNCTION derive_reach TO markonce_app, markonce_operator;

GRANT SELECT ON clients, client_secrets, signing_keys, grants, reach TO markonce_app;

GRANT SELECT, INSERT, DELETE ON used_assertions, idempotency TO markonce_app;

GRANT SELECT, INSERT, UPDATE, DELETE ON clients, client_secrets, signing_keys, used_assertions, idempotency, grants, reach TO markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
