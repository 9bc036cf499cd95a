"""Preferred names of pupils, and the keys by which names are compared and sorted.

The program computes the keys (domain/roster/names.py) and writes them with the names and the version of its rules. `python -m api migrate` fills them for rows
whose names_rule is another one: 0 where a program that does not know the keys has written a name.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0018", "0017", None, None

COLUMNS = """
ALTER TABLE pupils
    ADD COLUMN IF NOT EXISTS preferred_surname text,
    ADD COLUMN IF NOT EXISTS preferred_forename text,
    ADD COLUMN IF NOT EXISTS surname_folded text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS forename_folded text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS preferred_surname_folded text COLLATE "C",
    ADD COLUMN IF NOT EXISTS preferred_forename_folded text COLLATE "C",
    ADD COLUMN IF NOT EXISTS surname_key text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS forename_key text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS preferred_surname_key text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS preferred_forename_key text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS names_rule smallint NOT NULL DEFAULT 0
"""
COMMENT = """
COMMENT ON COLUMN pupils.names_rule IS 'Version of the rules by which the folded names and the sort keys were computed; 0: not yet, or the names have changed since'
"""
FUNCTION = """
CREATE OR REPLACE FUNCTION mark_names() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.names_rule := 0;
    RETURN NEW;
END $$
"""
TRIGGER = """
CREATE OR REPLACE TRIGGER names_changed BEFORE UPDATE ON pupils FOR EACH ROW
WHEN (((OLD.surname, OLD.forename) IS DISTINCT FROM (NEW.surname, NEW.forename))
    AND (OLD.surname_key, OLD.forename_key, OLD.surname_folded, OLD.forename_folded)
        IS NOT DISTINCT FROM (NEW.surname_key, NEW.forename_key, NEW.surname_folded, NEW.forename_folded))
EXECUTE FUNCTION mark_names()
"""
PUPIL = """p.tenant_id, p.id, p.school_id, p.upn, p.surname, p.forename, p.date_of_birth, p.sex, p.year_group, p.version, p.xid, p.changed_at"""
NAMES = """p.preferred_surname, p.preferred_forename, p.surname_folded, p.forename_folded, p.preferred_surname_folded, p.preferred_forename_folded,
    p.surname_key, p.forename_key, p.preferred_surname_key, p.preferred_forename_key"""
GROUP_PUPILS = f"""
CREATE OR REPLACE VIEW group_pupils WITH (security_invoker = true) AS
SELECT {PUPIL}, m.group_id, m.school_id AS group_school_id, m.from_on AS member_from, m.to_on AS member_to, {NAMES}
FROM group_members m JOIN pupils p ON p.tenant_id = m.tenant_id AND p.id = m.pupil_id
"""
SCHOOL_ROLL = f"""
CREATE OR REPLACE VIEW school_roll WITH (security_invoker = true) AS
SELECT DISTINCT e.school_id AS roll_school_id, {PUPIL}, {NAMES}
FROM enrolments e JOIN pupils p ON p.tenant_id = e.tenant_id AND p.id = e.pupil_id
"""


def upgrade() -> None:
    run_each(COLUMNS, COMMENT, FUNCTION, TRIGGER, GROUP_PUPILS, SCHOOL_ROLL)
