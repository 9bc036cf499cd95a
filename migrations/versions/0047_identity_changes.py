"""When a pupil's permanent UPN and surname changed, so that both of them in two steps are seen as both at once.

read_pupil_identities replaces read_identities, which a program of the release before still calls.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0047", "0046", None, None

STATEMENTS = (
    "ALTER TABLE pupils ADD COLUMN IF NOT EXISTS former_surname text, ADD COLUMN IF NOT EXISTS surname_changed_on date,"
    " ADD COLUMN IF NOT EXISTS upn_changed_on date",
    "COMMENT ON COLUMN pupils.former_surname IS 'The surname before the last changes of it; with surname_changed_on and upn_changed_on, what a new identity in two"
    " steps is known by'",
    r"""
    CREATE OR REPLACE FUNCTION read_pupil_identities(in_tenant uuid, of_pupils uuid[]) RETURNS TABLE (
        id uuid, school_id uuid, upn text, surname text, forename text, date_of_birth date, sex text, open_main_from date, open_main_status text,
        former_surname text, surname_changed_on date, upn_changed_on date, former_upns text[]
    ) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    #variable_conflict use_column
    BEGIN
        PERFORM acts_in(in_tenant);
        RETURN QUERY SELECT p.id, p.school_id, p.upn, p.surname, p.forename, p.date_of_birth, p.sex, e.from_on, e.status,
            p.former_surname, p.surname_changed_on, p.upn_changed_on,
            CASE WHEN p.upn IS NULL OR p.upn ~ '[^0-9]$' THEN
                ARRAY(SELECT u.upn FROM upns u WHERE u.tenant_id = in_tenant AND u.pupil_id = p.id AND u.upn !~ '[^0-9]$')
            ELSE '{}' END
        FROM unnest(of_pupils) AS g (id)
        JOIN LATERAL (SELECT * FROM pupils WHERE tenant_id = in_tenant AND pupils.id = g.id LIMIT 1) p ON true
        LEFT JOIN LATERAL (
            SELECT from_on, status FROM enrolments WHERE tenant_id = in_tenant AND pupil_id = p.id AND enrolments.school_id = p.school_id
                AND status IN ('C', 'M', 'F', 'O') AND to_on IS NULL ORDER BY from_on DESC LIMIT 1
        ) e ON true;
    END $$
    """,
    "COMMENT ON FUNCTION read_pupil_identities IS 'By what a row of a roll is compared with the pupils that its keys lead to, within reach or not. former_upns are"
    " permanent ones, of a pupil who has none now'",
    "REVOKE ALL ON FUNCTION read_pupil_identities FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION read_pupil_identities TO markonce_app, markonce_operator",
)


def upgrade() -> None:
    run_each(*STATEMENTS)
