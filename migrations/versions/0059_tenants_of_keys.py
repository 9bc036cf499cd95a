"""The answer that is stored under an Idempotency-Key says whose data its request wrote: what routes by tenant finds it there."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0059", "0058", None, None


def upgrade() -> None:
    run_each(
        "ALTER TABLE idempotency ADD COLUMN IF NOT EXISTS of_tenant uuid",
        "COMMENT ON COLUMN idempotency.of_tenant IS 'The tenant whose data the request wrote; null where it wrote no tenant''s, and of what older programs"
        " stored. A key is unique by client and route over all tenants'",
    )
