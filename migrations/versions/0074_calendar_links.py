"""Secret links by which calendar programs, which send no token, read when windows open and close."""

from migrations.steps import protect_table, run_each

revision, down_revision, branch_labels, depends_on = "0074", "0073", None, None
TABLE = """
CREATE TABLE IF NOT EXISTS calendar_links (
    tenant_id uuid NOT NULL, id uuid NOT NULL, school_id uuid, client_id uuid NOT NULL, sha256 bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(), revoked_at timestamptz, PRIMARY KEY (tenant_id, id)
)
"""
FUNCTION = """
CREATE OR REPLACE FUNCTION find_calendar_link(of_hash bytea) RETURNS TABLE (tenant_id uuid, school_id uuid, client_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = public, pg_temp AS $$
    SELECT l.tenant_id, l.school_id, l.client_id FROM calendar_links l JOIN clients c ON c.id = l.client_id AND c.revoked_at IS NULL
    WHERE l.sha256 = of_hash AND l.revoked_at IS NULL AND EXISTS (
        SELECT 1 FROM reach r WHERE r.client_id = l.client_id AND r.tenant_id = l.tenant_id AND (l.school_id IS NULL OR r.school_id = l.school_id)
            AND 'windows:read' = ANY (r.scopes) AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    )
$$
"""


def upgrade() -> None:
    run_each(
        TABLE,
        "CREATE INDEX IF NOT EXISTS calendar_links_by_id ON calendar_links (id)",
        "CREATE INDEX IF NOT EXISTS calendar_links_by_hash ON calendar_links (sha256)",
        "COMMENT ON COLUMN calendar_links.sha256 IS 'Of the secret in the URL, 256 random bits, which are stored nowhere'",
        "COMMENT ON COLUMN calendar_links.school_id IS 'Null where the calendar is that of the whole trust'",
        FUNCTION,
        "COMMENT ON FUNCTION find_calendar_link IS 'Whose calendar the link with this hash is, while it is not revoked and its maker may read windows there'",
        "REVOKE ALL ON FUNCTION find_calendar_link FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION find_calendar_link TO markonce_app, markonce_operator",
    )
    protect_table("calendar_links", rows_of="tenant")
