"""Schemes are retired: no new window may collect them."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0075", "0074", None, None


def upgrade() -> None:
    run_each("ALTER TABLE schemes ADD COLUMN IF NOT EXISTS retired boolean NOT NULL DEFAULT false")
