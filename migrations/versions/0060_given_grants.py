"""Clients belong to tenants and may share names; grants have a kind and a giver, and may be on a local authority's maintained schools."""

from migrations.steps import build_index, run_each

revision, down_revision, branch_labels, depends_on = "0060", "0059", None, None

NIL = "'00000000-0000-0000-0000-000000000000'"

NAME_CLIENT = """
CREATE OR REPLACE FUNCTION name_client() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.display_name IS NULL THEN  -- of a program that knows one name alone
        NEW.display_name := NEW.name;
    ELSIF EXISTS (SELECT FROM clients WHERE name = NEW.name) THEN
        NEW.name := NEW.name || ' ' || NEW.id;
    END IF;
    RETURN NEW;
END $$
"""
GRANTS_TARGETS = """
DO $$ BEGIN
    ALTER TABLE grants DROP CONSTRAINT grants_target_check, DROP CONSTRAINT grants_check;
    ALTER TABLE grants
        ADD CONSTRAINT grants_target_check CHECK (target IN ('installation', 'trusts', 'schools', 'localAuthority', 'trust', 'school')),
        ADD CONSTRAINT grants_check CHECK (
            (target IN ('trust', 'school')) = (target_id IS NOT NULL) AND (target = 'localAuthority') = (local_authority IS NOT NULL)
        );
END $$
"""
IS_MAINTAINED = """
CREATE OR REPLACE FUNCTION is_maintained(s schools) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT s.tenant_id = s.id AND s.status <> 'closed' AND CASE WHEN s.kind IS NULL
        THEN NOT EXISTS (SELECT FROM memberships m WHERE m.school_id = s.id)
        ELSE s.kind IN (
            'Community school', 'Voluntary aided school', 'Voluntary controlled school', 'Foundation school', 'Community special school',
            'Foundation special school', 'Local authority nursery school', 'Pupil referral unit'
        ) END
$$
"""
DERIVE_REACH = f"""
CREATE OR REPLACE FUNCTION derive_reach(for_clients uuid[] DEFAULT NULL) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT 1 FROM clients WHERE for_clients IS NULL OR id = ANY (for_clients) ORDER BY id FOR UPDATE;
    UPDATE clients SET reach_version = reach_version + 1 WHERE for_clients IS NULL OR id = ANY (for_clients);
    DELETE FROM reach WHERE for_clients IS NULL OR client_id = ANY (for_clients);
    INSERT INTO reach (client_id, tenant_id, school_id, grant_id, scopes, starts_at, ends_at)
    SELECT DISTINCT g.client_id, t.tenant_id, t.school_id, g.id, g.scopes, g.starts_at, LEAST(g.expires_at, t.until)
    FROM grants g
    JOIN clients c ON c.id = g.client_id AND c.revoked_at IS NULL
    CROSS JOIN LATERAL (
        SELECT {NIL}::uuid AS tenant_id, {NIL}::uuid AS school_id, NULL::timestamptz AS until WHERE g.target = 'installation'
        UNION ALL SELECT s.tenant_id, s.id, NULL FROM schools s WHERE g.target = 'schools'
        UNION ALL SELECT s.tenant_id, s.id, NULL FROM schools s WHERE g.target = 'school' AND s.id = g.target_id
        UNION ALL SELECT s.tenant_id, s.id, NULL FROM schools s WHERE g.target = 'trust' AND s.tenant_id = g.target_id
        UNION ALL SELECT t.id, t.id, NULL FROM trusts t WHERE g.target = 'trusts' OR (g.target = 'trust' AND t.id = g.target_id)
        UNION ALL SELECT s.tenant_id, s.id, (s.closed_on + 1)::timestamp AT TIME ZONE 'Europe/London' FROM schools s
            WHERE g.target = 'localAuthority' AND s.local_authority_code = g.local_authority AND is_maintained(s)
    ) t
    WHERE g.revoked_at IS NULL AND (g.of_tenant = {NIL} OR t.tenant_id = g.of_tenant) AND (for_clients IS NULL OR g.client_id = ANY (for_clients))
$$
"""
HOLDS_AT = """
CREATE OR REPLACE FUNCTION holds_at(of_client uuid, at_tenant uuid, at_school uuid, needed text[], until timestamptz) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT NOT EXISTS (SELECT FROM unnest(needed) s (scope) WHERE NOT EXISTS (
        SELECT FROM reach r JOIN grants g ON g.id = r.grant_id
        WHERE r.client_id = of_client AND r.tenant_id = at_tenant AND r.school_id = at_school AND s.scope = ANY (r.scopes) AND g.target <> 'trusts'
            AND r.starts_at <= now() AND COALESCE(r.ends_at, 'infinity') > now() AND COALESCE(r.ends_at, 'infinity') >= COALESCE(until, 'infinity')
    ))
$$
"""
HOLDS_GRANT = f"""
CREATE OR REPLACE FUNCTION holds_grant(of_client uuid, g grants, until timestamptz, besides text[]) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT CASE
        WHEN g.target = 'installation' THEN holds_at(of_client, {NIL}, {NIL}, g.scopes || besides, until)
        WHEN g.target = 'trust' THEN holds_at(of_client, g.target_id, g.target_id, g.scopes || besides, until)
        WHEN g.target = 'school' THEN COALESCE(
            (SELECT holds_at(of_client, s.tenant_id, s.id, g.scopes || besides, until) FROM schools s WHERE s.id = g.target_id), false
        )
        ELSE NOT EXISTS (SELECT FROM unnest(g.scopes || besides) s (scope) WHERE NOT EXISTS (
            SELECT FROM grants o WHERE o.client_id = of_client AND o.target = g.target AND o.local_authority IS NOT DISTINCT FROM g.local_authority
                AND s.scope = ANY (o.scopes) AND o.revoked_at IS NULL AND o.starts_at <= now() AND COALESCE(o.expires_at, 'infinity') > now()
                AND COALESCE(o.expires_at, 'infinity') >= COALESCE(until, 'infinity')
        )) END
$$
"""
AWAIT_CONFIRMATION = """
CREATE OR REPLACE FUNCTION await_confirmation(of_client uuid) RETURNS SETOF uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    deadline timestamptz := now() + interval '30 days';
    marked uuid[];
    reached uuid[];
BEGIN
    SELECT array_agg(g.id), array_agg(DISTINCT g.client_id) INTO marked, reached FROM grants g
    WHERE g.given_by = of_client AND g.revoked_at IS NULL AND COALESCE(g.expires_at, 'infinity') > now() AND g.confirm_by IS NULL
        AND NOT holds_grant(of_client, g, g.expires_at, '{grants:write}');
    IF marked IS NULL THEN
        RETURN;
    END IF;
    UPDATE grants SET confirm_by = LEAST(expires_at, deadline), approved_until = expires_at, expires_at = LEAST(expires_at, deadline) WHERE id = ANY (marked);
    PERFORM derive_reach(reached);
    RETURN QUERY SELECT unnest(marked);
END $$
"""
FIND_SOURCE_CLIENT = """
CREATE OR REPLACE FUNCTION find_source_client(in_tenant uuid, of_school uuid, named text) RETURNS uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN (
        SELECT (array_agg(c.id ORDER BY c.id::text = named DESC))[1] FROM clients c
        WHERE named IN (c.display_name, c.id::text) AND c.revoked_at IS NULL AND EXISTS (
            SELECT 1 FROM reach r WHERE r.client_id = c.id AND r.tenant_id = in_tenant AND r.school_id = of_school AND 'pupils:write' = ANY (r.scopes)
                AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
        ) HAVING count(*) = 1 OR bool_or(c.id::text = named)
    );
END $$
"""
RETURNS = """
CREATE OR REPLACE VIEW returns WITH (security_invoker='true') AS
 SELECT p.tenant_id,
    p.window_no,
    w.code AS window_code,
    p.school_id,
    s.urn AS school_urn,
    s.name AS school_name,
    f.subject_no,
    f.aspect_no,
    f.expected,
    f.received,
    (f.expected - f.received) AS missing,
    f.missing_pupil_ids,
    (cardinality(f.missing_pupil_ids) < (f.expected - f.received)) AS missing_cut,
    last.received_at AS last_push_at,
    c.display_name AS last_client,
    last.rejected AS last_rejected,
    w.state,
    w.opens_at,
    w.closes_at,
    last.client_id AS last_client_id
   FROM (((((( SELECT DISTINCT n.tenant_id,
            n.window_no,
            n.school_id
           FROM pins n) p
     JOIN windows w ON (((w.tenant_id = p.tenant_id) AND (w.no = p.window_no))))
     JOIN schools s ON ((s.id = p.school_id)))
     CROSS JOIN LATERAL school_returns(p.tenant_id, p.window_no, p.school_id, 200) f(subject_no, aspect_no, expected, received, missing_pupil_ids))
     LEFT JOIN LATERAL ( SELECT r.received_at,
            r.client_id,
            r.rejected
           FROM receipts r
          WHERE ((r.tenant_id = p.tenant_id) AND (r.school_id = p.school_id) AND (r.window_no = p.window_no) AND (r.subject_no = f.subject_no) AND (r.aspect_no = f.aspect_no))
          ORDER BY r.received_at DESC
         LIMIT 1) last ON (true))
     LEFT JOIN clients c ON ((c.id = last.client_id)))
"""


def upgrade() -> None:
    run_each(
        f"ALTER TABLE clients ADD COLUMN IF NOT EXISTS of_tenant uuid NOT NULL DEFAULT {NIL}, ADD COLUMN IF NOT EXISTS display_name text,"
        " ADD COLUMN IF NOT EXISTS made_by uuid",
        "COMMENT ON COLUMN clients.of_tenant IS 'Whose client it is: listed, rotated and revoked there alone; nil is the installation'",
        "COMMENT ON COLUMN clients.name IS 'Unique over all tenants, for programs before 0060; what people call the client is display_name'",
        NAME_CLIENT,
        "CREATE OR REPLACE TRIGGER name_client BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION name_client()",
        "UPDATE clients SET display_name = name WHERE display_name IS NULL",
    )
    build_index("clients_by_name", "clients", "(of_tenant, display_name) WHERE revoked_at IS NULL", unique=True)
    run_each(
        f"ALTER TABLE grants ADD COLUMN IF NOT EXISTS of_tenant uuid NOT NULL DEFAULT {NIL}, ADD COLUMN IF NOT EXISTS of_school uuid NOT NULL DEFAULT {NIL},"
        " ADD COLUMN IF NOT EXISTS kind text CONSTRAINT grants_kind_check CHECK (kind IN ('front-end', 'sync', 'analytics')),"
        " ADD COLUMN IF NOT EXISTS given_by uuid, ADD COLUMN IF NOT EXISTS local_authority text, ADD COLUMN IF NOT EXISTS confirm_by timestamptz,"
        " ADD COLUMN IF NOT EXISTS approved_until timestamptz",
        "COMMENT ON COLUMN grants.of_tenant IS 'Whose grant it is, whose data it is about; nil for those of the command line'",
        "COMMENT ON COLUMN grants.of_school IS 'The school that it is about, or the tenant as a whole'",
        "COMMENT ON COLUMN grants.given_by IS 'The client that gave it; null for the command line'",
        "COMMENT ON COLUMN grants.confirm_by IS 'Its giver has ended: it ends now unless another confirms it until then'",
        "COMMENT ON COLUMN grants.approved_until IS 'When it expires once it is confirmed'",
        GRANTS_TARGETS,
    )
    build_index("grants_by_giver", "grants", "(given_by)")
    run_each(
        IS_MAINTAINED,
        DERIVE_REACH,
        HOLDS_AT,
        HOLDS_GRANT,
        AWAIT_CONFIRMATION,
        FIND_SOURCE_CLIENT,
        RETURNS,
        "REVOKE ALL ON FUNCTION name_client, is_maintained, holds_at, holds_grant, await_confirmation FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION holds_at, holds_grant, await_confirmation TO markonce_operator",
    )
