"""Who changed a grant or a client, and when; and what another client gave is not given on."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0084", "0083", None, None

NIL = "'00000000-0000-0000-0000-000000000000'"
CALLER = "NULLIF(current_setting('markonce.caller', true), '')::uuid"
IN_FORCE = "r.starts_at <= now() AND COALESCE(r.ends_at, 'infinity') > now()"
AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"

GRANT_CHANGES = """
CREATE TABLE IF NOT EXISTS grant_changes (
    grant_id uuid NOT NULL REFERENCES grants ON DELETE CASCADE, no integer NOT NULL, outcome text NOT NULL, scopes text[] NOT NULL,
    expires_at timestamptz, confirm_by timestamptz, changed_by uuid, changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (grant_id, no)
)
"""
CLIENT_CHANGES = """
CREATE TABLE IF NOT EXISTS client_changes (
    client_id uuid NOT NULL REFERENCES clients ON DELETE CASCADE, no integer NOT NULL, outcome text NOT NULL,
    changed_by uuid, changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (client_id, no)
)
"""
NOTE_GRANT_CHANGE = f"""
CREATE OR REPLACE FUNCTION note_grant_change(g grants, what text) RETURNS void LANGUAGE sql {AS_OWNER} $$
    INSERT INTO grant_changes (grant_id, no, outcome, scopes, expires_at, confirm_by, changed_by)
    SELECT g.id, COALESCE(max(c.no), 0) + 1, what, g.scopes, g.expires_at, g.confirm_by, {CALLER} FROM grant_changes c WHERE c.grant_id = g.id
$$
"""
NOTE_CLIENT_CHANGE = f"""
CREATE OR REPLACE FUNCTION note_client_change(of_client uuid, what text) RETURNS void LANGUAGE sql {AS_OWNER} $$
    INSERT INTO client_changes (client_id, no, outcome, changed_by)
    SELECT of_client, COALESCE(max(c.no), 0) + 1, what, {CALLER} FROM client_changes c WHERE c.client_id = of_client
$$
"""
OF_GRANT = f"""
CREATE OR REPLACE FUNCTION note_change_of_grant() RETURNS trigger LANGUAGE plpgsql {AS_OWNER} $$
DECLARE
    what text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        what := 'given';
    ELSIF NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL THEN
        what := 'ended';
    ELSIF NEW.confirm_by IS NOT NULL AND OLD.confirm_by IS NULL THEN
        what := 'unconfirmed';
    ELSIF NEW.confirm_by IS NULL AND OLD.confirm_by IS NOT NULL THEN
        what := 'confirmed';
    ELSIF NOT OLD.scopes <@ NEW.scopes OR COALESCE(NEW.expires_at, 'infinity') < COALESCE(OLD.expires_at, 'infinity') THEN
        what := 'narrowed';
    ELSIF COALESCE(NEW.expires_at, 'infinity') > COALESCE(OLD.expires_at, 'infinity') THEN
        what := 'extended';
    ELSE
        RETURN NULL;
    END IF;
    PERFORM note_grant_change(NEW, what);
    RETURN NULL;
END $$
"""
OF_CLIENT = f"""
CREATE OR REPLACE FUNCTION note_change_of_client() RETURNS trigger LANGUAGE plpgsql {AS_OWNER} $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM note_client_change(NEW.id, 'made');
        RETURN NULL;
    END IF;
    IF NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL THEN
        PERFORM note_client_change(NEW.id, 'revoked');
        PERFORM note_grant_change(g, 'ended') FROM grants g
        WHERE g.client_id = NEW.id AND g.revoked_at IS NULL AND COALESCE(g.expires_at, 'infinity') > now();
    END IF;
    IF NEW.origins IS DISTINCT FROM OLD.origins THEN
        PERFORM note_client_change(NEW.id, 'origins-changed');
    END IF;
    IF NEW.jwks IS DISTINCT FROM OLD.jwks THEN
        PERFORM note_client_change(NEW.id, 'keys-changed');
    END IF;
    RETURN NULL;
END $$
"""
OF_SECRET = f"""
CREATE OR REPLACE FUNCTION note_change_of_secret() RETURNS trigger LANGUAGE plpgsql {AS_OWNER} $$
BEGIN
    IF EXISTS (SELECT FROM clients WHERE id = NEW.client_id AND created_at < now()) THEN  -- not the first one, of the same transaction
        PERFORM note_client_change(NEW.client_id, 'secret-rotated');
    END IF;
    RETURN NULL;
END $$
"""
HOLDS_AT = """
CREATE OR REPLACE FUNCTION holds_at(of_client uuid, at_tenant uuid, at_school uuid, needed text[], until timestamptz) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM unnest(needed) s (scope) WHERE NOT EXISTS (
        SELECT FROM reach r JOIN grants g ON g.id = r.grant_id
        WHERE r.client_id = of_client AND r.tenant_id = at_tenant AND r.school_id = at_school AND s.scope = ANY (r.scopes) AND g.target <> 'trusts'
            AND g.given_by IS NULL
            AND r.starts_at <= now() AND COALESCE(r.ends_at, 'infinity') > now() AND COALESCE(r.ends_at, 'infinity') >= COALESCE(until, 'infinity')
    ))
$$
"""
IS_OVER = "g.revoked_at IS NOT NULL OR g.expires_at <= now() OR EXISTS (SELECT FROM clients c WHERE c.id = g.client_id AND c.revoked_at IS NOT NULL)"
NEVER = "'{clients:write,grants:write,imports:write}'::text[]"
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
CONDITION = """EXISTS (
    SELECT FROM reach r WHERE r.client_id = (SELECT {caller}) AND r.tenant_id = {tenant} AND r.school_id = {school} AND '{scope}' = ANY (r.scopes) AND {in_force}
)"""
GRANT_HISTORY = f"""
CREATE OR REPLACE VIEW grant_history WITH (security_barrier = true) AS
SELECT g.of_tenant AS tenant_id, g.of_school AS school_id, h.grant_id, h.no, h.outcome, h.scopes, h.expires_at, h.confirm_by, h.changed_by, h.changed_at
FROM grant_changes h JOIN grants g ON g.id = h.grant_id
WHERE {CONDITION.format(caller=CALLER, tenant="g.of_tenant", school="g.of_school", scope="grants:write", in_force=IN_FORCE)}
"""
CLIENT_HISTORY = f"""
CREATE OR REPLACE VIEW client_history WITH (security_barrier = true) AS
SELECT c.of_tenant AS tenant_id, h.client_id, h.no, h.outcome, h.changed_by, h.changed_at
FROM client_changes h JOIN clients c ON c.id = h.client_id
WHERE {CONDITION.format(caller=CALLER, tenant="c.of_tenant", school="c.of_tenant", scope="clients:write", in_force=IN_FORCE)}
"""


def upgrade() -> None:
    run_each(
        GRANT_CHANGES,
        CLIENT_CHANGES,
        "COMMENT ON COLUMN grant_changes.changed_by IS 'The client that changed it; null for the command line'",
        "COMMENT ON COLUMN grant_changes.scopes IS 'What the grant has since then, as expires_at and confirm_by'",
        "COMMENT ON COLUMN client_changes.changed_by IS 'The client that changed it; null for the command line'",
        NOTE_GRANT_CHANGE,
        NOTE_CLIENT_CHANGE,
        OF_GRANT,
        OF_CLIENT,
        OF_SECRET,
        "REVOKE ALL ON FUNCTION note_grant_change, note_client_change, note_change_of_grant, note_change_of_client, note_change_of_secret FROM PUBLIC",
        "CREATE OR REPLACE TRIGGER note_change AFTER INSERT OR UPDATE OF scopes, expires_at, revoked_at, confirm_by ON grants"
        " FOR EACH ROW EXECUTE FUNCTION note_change_of_grant()",
        "CREATE OR REPLACE TRIGGER note_change AFTER INSERT OR UPDATE OF revoked_at, origins, jwks ON clients"
        " FOR EACH ROW EXECUTE FUNCTION note_change_of_client()",
        "CREATE OR REPLACE TRIGGER note_change AFTER INSERT ON client_secrets FOR EACH ROW EXECUTE FUNCTION note_change_of_secret()",
        # what was there before the history began, as it is now
        "INSERT INTO grant_changes (grant_id, no, outcome, scopes, expires_at, confirm_by) SELECT id, 1, 'recorded', scopes, expires_at, confirm_by FROM grants g"
        " WHERE NOT EXISTS (SELECT FROM grant_changes c WHERE c.grant_id = g.id) ON CONFLICT DO NOTHING",
        "INSERT INTO client_changes (client_id, no, outcome) SELECT id, 1, 'recorded' FROM clients k"
        " WHERE NOT EXISTS (SELECT FROM client_changes c WHERE c.client_id = k.id) ON CONFLICT DO NOTHING",
        GRANT_HISTORY,
        CLIENT_HISTORY,
        HOLDS_AT,
        EXTEND_GRANT,
        CONFIRM_GRANT,
        "GRANT SELECT ON grant_history, client_history TO markonce_app, markonce_operator",
        "GRANT SELECT ON grant_changes, client_changes TO markonce_operator",
    )
