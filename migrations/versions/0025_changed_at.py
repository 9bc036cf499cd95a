"""When a judgement or target last changed here, apart from when it first arrived; and times of rows are taken after the locks.

`changed_at` is null until a row changes, so that no row is written anew. A pupil who comes into the reach of a school, by moving there or by being shared
with it, brings what was judged: it has changed for whoever reads that school.
"""

from migrations.steps import run_each

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

LATEST = """
CREATE OR REPLACE VIEW latest_judgements WITH (security_invoker = true) AS
SELECT DISTINCT ON (j.tenant_id, j.pupil_id, j.subject_no, j.aspect_no) j.*
FROM judgements j JOIN windows w ON w.tenant_id = j.tenant_id AND w.no = j.window_no
WHERE j.grade_no IS NOT NULL
ORDER BY j.tenant_id, j.pupil_id, j.subject_no, j.aspect_no, w.census_on DESC, w.no DESC
"""
MOVE = """
CREATE OR REPLACE FUNCTION move_pupils(in_tenant uuid, of_pupils uuid[], to_school uuid) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = public, pg_temp AS $$
    SELECT acts_in(in_tenant, to_school);
    UPDATE pupils SET school_id = to_school WHERE tenant_id = in_tenant AND id = ANY (of_pupils);
    UPDATE upns SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE characteristics SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE judgements SET school_id = to_school, changed_at = GREATEST(changed_at, clock_timestamp()) WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE judgement_history SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE targets SET school_id = to_school, changed_at = GREATEST(changed_at, clock_timestamp()) WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE target_history SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    DELETE FROM shared_pupils WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils) AND school_id = to_school;
    INSERT INTO shared_pupils (tenant_id, pupil_id, school_id)
        SELECT DISTINCT tenant_id, pupil_id, school_id FROM enrolments
        WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils) AND school_id <> to_school AND status IN ('S', 'G') AND to_on IS NULL
        ON CONFLICT DO NOTHING
$$
"""
SHARED = """
CREATE OR REPLACE FUNCTION touch_shared() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE pupils p SET changed_at = clock_timestamp() FROM shared s WHERE p.tenant_id = s.tenant_id AND p.id = s.pupil_id;
    UPDATE judgements j SET changed_at = GREATEST(j.changed_at, clock_timestamp()) FROM shared s WHERE j.tenant_id = s.tenant_id AND j.pupil_id = s.pupil_id;
    UPDATE targets t SET changed_at = GREATEST(t.changed_at, clock_timestamp()) FROM shared s WHERE t.tenant_id = s.tenant_id AND t.pupil_id = s.pupil_id;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    run_each(
        *(
            f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS changed_at timestamptz"
            for table in ("judgements", "judgement_history", "targets", "target_history")
        ),
        LATEST,
        MOVE,
        SHARED,
        "REVOKE ALL ON FUNCTION touch_shared FROM PUBLIC",
        "CREATE OR REPLACE TRIGGER touch_shared AFTER INSERT ON shared_pupils REFERENCING NEW TABLE AS shared FOR EACH STATEMENT EXECUTE FUNCTION touch_shared()",
        "ALTER TABLE pupils ALTER COLUMN changed_at SET DEFAULT clock_timestamp()",
        "ALTER TABLE groups ALTER COLUMN changed_at SET DEFAULT clock_timestamp()",
        "ALTER TABLE upns ALTER COLUMN received_at SET DEFAULT clock_timestamp()",
        "ALTER TABLE receipts ALTER COLUMN received_at SET DEFAULT clock_timestamp()",
    )
