"""Publications: editions of a window's results that were decided and protected as one whole, and are read as they were frozen."""

from migrations.steps import protect_table, run_each

revision, down_revision, branch_labels, depends_on = "0088", "0087", None, None

NIL = "'00000000-0000-0000-0000-000000000000'"
CALLER = "NULLIF(current_setting('markonce.caller', true), '')::uuid"
AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"
COUNTS = "'{aggregates:read,aggregates:internal}'"

PUBLICATIONS = """
CREATE TABLE IF NOT EXISTS publications (
    tenant_id uuid NOT NULL REFERENCES tenants, id uuid NOT NULL, window_no smallint NOT NULL, no integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('provisional', 'revised', 'final')), level text NOT NULL, sizes_from smallint NOT NULL,
    attainment_from smallint NOT NULL, seed integer NOT NULL, state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'protecting', 'published', 'withdrawn', 'failed')),
    problem text, subjects text[], left_out text[], school_count integer, parts integer, parts_done integer NOT NULL DEFAULT 0, populations integer,
    hidden integer, client_id uuid NOT NULL, requested_at timestamptz NOT NULL DEFAULT clock_timestamp(), frozen_at timestamptz,
    published_at timestamptz, withdrawn_at timestamptz, holder uuid, leased_until timestamptz, attempts smallint NOT NULL DEFAULT 0, version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, window_no, no), FOREIGN KEY (tenant_id, window_no) REFERENCES windows (tenant_id, no)
)
"""
PARTS = """
CREATE TABLE IF NOT EXISTS publication_parts (
    tenant_id uuid NOT NULL, publication_id uuid NOT NULL, part text NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (tenant_id, publication_id, part), FOREIGN KEY (tenant_id, publication_id) REFERENCES publications ON DELETE CASCADE
)
"""
ROWS = f"""
CREATE TABLE IF NOT EXISTS edition_rows (
    tenant_id uuid NOT NULL, publication_id uuid NOT NULL, school_id uuid NOT NULL DEFAULT {NIL}, year_group text NOT NULL DEFAULT '',
    dimension text NOT NULL DEFAULT '', category text NOT NULL DEFAULT '', pooled uuid[] NOT NULL, figures jsonb,
    PRIMARY KEY (tenant_id, publication_id, school_id, year_group, dimension, category),
    FOREIGN KEY (tenant_id, publication_id) REFERENCES publications ON DELETE CASCADE
)
"""
CHANGES = """
CREATE TABLE IF NOT EXISTS publication_changes (
    tenant_id uuid NOT NULL, publication_id uuid NOT NULL, version integer NOT NULL, outcome text NOT NULL, reason text, actor text,
    client_id uuid NOT NULL, changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (tenant_id, publication_id, version),
    FOREIGN KEY (tenant_id, publication_id) REFERENCES publications ON DELETE CASCADE
)
"""
REACHED = f"r.tenant_id = {{table}}.tenant_id AND r.scopes && {COUNTS}"
IS_PROTECTED_BY_CALLER = f"""
EXISTS (SELECT 1 FROM publications p WHERE p.tenant_id = {{table}}.tenant_id AND p.id = {{table}}.publication_id AND p.state = 'protecting'
    AND p.client_id = (SELECT {CALLER}))
"""
IS_READ = f"""
EXISTS (SELECT 1 FROM publications p WHERE p.tenant_id = {{table}}.tenant_id AND p.id = {{table}}.publication_id AND p.state = 'published')
AND CASE WHEN {{table}}.school_id <> {NIL} THEN EXISTS (SELECT 1 FROM reach r WHERE {REACHED} AND r.school_id = {{table}}.school_id)
    ELSE {{table}}.pooled <@ ARRAY(SELECT r.school_id FROM reach r WHERE {REACHED}) AND EXISTS (SELECT 1 FROM reach r WHERE {REACHED}) END
"""
"""A row of a trust is shown to whoever reaches all the schools that it pools."""
HAS_ALL = f"""
CREATE OR REPLACE FUNCTION counts_all_schools(in_tenant uuid) RETURNS boolean LANGUAGE sql STABLE {AS_OWNER} $$
    SELECT NOT EXISTS (SELECT 1 FROM schools s WHERE s.tenant_id = in_tenant AND NOT EXISTS (
        SELECT 1 FROM reach r WHERE r.client_id = {CALLER} AND r.tenant_id = in_tenant AND r.school_id = s.id
            AND 'aggregates:internal' = ANY (r.scopes) AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())))
$$
"""
CLAIM = f"""
CREATE OR REPLACE FUNCTION claim_publication(by_holder uuid, lease_seconds integer)
RETURNS TABLE (tenant_id uuid, id uuid, client_id uuid) LANGUAGE plpgsql {AS_OWNER} $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('markonce publications', 0));
    RETURN QUERY UPDATE publications p SET state = 'protecting', attempts = attempts + 1, holder = by_holder, leased_until = clock_timestamp() + make_interval(secs => lease_seconds)
    WHERE (p.tenant_id, p.id) = (
        SELECT w.tenant_id, w.id FROM publications w
        WHERE w.state IN ('queued', 'protecting') AND COALESCE(w.leased_until, '-infinity') < clock_timestamp() AND NOT EXISTS (
            SELECT 1 FROM publications o WHERE o.tenant_id = w.tenant_id AND o.state = 'protecting' AND o.leased_until >= clock_timestamp()
        )
        ORDER BY w.requested_at, w.id LIMIT 1
    ) RETURNING p.tenant_id, p.id, p.client_id;
END $$
"""
BUMP = f"""
CREATE OR REPLACE FUNCTION bump_published(in_tenant uuid, of_publication uuid, by_holder uuid) RETURNS void LANGUAGE plpgsql {AS_OWNER} $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM publications p WHERE p.tenant_id = in_tenant AND p.id = of_publication AND p.holder = by_holder) THEN
        RAISE insufficient_privilege USING MESSAGE = 'another process publishes it';
    END IF;
    PERFORM 1 FROM school_versions v WHERE v.tenant_id = in_tenant ORDER BY v.school_id FOR UPDATE;
    UPDATE school_versions SET version = version + 1 WHERE tenant_id = in_tenant;
END $$
"""


def make_policies(table: str, reached: str) -> list[str]:
    condition = reached.replace("{table}", table)
    policies = {
        "reached": f"TO markonce_app USING ({condition})",
        "maintenance": "TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)",
    }
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        *(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = '{table}'::regclass AND polname = '{name}') THEN"
            f" CREATE POLICY {name} ON {table} {text}; END IF; END $$"
            for name, text in policies.items()
        ),
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO markonce_app, markonce_operator",
    ]


def upgrade() -> None:
    run_each(
        PUBLICATIONS,
        "CREATE INDEX IF NOT EXISTS publications_by_id ON publications (id)",
        "CREATE UNIQUE INDEX IF NOT EXISTS publications_unfinished ON publications (tenant_id, window_no) WHERE state IN ('queued', 'protecting')",
    )
    protect_table("publications", rows_of="tenant")
    run_each(CHANGES)
    protect_table("publication_changes", rows_of="tenant")
    run_each(PARTS, *make_policies("publication_parts", IS_PROTECTED_BY_CALLER))
    run_each(ROWS, *make_policies("edition_rows", f"({IS_PROTECTED_BY_CALLER}) OR ({IS_READ})"))
    functions = {
        "counts_all_schools(uuid)": HAS_ALL,
        "claim_publication(uuid, integer)": CLAIM,
        "bump_published(uuid, uuid, uuid)": BUMP,
    }
    for name, text in functions.items():
        run_each(
            text,
            f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC",
            f"GRANT EXECUTE ON FUNCTION {name} TO markonce_app, markonce_operator",
        )
