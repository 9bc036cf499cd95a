"""Judgements are keyed without their grade, so that a change of it touches no index (HOT), and leave room for it in their pages.

The partitions get their new key first, while they are written. To put it in place of the old one reads no row, and takes a moment.
"""

from alembic import op

from migrations.steps import build_index, run_each

revision, down_revision, branch_labels, depends_on = "0068", "0067", None, None

KEY = "(tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no)"
ROOM = 85
"""Percent of a page that new rows fill."""
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'judgements'::regclass ORDER BY 1"
HAS_GRADE = "SELECT indnatts > indnkeyatts FROM pg_index WHERE indrelid = 'judgements'::regclass AND indisprimary"
HOLD_YEAR = f"""
CREATE OR REPLACE FUNCTION hold_year() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    parent text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('markonce years'), NEW.academic_year);
    FOREACH parent IN ARRAY ARRAY['judgements', 'judgement_history'] LOOP
        IF to_regclass(parent || '_' || NEW.academic_year) IS NULL THEN
            EXECUTE format('CREATE TABLE %1$s_%2$s (LIKE %1$s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', parent, NEW.academic_year);
            IF parent = 'judgements' THEN
                EXECUTE format('ALTER TABLE %1$s_%2$s SET (fillfactor = {ROOM})', parent, NEW.academic_year);
            END IF;
            EXECUTE format('ALTER TABLE %1$s ATTACH PARTITION %1$s_%2$s FOR VALUES IN (%2$s)', parent, NEW.academic_year);
        END IF;
    END LOOP;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        partitions = connection.exec_driver_sql(PARTITIONS).scalars().all()
        is_old = connection.exec_driver_sql(HAS_GRADE).scalar_one()
    run_each(HOLD_YEAR, *(f"ALTER TABLE {name} SET (fillfactor = {ROOM})" for name in partitions))
    if is_old:
        for name in partitions:
            build_index(f"{name}_key", name, KEY, unique=True)
        replaced = [f"ALTER TABLE {name} ADD CONSTRAINT {name}_pkey PRIMARY KEY USING INDEX {name}_key" for name in partitions]
        run_each(
            "DO $$ BEGIN ALTER TABLE judgements DROP CONSTRAINT judgements_pkey; "
            + " ".join(f"{statement};" for statement in replaced)
            + f" ALTER TABLE judgements ADD CONSTRAINT judgements_pkey PRIMARY KEY {KEY}; END $$"
        )
