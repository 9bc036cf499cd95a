"""Previews of publications: what an edition of a window would hide and why, for whoever reads every figure of the trust, for a day."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0090", "0089", None, None

AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"
PREVIEWS = """
CREATE TABLE IF NOT EXISTS publication_previews (
    tenant_id uuid NOT NULL REFERENCES tenants, id uuid NOT NULL, window_no smallint NOT NULL, level text NOT NULL, sizes_from smallint NOT NULL,
    attainment_from smallint NOT NULL, seed integer NOT NULL, state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'protecting', 'ready', 'failed')),
    problem text, subjects text[], left_out text[], school_count integer, parts integer, parts_done integer NOT NULL DEFAULT 0,
    populations integer, hidden integer, client_id uuid NOT NULL, requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    frozen_at timestamptz, holder uuid, leased_until timestamptz, attempts smallint NOT NULL DEFAULT 0, body bytea,
    PRIMARY KEY (tenant_id, window_no), FOREIGN KEY (tenant_id, window_no) REFERENCES windows (tenant_id, no) ON DELETE CASCADE
)
"""
POLICIES = {
    "reached": "TO markonce_app USING (counts_all_schools(tenant_id))",
    "maintenance": "TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)",
}
CLAIM = f"""
CREATE OR REPLACE FUNCTION claim_preview(by_holder uuid, lease_seconds integer)
RETURNS TABLE (tenant_id uuid, id uuid, client_id uuid) LANGUAGE plpgsql {AS_OWNER} $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT 1 FROM publication_previews) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('markonce publications', 0));
    DELETE FROM publication_previews p WHERE p.requested_at < now() - interval '1 day';
    RETURN QUERY UPDATE publication_previews p SET state = 'protecting', attempts = attempts + 1, holder = by_holder,
        leased_until = clock_timestamp() + make_interval(secs => lease_seconds)
    WHERE (p.tenant_id, p.id) = (
        SELECT w.tenant_id, w.id FROM publication_previews w
        WHERE w.state IN ('queued', 'protecting') AND COALESCE(w.leased_until, '-infinity') < clock_timestamp() AND NOT EXISTS (
            SELECT 1 FROM publication_previews o WHERE o.tenant_id = w.tenant_id AND o.state = 'protecting' AND o.leased_until >= clock_timestamp()
        )
        ORDER BY w.requested_at, w.id LIMIT 1
    ) RETURNING p.tenant_id, p.id, p.client_id;
END $$
"""
FUNCTION = "claim_preview(uuid, integer)"


def upgrade() -> None:
    run_each(
        PREVIEWS,
        "ALTER TABLE publication_previews ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        *(
            "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = 'publication_previews'::regclass"
            f" AND polname = '{name}') THEN CREATE POLICY {name} ON publication_previews {text}; END IF; END $$"
            for name, text in POLICIES.items()
        ),
        "GRANT SELECT, INSERT, UPDATE, DELETE ON publication_previews TO markonce_app, markonce_operator",
        CLAIM,
        f"REVOKE ALL ON FUNCTION {FUNCTION} FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION {FUNCTION} TO markonce_app, markonce_operator",
    )
