"""A person says that two records which seem to be one child are two children.

The word is about the facts that both had then, as a digest: where these have changed, the pair is another question. It goes with either record.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0055", "0054", None, None

FACTS = "sha256(convert_to(concat_ws(E'\\n', {0}.surname_folded, {0}.forename_folded, {0}.date_of_birth, {0}.sex), 'UTF8'))"
REACHED = " AND ".join(
    f"EXISTS (SELECT 1 FROM pupils p WHERE p.tenant_id = different_children.tenant_id AND p.id = different_children.{side})"
    for side in ("first_id", "second_id")
)
TABLE = """
CREATE TABLE IF NOT EXISTS different_children (
    tenant_id uuid NOT NULL,
    first_id uuid NOT NULL,
    second_id uuid NOT NULL CHECK (second_id > first_id),
    facts bytea NOT NULL,
    PRIMARY KEY (tenant_id, first_id, second_id),
    FOREIGN KEY (tenant_id, first_id) REFERENCES pupils ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, second_id) REFERENCES pupils ON DELETE CASCADE
)
"""
SECURITY = f"""
DO $do$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_policies WHERE tablename = 'different_children') THEN
        ALTER TABLE different_children ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY reached ON different_children TO markonce_app USING ({REACHED});
        CREATE POLICY maintenance ON different_children TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true);
    END IF;
END $do$
"""
REFRESH = f"""
CREATE OR REPLACE FUNCTION refresh_same_children(in_tenant uuid, of_pupils uuid[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    BEGIN
        PERFORM acts_in(in_tenant);
        WITH pairs AS MATERIALIZED (
            SELECT p.school_id, ARRAY[LEAST(p.id, q.id), GREATEST(p.id, q.id)] AS pupil_ids, q.school_id AS other_school_id
            FROM pupils p JOIN pupils q ON q.tenant_id = in_tenant AND q.date_of_birth = p.date_of_birth AND q.sex = p.sex AND q.id <> p.id
                AND q.surname_folded = p.surname_folded AND q.forename_folded = p.forename_folded
            WHERE p.tenant_id = in_tenant AND p.id = ANY (of_pupils) AND p.surname_folded <> ''
                AND (COALESCE(right(p.upn, 1), 'A') !~ '[0-9]' OR COALESCE(right(q.upn, 1), 'A') !~ '[0-9]')
                AND NOT EXISTS (
                    SELECT 1 FROM different_children x WHERE x.tenant_id = in_tenant AND x.first_id = LEAST(p.id, q.id)
                        AND x.second_id = GREATEST(p.id, q.id) AND x.facts = {FACTS.format("p")}
                )
        ), found AS (
            SELECT school_id, pupil_ids FROM pairs UNION SELECT other_school_id, pupil_ids FROM pairs
        ), gone AS (
            DELETE FROM data_issues d WHERE d.tenant_id = in_tenant AND d.kind = 'possible-same-child' AND d.pupil_ids && of_pupils
                AND NOT EXISTS (SELECT 1 FROM found f WHERE f.school_id = d.school_id AND f.pupil_ids = d.pupil_ids)
        )
        INSERT INTO data_issues (tenant_id, id, kind, school_id, pupil_ids)
        SELECT in_tenant, renew_id('00000000-0000-700f-8000-000000000000'), 'possible-same-child', f.school_id, f.pupil_ids FROM found f
        ON CONFLICT DO NOTHING;
    END $$
"""
SAY = f"""
CREATE OR REPLACE FUNCTION say_different_children(in_tenant uuid, one uuid, two uuid, are_different boolean, by_client uuid, said_by text, at_school uuid)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    has_written boolean;
BEGIN
    PERFORM acts_in(in_tenant);
    IF are_different THEN
        INSERT INTO different_children AS d (tenant_id, first_id, second_id, facts)
        SELECT in_tenant, LEAST(one, two), GREATEST(one, two), {FACTS.format("p")} FROM pupils p WHERE p.tenant_id = in_tenant AND p.id = one
        ON CONFLICT (tenant_id, first_id, second_id) DO UPDATE SET facts = excluded.facts WHERE d.facts <> excluded.facts;
    ELSE
        DELETE FROM different_children d WHERE d.tenant_id = in_tenant AND d.first_id = LEAST(one, two) AND d.second_id = GREATEST(one, two);
    END IF;
    has_written := FOUND;
    INSERT INTO pupil_history (tenant_id, pupil_id, changed_at, client_id, field, outcome, from_value, to_value, actor, recorded_at_school_id)
    SELECT in_tenant, s.id, clock_timestamp(), by_client, 'differentChildren', CASE WHEN are_different THEN 'said' ELSE 'withdrawn' END,
        CASE WHEN NOT are_different THEN s.other END, CASE WHEN are_different THEN s.other END, said_by, at_school
    FROM (VALUES (one, two::text), (two, one::text)) AS s (id, other) WHERE has_written;
    PERFORM refresh_same_children(in_tenant, ARRAY[one, two]);
    RETURN has_written;
END $$
"""
BEFORE = "    DELETE FROM pupil_history h USING record_changes r\n"
FORGET = "    DELETE FROM pupil_history h WHERE h.tenant_id = in_tenant AND h.field = 'differentChildren' AND old_pupil::text IN (h.from_value, h.to_value);\n"
RETIRE = f"""
DO $do$
DECLARE
    definition text := (SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'retire_identity' AND pronamespace = 'public'::regnamespace);
BEGIN
    IF strpos(definition, 'differentChildren') = 0 THEN
        IF strpos(definition, $text${BEFORE}$text$) = 0 THEN
            RAISE 'retire_identity is not as it was';
        END IF;
        EXECUTE replace(definition, $text${BEFORE}$text$, $text${FORGET}{BEFORE}$text$);
    END IF;
END $do$
"""


def upgrade() -> None:
    run_each(
        TABLE,
        "COMMENT ON TABLE different_children IS 'Pairs of pupils of whom a person said that they are two children, with a digest of the facts that both had then'",
        "CREATE INDEX IF NOT EXISTS different_children_by_second ON different_children (tenant_id, second_id)",
        SECURITY,
        "GRANT SELECT ON different_children TO markonce_app",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON different_children TO markonce_operator",
        REFRESH,
        SAY,
        "REVOKE ALL ON FUNCTION say_different_children FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION say_different_children TO markonce_app, markonce_operator",
        RETIRE,
    )
