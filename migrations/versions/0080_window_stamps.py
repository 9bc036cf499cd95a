"""A window knows when it was changed last, whoever changes it: calendar programs ask for that. Of stored windows nobody knows it."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0080", "0079", None, None


def upgrade() -> None:
    run_each(
        "ALTER TABLE windows ADD COLUMN IF NOT EXISTS changed_at timestamptz",
        """
CREATE OR REPLACE FUNCTION stamp_window() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$
""",
        "CREATE OR REPLACE TRIGGER stamp_window BEFORE INSERT OR UPDATE ON windows FOR EACH ROW EXECUTE FUNCTION stamp_window()",
    )
