"""Later editions of a window: what is kept of an edition for them, rows that keep the figures last shown, and their release."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0091", "0090", None, None

CALLER = "NULLIF(current_setting('markonce.caller', true), '')::uuid"
AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"
BASES = """
CREATE TABLE IF NOT EXISTS edition_bases (
    tenant_id uuid NOT NULL, publication_id uuid NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (tenant_id, publication_id), FOREIGN KEY (tenant_id, publication_id) REFERENCES publications ON DELETE CASCADE
)
"""
POLICIES = {
    "reached": f"""TO markonce_app USING (counts_all_schools(tenant_id) OR EXISTS (
        SELECT 1 FROM publications p WHERE p.tenant_id = edition_bases.tenant_id AND p.id = edition_bases.publication_id
            AND p.state = 'protecting' AND p.client_id = (SELECT {CALLER})))""",
    "maintenance": "TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)",
}
# Figures of a withdrawn edition that later ones of its window still show, which are hidden there too
HIDE = f"""
CREATE OR REPLACE FUNCTION hide_withdrawn_figures(in_tenant uuid, of_publication uuid) RETURNS void LANGUAGE sql {AS_OWNER} $$
    UPDATE edition_rows r SET figures = NULL, edition = NULL
    FROM publications w JOIN publications p ON p.tenant_id = w.tenant_id AND p.window_no = w.window_no AND p.no > w.no
    WHERE w.tenant_id = in_tenant AND w.id = of_publication AND w.state = 'withdrawn'
        AND r.tenant_id = p.tenant_id AND r.publication_id = p.id AND r.edition = w.no
$$
"""
# 400 days after the last edition of a window: results of a school year are final within the next one
REMOVE = f"""
CREATE OR REPLACE FUNCTION remove_old_edition_bases(most integer) RETURNS bigint LANGUAGE sql {AS_OWNER} $$
    WITH removed AS (
        DELETE FROM edition_bases WHERE (tenant_id, publication_id) IN (
            SELECT b.tenant_id, b.publication_id FROM edition_bases b
            JOIN publications p ON p.tenant_id = b.tenant_id AND p.id = b.publication_id
            WHERE NOT EXISTS (
                SELECT 1 FROM publications l WHERE l.tenant_id = p.tenant_id AND l.window_no = p.window_no
                    AND (l.published_at > now() - interval '400 days' OR l.state IN ('queued', 'protecting'))
            ) LIMIT most
        ) RETURNING 1
    ) SELECT count(*) FROM removed
$$
"""
FUNCTIONS = {"hide_withdrawn_figures(uuid, uuid)": HIDE, "remove_old_edition_bases(integer)": REMOVE}


def upgrade() -> None:
    run_each(
        "ALTER TABLE publications ADD COLUMN IF NOT EXISTS held integer",
        "ALTER TABLE publications ADD COLUMN IF NOT EXISTS released_at timestamptz",
        "ALTER TABLE edition_rows ADD COLUMN IF NOT EXISTS edition integer",
        BASES,
        "ALTER TABLE edition_bases ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        *(
            "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = 'edition_bases'::regclass"
            f" AND polname = '{name}') THEN CREATE POLICY {name} ON edition_bases {text}; END IF; END $$"
            for name, text in POLICIES.items()
        ),
        "GRANT SELECT, INSERT, UPDATE, DELETE ON edition_bases TO markonce_app, markonce_operator",
        *FUNCTIONS.values(),
        *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS),
        *(f"GRANT EXECUTE ON FUNCTION {name} TO markonce_app, markonce_operator" for name in FUNCTIONS),
    )
