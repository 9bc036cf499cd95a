"""The history of pupils' own records: each change of names, UPN, birthday, sex, year group, spells and characteristics, and each decision about who a
pupil is, with the client that sent it.

Triggers write it, so that every program does, the release before too. What came with a pupil's first row is told by `created` alone, and what no client
sent (an upgrade) is no change. Changes before this migration are filled in as far as they were stored: their clients are unknown.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0048", "0047", None, None

TABLE = """
CREATE TABLE IF NOT EXISTS pupil_history (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    pupil_id uuid NOT NULL,
    changed_at timestamptz NOT NULL,
    client_id uuid,
    field text COLLATE "C" NOT NULL,
    outcome text NOT NULL,
    from_value text,
    to_value text,
    spell_school_id uuid,
    characteristic text,
    from_first_on date,
    from_last_on date,
    to_first_on date,
    to_last_on date,
    from_leaving_reason text,
    to_leaving_reason text,
    differing text[],
    actor text,
    recorded_at_school_id uuid,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils ON DELETE CASCADE
)
"""
SECURITY = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_policies WHERE schemaname = 'public' AND tablename = 'pupil_history') THEN
        ALTER TABLE pupil_history ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY reached ON pupil_history TO markonce_app USING (
            EXISTS (SELECT 1 FROM pupils p WHERE p.tenant_id = pupil_history.tenant_id AND p.id = pupil_history.pupil_id)
            AND (spell_school_id IS NULL OR EXISTS (
                SELECT 1 FROM reach r WHERE r.tenant_id = pupil_history.tenant_id AND r.school_id = pupil_history.spell_school_id
            ))
        );
        CREATE POLICY maintenance ON pupil_history TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true);
    END IF;
END $$
"""
VIEW = """
CREATE OR REPLACE VIEW pupil_changes WITH (security_invoker = true) AS
SELECT h.*, p.school_id FROM pupil_history h JOIN pupils p ON p.tenant_id = h.tenant_id AND p.id = h.pupil_id
"""
CALLER = "NULLIF(current_setting('markonce.caller', true), '')::uuid"
TRIGGER = "RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp"
NOTE_PUPILS = f"""
CREATE OR REPLACE FUNCTION note_new_pupils() {TRIGGER} AS $$
BEGIN
    INSERT INTO pupil_history (tenant_id, pupil_id, changed_at, client_id, field, outcome)
    SELECT tenant_id, id, clock_timestamp(), {CALLER}, 'pupil', 'created' FROM added WHERE {CALLER} IS NOT NULL;
    RETURN NULL;
END $$
"""
NOTE_PUPIL = f"""
CREATE OR REPLACE FUNCTION note_pupil() {TRIGGER} AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    INSERT INTO pupil_history (tenant_id, pupil_id, changed_at, client_id, field, outcome, from_value, to_value)
    SELECT NEW.tenant_id, NEW.id, at, {CALLER}, v.field, 'updated', v.before, v.after FROM (VALUES
        ('surname', OLD.surname, NEW.surname), ('forename', OLD.forename, NEW.forename),
        ('preferredSurname', OLD.preferred_surname, NEW.preferred_surname), ('preferredForename', OLD.preferred_forename, NEW.preferred_forename),
        ('upn', OLD.upn, NEW.upn), ('dateOfBirth', OLD.date_of_birth::text, NEW.date_of_birth::text),
        ('sex', OLD.sex, NEW.sex), ('yearGroup', OLD.year_group, NEW.year_group)
    ) v (field, before, after) WHERE v.before IS DISTINCT FROM v.after AND {CALLER} IS NOT NULL;
    RETURN NULL;
END $$
"""
NEW_PUPIL = "(p.version = 1 AND p.xid = pg_current_xact_id())"
NOTE_ADDED_SPELLS = f"""
CREATE OR REPLACE FUNCTION note_new_spells() {TRIGGER} AS $$
BEGIN
    INSERT INTO pupil_history (tenant_id, pupil_id, changed_at, client_id, field, outcome, spell_school_id, to_value, to_first_on, to_last_on, to_leaving_reason)
    SELECT a.tenant_id, a.pupil_id, clock_timestamp(), {CALLER}, 'enrolment', 'created', a.school_id, a.status, a.from_on, a.to_on, a.leaving_reason
    FROM added a JOIN pupils p ON p.tenant_id = a.tenant_id AND p.id = a.pupil_id WHERE NOT {NEW_PUPIL} AND {CALLER} IS NOT NULL;
    RETURN NULL;
END $$
"""
NOTE_SPELL = f"""
CREATE OR REPLACE FUNCTION note_spell() {TRIGGER} AS $$
BEGIN
    INSERT INTO pupil_history (tenant_id, pupil_id, changed_at, client_id, field, outcome, spell_school_id,
        from_value, from_first_on, from_last_on, from_leaving_reason, to_value, to_first_on, to_last_on, to_leaving_reason)
    SELECT OLD.tenant_id, OLD.pupil_id, clock_timestamp(), {CALLER}, 'enrolment', CASE TG_OP WHEN 'DELETE' THEN 'withdrawn' ELSE 'updated' END, OLD.school_id,
        OLD.status, OLD.from_on, OLD.to_on, OLD.leaving_reason, NEW.status, NEW.from_on, NEW.to_on, NEW.leaving_reason
    WHERE {CALLER} IS NOT NULL;
    RETURN NULL;
END $$
"""
NOTE_ADDED_CHARACTERISTICS = f"""
CREATE OR REPLACE FUNCTION note_new_characteristics() {TRIGGER} AS $$
BEGIN
    INSERT INTO pupil_history (tenant_id, pupil_id, changed_at, client_id, field, outcome, characteristic, to_value, to_first_on, to_last_on)
    SELECT a.tenant_id, a.pupil_id, clock_timestamp(), {CALLER}, 'characteristic', 'created', a.kind, a.value, a.from_on, a.to_on
    FROM added a JOIN pupils p ON p.tenant_id = a.tenant_id AND p.id = a.pupil_id
    WHERE a.kind <> 'yearGroup' AND NOT {NEW_PUPIL} AND {CALLER} IS NOT NULL;
    RETURN NULL;
END $$
"""
NOTE_CHARACTERISTIC = f"""
CREATE OR REPLACE FUNCTION note_characteristic() {TRIGGER} AS $$
BEGIN
    INSERT INTO pupil_history (tenant_id, pupil_id, changed_at, client_id, field, outcome, characteristic,
        from_value, from_first_on, from_last_on, to_value, to_first_on, to_last_on)
    SELECT OLD.tenant_id, OLD.pupil_id, clock_timestamp(), {CALLER}, 'characteristic', CASE TG_OP WHEN 'DELETE' THEN 'withdrawn' ELSE 'updated' END, OLD.kind,
        OLD.value, OLD.from_on, OLD.to_on, NEW.value, NEW.from_on, NEW.to_on
    WHERE {CALLER} IS NOT NULL;
    RETURN NULL;
END $$
"""
DECISION = """
    SELECT d.tenant_id, d.id, d.pupil_id, d.received_at, d.client_id,
        CASE d.kind WHEN 'same child' THEN 'sameChild' WHEN 'upn released' THEN 'upn' ELSE 'reference' END,
        CASE d.kind WHEN 'same child' THEN 'said' WHEN 'upn released' THEN 'released' ELSE 'updated' END,
        string_to_array(d.facts, ' '), d.actor, d.school_id
"""
INTO_DECISIONS = "INSERT INTO pupil_history (tenant_id, id, pupil_id, changed_at, client_id, field, outcome, differing, actor, recorded_at_school_id)"
NOTE_DECISION = f"""
CREATE OR REPLACE FUNCTION note_decision() {TRIGGER} AS $$
BEGIN
    {INTO_DECISIONS} {DECISION} FROM (SELECT NEW.*) d;
    RETURN NULL;
END $$
"""
INTO_RECORDS = "INSERT INTO pupil_history (tenant_id, id, pupil_id, changed_at, client_id, field, outcome)"
NOTE_RECORD = f"""
CREATE OR REPLACE FUNCTION note_record_change() {TRIGGER} AS $$
BEGIN
    {INTO_RECORDS} VALUES (NEW.tenant_id, NEW.id, NEW.pupil_id, NEW.changed_at, NEW.client_id, 'pupil', NEW.kind);
    IF NEW.kind = 'split' THEN
        {INTO_RECORDS} VALUES (NEW.tenant_id, md5(NEW.id::text)::uuid, NEW.other_id, NEW.changed_at, NEW.client_id, 'pupil', NEW.kind);
    END IF;
    RETURN NULL;
END $$
"""
FUNCTIONS = (
    *("note_new_pupils", "note_pupil", "note_new_spells", "note_spell", "note_new_characteristics", "note_characteristic"),
    *("note_decision", "note_record_change"),
)


def _differ(*columns: str) -> str:
    return " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns)


_FACTS = _differ(
    *("surname", "forename", "preferred_surname", "preferred_forename", "upn", "date_of_birth", "sex", "year_group"),
)
_SPELL = _differ("status", "from_on", "to_on", "leaving_reason")
_ADDED = "REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION"
TRIGGERS = (
    f"note_new_pupils AFTER INSERT ON pupils {_ADDED} note_new_pupils()",
    f"note_pupil AFTER UPDATE ON pupils FOR EACH ROW WHEN ({_FACTS}) EXECUTE FUNCTION note_pupil()",
    f"note_new_spells AFTER INSERT ON enrolments {_ADDED} note_new_spells()",
    f"note_spell AFTER UPDATE ON enrolments FOR EACH ROW WHEN ({_SPELL}) EXECUTE FUNCTION note_spell()",
    "note_withdrawn_spell AFTER DELETE ON enrolments FOR EACH ROW EXECUTE FUNCTION note_spell()",
    f"note_new_characteristics AFTER INSERT ON characteristics {_ADDED} note_new_characteristics()",
    "note_characteristic AFTER UPDATE ON characteristics FOR EACH ROW"
    f" WHEN (OLD.kind <> 'yearGroup' AND ({_differ('value', 'from_on', 'to_on')})) EXECUTE FUNCTION note_characteristic()",
    "note_withdrawn_characteristic AFTER DELETE ON characteristics FOR EACH ROW WHEN (OLD.kind <> 'yearGroup') EXECUTE FUNCTION note_characteristic()",
    "note_decision AFTER INSERT ON identity_history FOR EACH ROW EXECUTE FUNCTION note_decision()",
    "note_record_change AFTER INSERT ON record_changes FOR EACH ROW EXECUTE FUNCTION note_record_change()",
)
BEFORE_TRIGGERS = "COALESCE((SELECT min(n.changed_at) FROM pupil_history n WHERE n.tenant_id = h.tenant_id AND n.client_id IS NOT NULL), 'infinity')"
FILL_SPELLS = f"""
INSERT INTO pupil_history (tenant_id, id, pupil_id, changed_at, field, outcome, spell_school_id,
    from_value, from_first_on, from_last_on, from_leaving_reason, to_value, to_first_on, to_last_on, to_leaving_reason)
SELECT h.tenant_id, md5(concat_ws(' ', h.id, h.until))::uuid, h.pupil_id, h.until, 'enrolment', CASE WHEN n.id IS NULL THEN 'withdrawn' ELSE 'updated' END,
    h.school_id, h.status, h.from_on, h.to_on, h.leaving_reason, n.status, n.from_on, n.to_on, n.leaving_reason
FROM enrolment_history h LEFT JOIN LATERAL (
    SELECT x.* FROM (
        SELECT l.id, l.status, l.from_on, l.to_on, l.leaving_reason, l.until FROM enrolment_history l
        WHERE l.tenant_id = h.tenant_id AND l.id = h.id AND l.until > h.until
        UNION ALL SELECT e.id, e.status, e.from_on, e.to_on, e.leaving_reason, 'infinity' FROM enrolments e WHERE e.tenant_id = h.tenant_id AND e.id = h.id
    ) x ORDER BY x.until LIMIT 1
) n ON true
WHERE h.until < {BEFORE_TRIGGERS} ON CONFLICT DO NOTHING
"""
FILL_CHARACTERISTICS = f"""
INSERT INTO pupil_history (tenant_id, id, pupil_id, changed_at, field, outcome, characteristic,
    from_value, from_first_on, from_last_on, to_value, to_first_on, to_last_on)
SELECT h.tenant_id, md5(concat_ws(' ', h.pupil_id, h.kind, h.from_on, h.until))::uuid, h.pupil_id, h.until, 'characteristic',
    CASE WHEN n.value IS NULL THEN 'withdrawn' ELSE 'updated' END, h.kind, h.value, h.from_on, h.to_on, n.value, n.from_on, n.to_on
FROM characteristic_history h LEFT JOIN LATERAL (
    SELECT x.* FROM (
        SELECT l.value, l.from_on, l.to_on, l.until FROM characteristic_history l
        WHERE l.tenant_id = h.tenant_id AND l.pupil_id = h.pupil_id AND l.kind = h.kind AND l.from_on = h.from_on AND l.until > h.until
        UNION ALL SELECT c.value, c.from_on, c.to_on, 'infinity' FROM characteristics c
        WHERE c.tenant_id = h.tenant_id AND c.pupil_id = h.pupil_id AND c.kind = h.kind AND c.from_on = h.from_on
    ) x ORDER BY x.until LIMIT 1
) n ON true
WHERE h.kind <> 'yearGroup' AND h.until < {BEFORE_TRIGGERS} ON CONFLICT DO NOTHING
"""
FILL_DECISIONS = f"{INTO_DECISIONS} {DECISION} FROM identity_history d ON CONFLICT DO NOTHING"
FILL_RECORDS = f"""
{INTO_RECORDS} SELECT r.tenant_id, r.id, r.pupil_id, r.changed_at, r.client_id, 'pupil', r.kind FROM record_changes r
UNION ALL SELECT r.tenant_id, md5(r.id::text)::uuid, r.other_id, r.changed_at, r.client_id, 'pupil', r.kind FROM record_changes r
    JOIN pupils p ON p.tenant_id = r.tenant_id AND p.id = r.other_id WHERE r.kind = 'split'
ON CONFLICT DO NOTHING
"""
# the record that this one was split from, or that was split from it, may have had its names until the split was written, which takes two minutes at most
FORGET = """    DELETE FROM pupil_history h WHERE h.tenant_id = in_tenant AND h.pupil_id = old_pupil AND h.field NOT IN ('enrolment', 'characteristic');
    DELETE FROM pupil_history h USING record_changes r
    WHERE r.tenant_id = in_tenant AND r.kind = 'split' AND old_pupil IN (r.pupil_id, r.other_id) AND h.tenant_id = in_tenant
        AND h.pupil_id IN (r.pupil_id, r.other_id) AND h.changed_at <= r.changed_at + interval '2 minutes'
        AND h.field NOT IN ('pupil', 'enrolment', 'characteristic');
    DELETE FROM pupil_history h USING upns u
    WHERE u.tenant_id = in_tenant AND u.pupil_id = old_pupil AND h.tenant_id = in_tenant AND h.field = 'upn' AND u.upn IN (h.from_value, h.to_value);
"""
UPNS = "    DELETE FROM upns WHERE tenant_id = in_tenant AND pupil_id = old_pupil;\n"
RETIRE = f"""
DO $do$
DECLARE
    definition text := (SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'retire_identity' AND pronamespace = 'public'::regnamespace);
BEGIN
    IF strpos(definition, 'pupil_history') = 0 THEN
        IF strpos(definition, $text${UPNS}$text$) = 0 THEN
            RAISE 'retire_identity is not as it was';
        END IF;
        EXECUTE replace(definition, $text${UPNS}$text$, $text${FORGET}{UPNS}$text$);
    END IF;
END $do$
"""
RELEASED = "UPNs that were released stay stored, and are shown only while they are the pupil's"


def upgrade() -> None:
    run_each(
        TABLE,
        f"COMMENT ON TABLE pupil_history IS 'Changes of a pupil''s own record and decisions about who it is. {RELEASED.replace(chr(39), chr(39) * 2)}'",
        "CREATE INDEX IF NOT EXISTS pupil_history_by_pupil ON pupil_history (tenant_id, pupil_id, changed_at, field, id)",
        SECURITY,
        VIEW,
        "GRANT SELECT, UPDATE (pupil_id) ON pupil_history TO markonce_app",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON pupil_history TO markonce_operator",
        "GRANT SELECT ON pupil_changes TO markonce_app, markonce_operator",
        "ALTER TABLE identity_history ADD COLUMN IF NOT EXISTS school_id uuid",
        "COMMENT ON COLUMN identity_history.school_id IS 'Where it was said. Null of what older programs wrote'",
        *(NOTE_PUPILS, NOTE_PUPIL, NOTE_ADDED_SPELLS, NOTE_SPELL, NOTE_ADDED_CHARACTERISTICS, NOTE_CHARACTERISTIC),
        *(NOTE_DECISION, NOTE_RECORD),
        *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS),
        RETIRE,
        *(f"CREATE OR REPLACE TRIGGER {trigger}" for trigger in TRIGGERS),
        *(FILL_SPELLS, FILL_CHARACTERISTICS, FILL_DECISIONS, FILL_RECORDS),
    )
