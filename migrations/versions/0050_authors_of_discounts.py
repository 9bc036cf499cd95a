"""The schools at which a discount was recorded and withdrawn: only their readers see who decided it.

Of discounts that older programs write they are null, and nobody is told their authors.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0050", "0049", None, None


def upgrade() -> None:
    run_each(
        "ALTER TABLE discounts ADD COLUMN IF NOT EXISTS recorded_at_school_id uuid, ADD COLUMN IF NOT EXISTS withdrawn_at_school_id uuid",
        "COMMENT ON COLUMN discounts.recorded_at_school_id IS 'The school whose reference or UPN named the pupil, at which the author may be read'",
    )
