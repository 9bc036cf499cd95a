"""Row-level security shows a secret link to a calendar to the client that made it alone."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0076", "0075", None, None


def upgrade() -> None:
    run_each(
        "ALTER POLICY reached ON calendar_links USING (client_id = (SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid)"
        " AND EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = calendar_links.tenant_id))"
    )
