"""A client registers its public keys by the API, and changes and removes them."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0085", "0084", None, None

CALLER = "NULLIF(current_setting('markonce.caller', true), '')::uuid"
IN_FORCE = "r.starts_at <= now() AND COALESCE(r.ends_at, 'infinity') > now()"
AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"

ARE_PUBLIC_KEYS = f"""
CREATE OR REPLACE FUNCTION are_public_keys(jwks jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE {AS_OWNER} $$
    SELECT COALESCE(jsonb_typeof(jwks -> 'keys') = 'array' AND jsonb_array_length(jwks -> 'keys') BETWEEN 1 AND 10 AND NOT EXISTS (
        SELECT FROM jsonb_array_elements(jwks -> 'keys') k
        WHERE jsonb_typeof(k) <> 'object' OR COALESCE(k ->> 'kty' NOT IN ('EC', 'OKP', 'RSA'), true) OR k ?| ARRAY['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']
    ), false)
$$
"""
MAKE_KEY_CLIENT = f"""
CREATE OR REPLACE FUNCTION make_key_client(new_id uuid, in_tenant uuid, called text, at_origins text[], public_keys jsonb) RETURNS boolean
LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    caller uuid := acts_for('clients:write', in_tenant, in_tenant);
BEGIN
    IF NOT are_public_keys(public_keys) OR char_length(trim(called)) NOT BETWEEN 1 AND 200 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a client has a name and public keys';
    END IF;
    INSERT INTO clients (id, name, display_name, auth_method, jwks, origins, of_tenant, made_by)
    VALUES (new_id, called, called, 'private_key_jwt', public_keys, at_origins, in_tenant, caller)
    ON CONFLICT (of_tenant, display_name) WHERE revoked_at IS NULL DO NOTHING;
    RETURN FOUND;
END $$
"""
SET_CLIENT_KEYS = f"""
CREATE OR REPLACE FUNCTION set_client_keys(of_client uuid, public_keys jsonb, overlap interval) RETURNS void LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    c clients := lock_own_client(of_client);
BEGIN
    IF NOT may_rotate(of_client) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the client holds more than the caller';
    END IF;
    IF c.revoked_at IS NOT NULL OR NOT are_public_keys(public_keys) OR overlap IS NULL OR overlap NOT BETWEEN interval '0' AND interval '7 days' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the client is revoked, or these are no public keys';
    END IF;
    UPDATE clients SET auth_method = 'private_key_jwt', jwks = public_keys WHERE id = of_client;
    UPDATE client_secrets SET expires_at = now() + overlap WHERE client_id = of_client AND COALESCE(expires_at, 'infinity') > now() + overlap;
END $$
"""
REMOVE_CLIENT_KEYS = f"""
CREATE OR REPLACE FUNCTION remove_client_keys(of_client uuid, secret_sha256 bytea) RETURNS void LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    c clients := lock_own_client(of_client);
BEGIN
    IF NOT may_rotate(of_client) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the client holds more than the caller';
    END IF;
    IF c.revoked_at IS NOT NULL OR c.auth_method <> 'private_key_jwt' OR octet_length(secret_sha256) IS DISTINCT FROM 32 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the client is revoked, or has no keys';
    END IF;
    UPDATE clients SET auth_method = 'client_secret', jwks = NULL WHERE id = of_client;
    UPDATE client_secrets SET expires_at = now() WHERE client_id = of_client AND COALESCE(expires_at, 'infinity') > now();
    INSERT INTO client_secrets (client_id, sha256) VALUES (of_client, secret_sha256);
END $$
"""
CLIENT_KEYS = f"""
CREATE OR REPLACE VIEW client_keys WITH (security_barrier = true) AS
SELECT c.of_tenant AS tenant_id, c.id AS client_id, k.no::integer AS no, k.key ->> 'kid' AS kid, k.key ->> 'kty' AS kty, k.key ->> 'use' AS use, k.key ->> 'alg' AS alg,
    k.key ->> 'crv' AS crv, k.key ->> 'x' AS x, k.key ->> 'y' AS y, k.key ->> 'n' AS n, k.key ->> 'e' AS e
FROM clients c CROSS JOIN LATERAL jsonb_array_elements(c.jwks -> 'keys') WITH ORDINALITY k (key, no)
WHERE EXISTS (
    SELECT FROM reach r WHERE r.client_id = (SELECT {CALLER}) AND r.tenant_id = c.of_tenant AND r.school_id = c.of_tenant
        AND 'clients:write' = ANY (r.scopes) AND {IN_FORCE}
)
"""


def upgrade() -> None:
    run_each(
        ARE_PUBLIC_KEYS,
        MAKE_KEY_CLIENT,
        SET_CLIENT_KEYS,
        REMOVE_CLIENT_KEYS,
        CLIENT_KEYS,
        "REVOKE ALL ON FUNCTION are_public_keys, make_key_client, set_client_keys, remove_client_keys FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION make_key_client, set_client_keys, remove_client_keys TO markonce_app",
        "GRANT SELECT ON client_keys TO markonce_app, markonce_operator",
    )
