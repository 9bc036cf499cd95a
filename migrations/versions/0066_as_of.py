"""What stood of judgements and targets on a day can be read: each value with the time from which, and until which, it stood here."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0066", "0065", None, None

OF_JUDGEMENT = """tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, scheme_version_no, grade_no, mark, status_code, recorded_at,
    received_at, recorded_at_school_id, client_id, actor, source, method, version, xid, changed_at"""
JUDGEMENTS = f"""
CREATE OR REPLACE VIEW judgements_known WITH (security_invoker = true) AS
SELECT v.*, COALESCE(b.until, v.received_at) AS known_from
FROM (
    SELECT {OF_JUDGEMENT}, 'infinity'::timestamptz AS known_until FROM judgements
    UNION ALL SELECT {OF_JUDGEMENT}, until FROM judgement_history
) v
LEFT JOIN LATERAL (
    SELECT h.until FROM judgement_history h
    WHERE h.tenant_id = v.tenant_id AND h.academic_year = v.academic_year AND h.pupil_id = v.pupil_id AND h.window_no = v.window_no
        AND h.subject_no = v.subject_no AND h.aspect_no = v.aspect_no AND h.version < v.version
    ORDER BY h.version DESC LIMIT 1
) b ON true
"""
OF_TARGET = """tenant_id, id, pupil_id, school_id, subject_no, aspect_no, horizon_year, horizon_point, basis, scheme_version_no, grade_no, visibility,
    locked_at, recorded_at, received_at, client_id, actor, version, xid, changed_at, recorded_at_school_id, lock_reason, locked_by"""
TARGETS = f"""
CREATE OR REPLACE VIEW targets_known WITH (security_invoker = true) AS
SELECT v.*, COALESCE(b.until, v.received_at) AS known_from, COALESCE(visibility_now(v.tenant_id, v.id), v.visibility) AS visibility_now
FROM (
    SELECT {OF_TARGET}, 'infinity'::timestamptz AS known_until FROM targets UNION ALL SELECT {OF_TARGET}, until FROM target_history
) v
LEFT JOIN LATERAL (
    SELECT h.until FROM target_history h WHERE h.tenant_id = v.tenant_id AND h.id = v.id AND h.version < v.version ORDER BY h.version DESC LIMIT 1
) b ON true
"""


def upgrade() -> None:
    run_each(JUDGEMENTS, TARGETS, "GRANT SELECT ON judgements_known, targets_known TO markonce_app, markonce_operator")
