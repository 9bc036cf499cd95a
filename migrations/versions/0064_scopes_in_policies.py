"""Row-level security knows scopes: a row about a pupil is shown to a caller whose grant at the school is about pupils, and so on.

A grant of aggregates or of the register alone shows no pupil, judgement or target, whatever a statement asks for. What the scopes of a
grant are about is kept beside them in `reach`, as flags: comparing lists of scopes row by row would cost more than the rest of the policy.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0064", "0063", None, None

FLAGS = """
CREATE OR REPLACE FUNCTION flag_scopes() RETURNS trigger LANGUAGE plpgsql SET search_path TO 'public', 'pg_temp' AS $$
DECLARE
    nouns text[] := ARRAY(SELECT split_part(scope, ':', 1) FROM unnest(NEW.scopes) scope);
    moves_records boolean := NEW.scopes && '{pupils:write,pupils:merge,privacy:write}';
BEGIN
    NEW.sees_pupils := nouns && '{pupils,groups,judgements,targets,audit,privacy}' OR 'windows:write' = ANY (NEW.scopes);
    NEW.sees_judgements := moves_records OR nouns && '{judgements,audit}';
    NEW.sees_targets := moves_records OR nouns && '{targets,audit}';
    NEW.sees_counts := nouns && '{aggregates}';
    NEW.writes := EXISTS (SELECT 1 FROM unnest(NEW.scopes) scope WHERE split_part(scope, ':', 2) IN ('write', 'merge')
        AND split_part(scope, ':', 1) NOT IN ('clients', 'grants', 'imports'));
    RETURN NEW;
END $$
"""

COMMENTS = {
    "sees_pupils": "The scopes are about single pupils, or discount them in a window",
    "sees_judgements": "They are about judgements, or move them with their pupil",
    "sees_targets": "They are about targets, or move them with their pupil",
    "sees_counts": "They are about aggregates",
    "writes": "One of them is a right to write what schools record",
}

ACTS_IN = """
CREATE OR REPLACE FUNCTION acts_in(in_tenant uuid, with_school uuid DEFAULT NULL) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO 'public', 'pg_temp' AS $$
BEGIN
    IF NOT (session_user = current_user OR pg_has_role(session_user, 'markonce_operator', 'MEMBER')) AND NOT EXISTS (
        SELECT 1 FROM reach r WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
            AND r.writes AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the caller may write nothing of this tenant';
    END IF;
    IF with_school IS NOT NULL AND NOT EXISTS (SELECT 1 FROM schools WHERE id = with_school AND tenant_id = in_tenant) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the school is not of this tenant';
    END IF;
END $$
"""

OF_SCHOOL = {
    "sees_pupils": [
        "enrolments", "enrolment_history", "external_ids", "group_members", "planned_pupils", "planned_rolls", "planned_stays", "pupil_rolls", "shared_pupils",
    ],
    "sees_counts": ["cells", "totals"],
}  # fmt: skip
OF_PUPIL = {
    "sees_pupils": ["pupils", "upns", "characteristics", "characteristic_history"],
    "sees_judgements": ["judgements", "judgement_history"],
    "sees_targets": ["targets", "target_history"],
}
ITSELF = "r.client_id = (SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid) AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())"
"""Policies that name who is calling once more."""


def _reaches(table: str, flag: str, school: str = "school_id") -> str:
    return f"EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {table}.tenant_id AND r.school_id = {table}.{school} AND r.{flag})"


def _shares(table: str, flag: str) -> str:
    pupil = "id" if table == "pupils" else "pupil_id"
    return (
        f"EXISTS (SELECT 1 FROM shared_pupils s JOIN reach r ON r.tenant_id = s.tenant_id AND r.school_id = s.school_id AND r.{flag}"
        f" WHERE s.tenant_id = {table}.tenant_id AND s.pupil_id = {table}.{pupil})"
    )


def _write_conditions() -> dict[str, str]:
    """By table, the condition of its policy `reached`."""
    of_school = {table: _reaches(table, flag) for flag, tables in OF_SCHOOL.items() for table in tables}
    of_pupil = {
        table: f"{_reaches(table, flag)} OR {_shares(table, flag)}" for flag, tables in OF_PUPIL.items() for table in tables
    }
    every_pupil = "cardinality(pupil_ids) = (SELECT count(*) FROM pupils p WHERE p.tenant_id = data_issues.tenant_id AND p.id = ANY (data_issues.pupil_ids))"
    own_pupil = "EXISTS (SELECT 1 FROM pupils p WHERE p.tenant_id = pupil_history.tenant_id AND p.id = pupil_history.pupil_id)"
    others = {
        "data_issues": f"{_reaches('data_issues', 'sees_pupils')} AND (kind <> 'possible-same-child' OR {every_pupil})",
        "pupil_history": f"{own_pupil} AND (spell_school_id IS NULL OR {_reaches('pupil_history', 'sees_pupils', 'spell_school_id')})",
        "discounted_cells": _reaches("discounted_cells", f"sees_counts AND {ITSELF}"),
    }
    return of_school | of_pupil | others


def upgrade() -> None:
    run_each(
        *(f"ALTER TABLE reach ADD COLUMN IF NOT EXISTS {name} boolean" for name in COMMENTS),
        *(f"COMMENT ON COLUMN reach.{name} IS '{comment}'" for name, comment in COMMENTS.items()),
        FLAGS,
        "CREATE OR REPLACE TRIGGER flag_scopes BEFORE INSERT OR UPDATE OF scopes ON reach FOR EACH ROW EXECUTE FUNCTION flag_scopes()",
        "UPDATE reach SET scopes = scopes WHERE writes IS NULL",
        ACTS_IN,
        *(f"ALTER POLICY reached ON {table} USING ({condition})" for table, condition in _write_conditions().items()),
    )
