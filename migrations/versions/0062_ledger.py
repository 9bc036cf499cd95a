"""What the ledger needs: which entries this database has, and the hashes of retired identifiers without their key.

The key of a tenant is made with the tenant, so that a backup from before its first new identity holds it too: without it the
hashes of the ledger would match nothing.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0062", "0061", None, None

STATEMENTS = (
    """
CREATE TABLE IF NOT EXISTS ledger_entries (
    id uuid PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
""",
    "COMMENT ON TABLE ledger_entries IS 'The entries of ledgers whose transactions this database has'",
    "GRANT SELECT, INSERT ON ledger_entries TO markonce_app, markonce_operator",
    """
CREATE OR REPLACE FUNCTION list_new_retired(in_tenant uuid, OUT key_check bytea, OUT hashes bytea[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    SELECT sha256('ledger'::bytea || k.key) INTO key_check FROM identifier_keys k WHERE k.tenant_id = in_tenant;
    hashes := ARRAY(
        SELECT r.hash FROM retired_identifiers r
        WHERE r.tenant_id = in_tenant AND r.xmin::text::bigint = pg_current_xact_id()::text::bigint % 4294967296
    );
END $$
""",
    "COMMENT ON FUNCTION list_new_retired IS 'The hashes that this transaction has retired, for the ledger, and by what the key of the tenant is recognised'",
    """
CREATE OR REPLACE FUNCTION retire_hashes(in_tenant uuid, with_key_check bytea, of_identifiers bytea[]) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    INSERT INTO retired_identifiers (tenant_id, hash)
    SELECT in_tenant, h FROM unnest(of_identifiers) h
    WHERE EXISTS (SELECT 1 FROM identifier_keys k WHERE k.tenant_id = in_tenant AND sha256('ledger'::bytea || k.key) = with_key_check)
    ON CONFLICT DO NOTHING;
    RETURN EXISTS (SELECT 1 FROM identifier_keys k WHERE k.tenant_id = in_tenant AND sha256('ledger'::bytea || k.key) = with_key_check);
END $$
""",
    "COMMENT ON FUNCTION retire_hashes IS 'Retires identifiers again by their hashes, of a ledger; false where the tenant has another key than then'",
    """
CREATE OR REPLACE FUNCTION make_identifier_key(in_tenant uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    INSERT INTO identifier_keys (tenant_id) VALUES (in_tenant) ON CONFLICT DO NOTHING;
END $$
""",
    "COMMENT ON FUNCTION make_identifier_key IS 'Makes the key with which retired identifiers of a tenant are hashed, unless it is there'",
    "REVOKE ALL ON FUNCTION list_new_retired, retire_hashes, make_identifier_key FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION list_new_retired, make_identifier_key TO markonce_app, markonce_operator",
    "GRANT EXECUTE ON FUNCTION retire_hashes TO markonce_operator",
    "INSERT INTO identifier_keys (tenant_id) SELECT id FROM tenants ON CONFLICT DO NOTHING",
)


def upgrade() -> None:
    run_each(*STATEMENTS)
