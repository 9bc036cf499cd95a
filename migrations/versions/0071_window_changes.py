"""Who opened, closed, reopened, locked and unlocked a window, when and why."""

from migrations.steps import protect_table, run_each

revision, down_revision, branch_labels, depends_on = "0071", "0070", None, None
TABLE = """
CREATE TABLE IF NOT EXISTS window_changes (
    tenant_id uuid NOT NULL, window_no smallint NOT NULL, version integer NOT NULL, outcome text NOT NULL, reason text, actor text,
    client_id uuid NOT NULL, changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, window_no, version), FOREIGN KEY (tenant_id, window_no) REFERENCES windows (tenant_id, no) ON DELETE CASCADE
)
"""


def upgrade() -> None:
    run_each(TABLE, "COMMENT ON COLUMN window_changes.version IS 'The version of the window that the change made'")
    protect_table("window_changes", rows_of="tenant")
