"""A planned roll that a later one replaces as a whole stays until that one is recorded, so that a withdrawal lets it stand again."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0052", "0051", None, None


def upgrade() -> None:
    run_each(
        "ALTER TABLE planned_rolls ADD COLUMN IF NOT EXISTS replaced_by uuid",
        "COMMENT ON COLUMN planned_rolls.replaced_by IS 'The later planned roll that says all of its rows instead. It stands again if that one is withdrawn'",
    )
