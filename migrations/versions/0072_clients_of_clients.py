"""Functions by which a client makes clients and gives grants, within its own grants, and views of what it may see of them.

The application's role has no right to write these tables. Each function finds the caller itself and checks all that the
API checks.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0072", "0071", None, None

NIL = "'00000000-0000-0000-0000-000000000000'"
CALLER = "NULLIF(current_setting('markonce.caller', true), '')::uuid"
IN_FORCE = "r.starts_at <= now() AND COALESCE(r.ends_at, 'infinity') > now()"
AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"
NEVER = "'{clients:write,grants:write,imports:write}'::text[]"

ACTS_FOR = f"""
CREATE OR REPLACE FUNCTION acts_for(needed text, at_tenant uuid, at_school uuid) RETURNS uuid LANGUAGE plpgsql STABLE {AS_OWNER} $$
DECLARE
    caller uuid := {CALLER};
BEGIN
    IF NOT EXISTS (
        SELECT FROM reach r JOIN clients c ON c.id = r.client_id AND c.revoked_at IS NULL
        WHERE r.client_id = caller AND r.tenant_id = at_tenant AND r.school_id = at_school AND needed = ANY (r.scopes) AND {IN_FORCE}
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = format('the caller does not hold %s there', needed);
    END IF;
    RETURN caller;
END $$
"""
MAKE_CLIENT = f"""
CREATE OR REPLACE FUNCTION make_client(new_id uuid, in_tenant uuid, called text, at_origins text[], secret_sha256 bytea) RETURNS boolean
LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    caller uuid := acts_for('clients:write', in_tenant, in_tenant);
BEGIN
    IF octet_length(secret_sha256) IS DISTINCT FROM 32 OR char_length(trim(called)) NOT BETWEEN 1 AND 200 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a client has a name and a secret';
    END IF;
    INSERT INTO clients (id, name, display_name, auth_method, origins, of_tenant, made_by)
    VALUES (new_id, called, called, 'client_secret', at_origins, in_tenant, caller)
    ON CONFLICT (of_tenant, display_name) WHERE revoked_at IS NULL DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO client_secrets (client_id, sha256) VALUES (new_id, secret_sha256);
    RETURN true;
END $$
"""
LOCK_OWN_CLIENT = f"""
CREATE OR REPLACE FUNCTION lock_own_client(of_client uuid) RETURNS clients LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    found_client clients;
BEGIN
    SELECT * INTO found_client FROM clients WHERE id = of_client;
    IF NOT FOUND THEN
        RAISE insufficient_privilege USING MESSAGE = 'the client is of another tenant';
    END IF;
    PERFORM acts_for('clients:write', found_client.of_tenant, found_client.of_tenant);
    PERFORM 1 FROM clients WHERE id IN (of_client, {CALLER}) ORDER BY id FOR UPDATE;
    PERFORM acts_for('clients:write', found_client.of_tenant, found_client.of_tenant);
    SELECT * INTO found_client FROM clients WHERE id = of_client;
    RETURN found_client;
END $$
"""
MAY_ROTATE = f"""
CREATE OR REPLACE FUNCTION may_rotate(of_client uuid) RETURNS boolean LANGUAGE sql STABLE {AS_OWNER} $$
    SELECT NOT EXISTS (
        SELECT FROM grants g JOIN clients c ON c.id = g.client_id
        WHERE g.client_id = of_client AND g.client_id <> {CALLER} AND g.revoked_at IS NULL AND COALESCE(g.expires_at, 'infinity') > now()
            AND g.of_tenant IN ({NIL}, c.of_tenant) AND NOT holds_grant({CALLER}, g, g.expires_at, '{{}}')
    )
$$
"""
ROTATE_CLIENT = f"""
CREATE OR REPLACE FUNCTION rotate_client(of_client uuid, secret_sha256 bytea, overlap interval) RETURNS void LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    c clients := lock_own_client(of_client);
BEGIN
    IF NOT may_rotate(of_client) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the client holds more than the caller';
    END IF;
    IF c.revoked_at IS NOT NULL OR c.auth_method <> 'client_secret' OR octet_length(secret_sha256) IS DISTINCT FROM 32
        OR overlap IS NULL OR overlap NOT BETWEEN interval '0' AND interval '7 days'
    THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the client has no secret to rotate';
    END IF;
    UPDATE client_secrets SET expires_at = now() + overlap WHERE client_id = of_client AND COALESCE(expires_at, 'infinity') > now() + overlap;
    INSERT INTO client_secrets (client_id, sha256) VALUES (of_client, secret_sha256);
END $$
"""
END_CLIENT = f"""
CREATE OR REPLACE FUNCTION end_client(of_client uuid) RETURNS SETOF uuid LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    c clients := lock_own_client(of_client);
BEGIN
    UPDATE clients SET revoked_at = now() WHERE id = of_client AND revoked_at IS NULL;
    PERFORM derive_reach(ARRAY[of_client]);
    RETURN QUERY SELECT await_confirmation(of_client);
END $$
"""
GIVE_GRANT = f"""
CREATE OR REPLACE FUNCTION give_grant(
    new_id uuid, to_client uuid, on_tenant uuid, on_school uuid, with_scopes text[], purpose_is text, kind_is text, agreement text, approver text, until timestamptz
) RETURNS void LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    caller uuid := acts_for('grants:write', on_tenant, on_school);
BEGIN
    IF on_tenant = {NIL} OR to_client IS NULL OR to_client = caller THEN
        RAISE insufficient_privilege USING MESSAGE = 'no client gives a grant on the installation, or to itself';
    END IF;
    PERFORM 1 FROM clients WHERE id IN (caller, to_client) ORDER BY id FOR UPDATE;
    IF NOT EXISTS (SELECT FROM clients WHERE id = to_client AND revoked_at IS NULL) THEN
        RAISE insufficient_privilege USING MESSAGE = 'there is no such client';
    END IF;
    IF COALESCE(cardinality(with_scopes), 0) = 0 OR with_scopes && {NEVER} OR array_position(with_scopes, NULL) IS NOT NULL
        OR NOT holds_at(caller, on_tenant, on_school, array_append(with_scopes, 'grants:write'), until)
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'the caller does not hold this there, or not as long';
    END IF;
    IF until <= now() THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a grant expires later than it begins';
    END IF;
    INSERT INTO grants (id, client_id, target, target_id, scopes, purpose, agreement_version, approved_by, expires_at, kind, given_by, of_tenant, of_school)
    VALUES (new_id, to_client, CASE WHEN EXISTS (SELECT FROM trusts WHERE id = on_school) THEN 'trust' ELSE 'school' END, on_school, with_scopes,
        purpose_is, agreement, approver, until, kind_is, caller, on_tenant, on_school);
    PERFORM derive_reach(ARRAY[to_client]);
END $$
"""
LOCK_GIVEN_GRANT = f"""
CREATE OR REPLACE FUNCTION lock_given_grant(of_grant uuid) RETURNS grants LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    g grants;
BEGIN
    SELECT * INTO g FROM grants WHERE id = of_grant;
    IF NOT FOUND THEN
        RAISE insufficient_privilege USING MESSAGE = 'the grant is of another tenant';
    END IF;
    PERFORM acts_for('grants:write', g.of_tenant, g.of_school);
    PERFORM 1 FROM clients WHERE id IN (g.client_id, {CALLER}) ORDER BY id FOR UPDATE;
    PERFORM acts_for('grants:write', g.of_tenant, g.of_school);
    SELECT * INTO g FROM grants WHERE id = of_grant;
    RETURN g;
END $$
"""
IS_OVER = "g.revoked_at IS NOT NULL OR g.expires_at <= now()"
NARROW_GRANT = f"""
CREATE OR REPLACE FUNCTION narrow_grant(of_grant uuid, to_scopes text[], until timestamptz) RETURNS SETOF uuid LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    g grants := lock_given_grant(of_grant);
BEGIN
    IF {IS_OVER} OR NOT to_scopes <@ g.scopes OR COALESCE(cardinality(to_scopes), 0) = 0 OR until <= now() OR until > g.expires_at THEN
        RAISE insufficient_privilege USING MESSAGE = 'a narrowed grant holds less than before';
    END IF;
    UPDATE grants SET scopes = to_scopes, expires_at = LEAST(expires_at, until),
        approved_until = CASE WHEN confirm_by IS NOT NULL THEN LEAST(approved_until, until) END
    WHERE id = of_grant;
    PERFORM derive_reach(ARRAY[g.client_id]);
    RETURN QUERY SELECT await_confirmation(g.client_id);
END $$
"""
EXTEND_GRANT = f"""
CREATE OR REPLACE FUNCTION extend_grant(of_grant uuid, until timestamptz) RETURNS void LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    g grants := lock_given_grant(of_grant);
BEGIN
    IF {IS_OVER} OR g.confirm_by IS NOT NULL OR g.client_id = {CALLER} OR g.target NOT IN ('trust', 'school') OR g.scopes && {NEVER}
        OR COALESCE(until, 'infinity') < COALESCE(g.expires_at, 'infinity') OR NOT holds_grant({CALLER}, g, until, '{{grants:write}}')
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'the caller does not hold this, or not as long';
    END IF;
    UPDATE grants SET expires_at = until, given_by = {CALLER} WHERE id = of_grant;
    PERFORM derive_reach(ARRAY[g.client_id]);
END $$
"""
END_GRANT = f"""
CREATE OR REPLACE FUNCTION end_grant(of_grant uuid) RETURNS SETOF uuid LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    g grants := lock_given_grant(of_grant);
BEGIN
    UPDATE grants SET revoked_at = now() WHERE id = of_grant AND revoked_at IS NULL;
    PERFORM derive_reach(ARRAY[g.client_id]);
    RETURN QUERY SELECT await_confirmation(g.client_id);
END $$
"""
CONFIRM_GRANT = f"""
CREATE OR REPLACE FUNCTION confirm_grant(of_grant uuid) RETURNS void LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    g grants := lock_given_grant(of_grant);
BEGIN
    IF {IS_OVER} OR g.confirm_by IS NULL OR g.client_id = {CALLER} OR g.target NOT IN ('trust', 'school') OR g.scopes && {NEVER}
        OR NOT holds_grant({CALLER}, g, g.approved_until, '{{grants:write}}')
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'the caller does not hold this, or not as long';
    END IF;
    UPDATE grants SET expires_at = approved_until, approved_until = NULL, confirm_by = NULL, given_by = {CALLER} WHERE id = of_grant;
    PERFORM derive_reach(ARRAY[g.client_id]);
END $$
"""
OWN_CLIENTS = f"""
CREATE OR REPLACE VIEW own_clients WITH (security_barrier = true) AS
SELECT c.of_tenant AS tenant_id, c.id, c.display_name AS name, c.auth_method, c.origins, c.created_at, c.revoked_at, c.made_by
FROM clients c
WHERE EXISTS (
    SELECT FROM reach r WHERE r.client_id = (SELECT {CALLER}) AND r.tenant_id = c.of_tenant AND r.school_id = c.of_tenant
        AND 'clients:write' = ANY (r.scopes) AND {IN_FORCE}
)
"""
GIVEN_GRANTS = f"""
CREATE OR REPLACE VIEW given_grants WITH (security_barrier = true) AS
SELECT g.of_tenant AS tenant_id, g.of_school AS school_id, g.id, g.client_id, c.display_name AS client_name,
    CASE WHEN g.revoked_at IS NOT NULL OR c.revoked_at IS NOT NULL THEN 'revoked' WHEN g.expires_at <= now() THEN 'expired'
        WHEN g.starts_at > now() THEN 'to-come' WHEN g.confirm_by IS NOT NULL THEN 'unconfirmed' ELSE 'in-force' END AS state,
    g.target, g.target_id, COALESCE(s.name, t.name, g.local_authority) AS target_name, g.scopes, g.purpose, g.kind, g.agreement_version, g.approved_by,
    g.approved_at, g.starts_at, g.expires_at, COALESCE(g.revoked_at, c.revoked_at) AS revoked_at, g.confirm_by, g.given_by
FROM grants g JOIN clients c ON c.id = g.client_id
LEFT JOIN schools s ON g.target = 'school' AND s.id = g.target_id
LEFT JOIN trusts t ON g.target = 'trust' AND t.id = g.target_id
WHERE EXISTS (
    SELECT FROM reach r WHERE r.client_id = (SELECT {CALLER}) AND r.tenant_id = g.of_tenant AND r.school_id = g.of_school
        AND 'grants:write' = ANY (r.scopes) AND {IN_FORCE}
)
"""
CALLED = "make_client, rotate_client, end_client, may_rotate, give_grant, narrow_grant, extend_grant, end_grant, confirm_grant"


def upgrade() -> None:
    run_each(
        ACTS_FOR,
        MAKE_CLIENT,
        LOCK_OWN_CLIENT,
        MAY_ROTATE,
        ROTATE_CLIENT,
        END_CLIENT,
        GIVE_GRANT,
        LOCK_GIVEN_GRANT,
        NARROW_GRANT,
        EXTEND_GRANT,
        END_GRANT,
        CONFIRM_GRANT,
        OWN_CLIENTS,
        GIVEN_GRANTS,
        f"REVOKE ALL ON FUNCTION acts_for, lock_own_client, lock_given_grant, {CALLED} FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION {CALLED} TO markonce_app",
        "GRANT SELECT ON own_clients, given_grants TO markonce_app, markonce_operator",
    )
