"""A planned complete roll keeps on roll whom its rejected rows point to and whom a later plan is about; a later plan sets the rows of an earlier one aside.

planned_stays holds no more than what such a pupil is found by. A new identity takes that with it.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0051", "0050", None, None

BEFORE = "    DELETE FROM planned_pupils x USING planned_rolls r, pupils p\n"
FORGET = """    UPDATE planned_stays x SET pupil_id = NULL, reference = NULL, upns = '{}' FROM planned_rolls r
    WHERE r.tenant_id = in_tenant AND x.tenant_id = in_tenant AND x.planned_roll_id = r.id AND (
        x.pupil_id = old_pupil
        OR EXISTS (SELECT 1 FROM upns u WHERE u.tenant_id = in_tenant AND u.pupil_id = old_pupil AND u.upn = ANY (x.upns))
        OR EXISTS (
            SELECT 1 FROM external_ids e WHERE e.tenant_id = in_tenant AND e.kind = 'pupil' AND e.id = old_pupil
                AND e.source = r.client_id AND e.school_id = r.school_id AND e.value = x.reference
        )
    );
"""
RETIRE = f"""
DO $do$
DECLARE
    definition text := (SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'retire_identity' AND pronamespace = 'public'::regnamespace);
BEGIN
    IF strpos(definition, 'planned_stays') = 0 THEN
        IF strpos(definition, $text${BEFORE}$text$) = 0 THEN
            RAISE 'retire_identity is not as it was';
        END IF;
        EXECUTE replace(definition, $text${BEFORE}$text$, $text${FORGET}{BEFORE}$text$);
    END IF;
END $do$
"""
REACHED = "EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = planned_stays.tenant_id AND r.school_id = planned_stays.school_id)"
TABLE = """
CREATE TABLE IF NOT EXISTS planned_stays (
    tenant_id uuid NOT NULL,
    planned_roll_id uuid NOT NULL,
    n integer NOT NULL,
    school_id uuid NOT NULL REFERENCES schools,
    is_rejected boolean NOT NULL,
    issue_codes text[] NOT NULL DEFAULT '{}',
    pupil_id uuid,
    reference text,
    upns text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, planned_roll_id, n),
    FOREIGN KEY (tenant_id, planned_roll_id) REFERENCES planned_rolls ON DELETE CASCADE
)
"""
SECURITY = f"""
DO $do$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_policies WHERE tablename = 'planned_stays') THEN
        ALTER TABLE planned_stays ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY reached ON planned_stays TO markonce_app USING ({REACHED});
        CREATE POLICY maintenance ON planned_stays TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true);
    END IF;
END $do$
"""
VIEWS = (
    """
    CREATE OR REPLACE VIEW planned_enrolments WITH (security_invoker = true) AS
    SELECT x.tenant_id, x.planned_roll_id, x.n, x.school_id, s.m::integer AS m, s.said->>'status' AS status, (s.said->>'from')::date AS from_on,
        (s.said->>'to')::date AS to_on, s.said->>'leavingReason' AS leaving_reason
    FROM planned_pupils x CROSS JOIN LATERAL jsonb_array_elements(x.entry->'enrolments') WITH ORDINALITY AS s (said, m) WHERE x.replaced_by = '{}'
    """,
    """
    CREATE OR REPLACE VIEW planned_characteristics WITH (security_invoker = true) AS
    SELECT x.tenant_id, x.planned_roll_id, x.n, x.school_id, s.m::integer AS m, s.said->>'kind' AS kind, s.said->>'value' AS value,
        (s.said->>'from')::date AS from_on, (s.said->>'to')::date AS to_on
    FROM planned_pupils x CROSS JOIN LATERAL jsonb_array_elements(x.entry->'characteristics') WITH ORDINALITY AS s (said, m) WHERE x.replaced_by = '{}'
    """,
)


def upgrade() -> None:
    run_each(
        TABLE,
        "COMMENT ON TABLE planned_stays IS 'Who stays on roll though no row of a planned complete roll is recorded for them: what its rejected rows (is_rejected)"
        " named their pupils by, and the pupils of later plans that were recorded before it. For a roll that is not complete, the rejected rows are only counted'",
        "CREATE INDEX IF NOT EXISTS planned_stays_by_pupil ON planned_stays (tenant_id, pupil_id)",
        SECURITY,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON planned_stays TO markonce_app, markonce_operator",
        "ALTER TABLE planned_pupils ADD COLUMN IF NOT EXISTS replaced_by uuid[] NOT NULL DEFAULT '{}'",
        "COMMENT ON COLUMN planned_pupils.replaced_by IS 'The later planned rolls that say the row instead. It is recorded if all of them are withdrawn or refused'",
        *VIEWS,
        RETIRE,
    )
