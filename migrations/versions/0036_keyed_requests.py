"""What an Idempotency-Key was used for, part by part: a row without it was stored by a program that compares the bytes of the body."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0036", "0035", None, None


def upgrade() -> None:
    run_each("ALTER TABLE idempotency ADD COLUMN IF NOT EXISTS request jsonb")
