"""The last spell at the main school on the pupil's own row, so that a list of who is on roll reads no spells of pupils who are.

Triggers keep it, whichever program writes. Where it is null the spells themselves are read; `migrate` fills it.
"""

from migrations.steps import append_to_views, run_each

revision, down_revision, branch_labels, depends_on = "0054", "0053", None, None

TRIGGER = "RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp"
LAST = """(
        SELECT daterange(e.from_on, e.to_on, '[]') FROM enrolments e
        WHERE e.tenant_id = {0}.tenant_id AND e.pupil_id = {0}.id AND e.school_id = {0}.school_id ORDER BY e.from_on DESC LIMIT 1
    )"""
KEEP = f"""
CREATE OR REPLACE FUNCTION keep_main_spells(in_tenant uuid, of_pupils uuid[]) RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
    UPDATE pupils p SET main_spell = s.spell
    FROM (SELECT q.id, {LAST.format("q")} AS spell FROM pupils q WHERE q.tenant_id = in_tenant AND q.id = ANY (of_pupils)) s
    WHERE p.tenant_id = in_tenant AND p.id = s.id AND p.main_spell IS DISTINCT FROM s.spell
$$
"""
FOLLOW_SPELLS = f"""
CREATE OR REPLACE FUNCTION follow_spells() {TRIGGER} AS $$
BEGIN
    PERFORM keep_main_spells(tenant_id, array_agg(pupil_id)) FROM changed GROUP BY tenant_id;
    RETURN NULL;
END $$
"""
FOLLOW_SCHOOL = f"""
CREATE OR REPLACE FUNCTION follow_main_school() {TRIGGER} AS $$
BEGIN
    NEW.main_spell := {LAST.format("NEW")};
    RETURN NEW;
END $$
"""
FUNCTIONS = ("keep_main_spells", "follow_spells", "follow_main_school")
TRIGGERS = {
    "follow_new_spells": "AFTER INSERT ON enrolments REFERENCING NEW TABLE AS changed",
    "follow_changed_spells": "AFTER UPDATE ON enrolments REFERENCING NEW TABLE AS changed",
    "follow_former_spells": "AFTER UPDATE ON enrolments REFERENCING OLD TABLE AS changed",
    "follow_withdrawn_spells": "AFTER DELETE ON enrolments REFERENCING OLD TABLE AS changed",
}


def upgrade() -> None:
    run_each(
        "ALTER TABLE pupils ADD COLUMN IF NOT EXISTS main_spell daterange",
        "COMMENT ON COLUMN pupils.main_spell IS 'The last spell at the main school. Null where it is not known: enrolments has it'",
        *(KEEP, FOLLOW_SPELLS, FOLLOW_SCHOOL),
        *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS),
        *(
            f"CREATE OR REPLACE TRIGGER {name} {event} FOR EACH STATEMENT EXECUTE FUNCTION follow_spells()"
            for name, event in TRIGGERS.items()
        ),
        "CREATE OR REPLACE TRIGGER follow_main_school BEFORE UPDATE OF school_id ON pupils FOR EACH ROW"
        " WHEN (OLD.school_id <> NEW.school_id) EXECUTE FUNCTION follow_main_school()",
    )
    append_to_views("p.main_spell", "group_pupils", "school_roll", "window_pupils")
