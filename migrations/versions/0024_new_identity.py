"""A new identity for a child: the old id, names, UPNs and references are forgotten, and stay as keyed hashes alone.

The key of a tenant is a random one that no role but the owner reads. `retire_identity` looks at every table by its
columns, as `repoint_pupil` does, and gives new ids also to the rows whose ids another system may know: spells and
targets. Answers stored under an Idempotency-Key that name the old id are deleted.
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

SQL = r"""
CREATE TABLE identifier_keys (
    tenant_id uuid PRIMARY KEY,
    key bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);

COMMENT ON TABLE identifier_keys IS 'The key with which a tenant''s retired identifiers are hashed; 64 bytes';

ALTER TABLE identifier_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY maintenance ON identifier_keys TO CURRENT_USER USING (true) WITH CHECK (true);

CREATE TABLE retired_identifiers (
    tenant_id uuid NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, hash)
);

COMMENT ON TABLE retired_identifiers IS 'HMAC-SHA256 of the names with birthday, UPNs and references that children had before a new identity';

ALTER TABLE retired_identifiers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY maintenance ON retired_identifiers TO CURRENT_USER USING (true) WITH CHECK (true);

CREATE FUNCTION hash_identifier(key bytea, identifier text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE SET search_path = public, pg_temp AS $$
DECLARE
    inner_key bytea := key;
    outer_key bytea := key;
BEGIN
    FOR i IN 0..63 LOOP
        inner_key := set_byte(inner_key, i, get_byte(key, i) # 54);
        outer_key := set_byte(outer_key, i, get_byte(key, i) # 92);
    END LOOP;
    RETURN sha256(outer_key || sha256(inner_key || convert_to(identifier, 'UTF8')));
END $$;

COMMENT ON FUNCTION hash_identifier IS 'HMAC-SHA256 (RFC 2104) with a key of 64 bytes';

REVOKE ALL ON FUNCTION hash_identifier FROM PUBLIC;

CREATE FUNCTION find_retired(in_tenant uuid, identifiers text[]) RETURNS integer[] LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    tenant_key bytea;
BEGIN
    PERFORM acts_in(in_tenant);
    SELECT k.key INTO tenant_key FROM identifier_keys k WHERE k.tenant_id = in_tenant;
    IF tenant_key IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(
        SELECT n::integer FROM unnest(identifiers) WITH ORDINALITY AS g (identifier, n)
        JOIN retired_identifiers r ON r.tenant_id = in_tenant AND r.hash = hash_identifier(tenant_key, g.identifier) ORDER BY n
    );
END $$;

COMMENT ON FUNCTION find_retired IS 'Which of these identifiers (by their place, from 1) a child had before a new identity';

REVOKE ALL ON FUNCTION find_retired FROM PUBLIC;

GRANT EXECUTE ON FUNCTION find_retired TO markonce_app, markonce_operator;

CREATE FUNCTION renew_id(id uuid) RETURNS uuid LANGUAGE sql VOLATILE SET search_path = public, pg_temp AS $$
    SELECT (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-' || substr(id::text, 15, 4) || '-' || substr(gen_random_uuid()::text, 20))::uuid
    FROM (SELECT lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') AS h) t
$$;

COMMENT ON FUNCTION renew_id IS 'A new id of the same type: UUIDv7 with the type number of the old one';

REVOKE ALL ON FUNCTION renew_id FROM PUBLIC;

CREATE FUNCTION retire_identity(in_tenant uuid, old_pupil uuid, new_pupil uuid, names text[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    tenant_key bytea;
    named record;
    renewed uuid;
BEGIN
    PERFORM acts_in(in_tenant);
    INSERT INTO identifier_keys (tenant_id) VALUES (in_tenant) ON CONFLICT DO NOTHING;
    SELECT k.key INTO tenant_key FROM identifier_keys k WHERE k.tenant_id = in_tenant;
    INSERT INTO retired_identifiers (tenant_id, hash)
    SELECT in_tenant, hash_identifier(tenant_key, x.identifier) FROM (
        SELECT unnest(names) AS identifier
        UNION SELECT 'upn ' || u.upn FROM upns u WHERE u.tenant_id = in_tenant AND u.pupil_id = old_pupil
        UNION SELECT concat_ws(' ', 'reference', e.source, e.school_id, e.value) FROM external_ids e
            WHERE e.tenant_id = in_tenant AND e.kind = 'pupil' AND e.id = old_pupil
    ) x ON CONFLICT DO NOTHING;
    IF to_regclass('public.identity_history') IS NOT NULL THEN
        DELETE FROM identity_history h WHERE h.tenant_id = in_tenant AND (
            h.pupil_id = old_pupil OR h.upn IN (SELECT u.upn FROM upns u WHERE u.tenant_id = in_tenant AND u.pupil_id = old_pupil)
        );
    END IF;
    DELETE FROM upns WHERE tenant_id = in_tenant AND pupil_id = old_pupil;
    DELETE FROM external_ids WHERE tenant_id = in_tenant AND kind = 'pupil' AND id = old_pupil;
    DELETE FROM record_changes WHERE tenant_id = in_tenant AND old_pupil IN (pupil_id, other_id);
    FOR named IN
        SELECT e.id FROM enrolments e WHERE e.tenant_id = in_tenant AND e.pupil_id = old_pupil
        UNION SELECT e.id FROM enrolment_history e WHERE e.tenant_id = in_tenant AND e.pupil_id = old_pupil
        UNION SELECT t.id FROM targets t WHERE t.tenant_id = in_tenant AND t.pupil_id = old_pupil
        UNION SELECT t.id FROM target_history t WHERE t.tenant_id = in_tenant AND t.pupil_id = old_pupil
    LOOP
        renewed := renew_id(named.id);
        UPDATE enrolments SET id = renewed WHERE tenant_id = in_tenant AND id = named.id;
        UPDATE enrolment_history SET id = renewed WHERE tenant_id = in_tenant AND id = named.id;
        UPDATE targets SET id = renewed WHERE tenant_id = in_tenant AND id = named.id;
        UPDATE target_history SET id = renewed WHERE tenant_id = in_tenant AND id = named.id;
        DELETE FROM idempotency WHERE strpos(answer, named.id::text) > 0;
    END LOOP;
    PERFORM repoint_pupil(in_tenant, old_pupil, new_pupil);
    DELETE FROM idempotency WHERE strpos(answer, old_pupil::text) > 0;
    DELETE FROM pupils WHERE tenant_id = in_tenant AND id = old_pupil;
END $$;

COMMENT ON FUNCTION retire_identity IS 'Gives all that is stored of a pupil to a new one, and forgets who it was: names, UPNs and references stay as hashes';

REVOKE ALL ON FUNCTION retire_identity FROM PUBLIC;

GRANT EXECUTE ON FUNCTION retire_identity TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
