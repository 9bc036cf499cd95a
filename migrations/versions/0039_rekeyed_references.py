"""A reference says which one it replaced when its client re-keyed the pupils of a school, so that the same batch twice changes nothing."""

from migrations.steps import run_each

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_each(
        "ALTER TABLE external_ids ADD COLUMN IF NOT EXISTS rekeyed_from text",
        "COMMENT ON COLUMN external_ids.rekeyed_from IS 'The reference that this one replaced when the client re-keyed the school; empty where it named the pupil by UPN'",
    )
