"""Row-level security of targets and of their history knows their visibility; locks have reasons, and what changed can be read.

The same is said by domain/assessment/target_visibility.py. Whoever writes targets, or moves, merges and splits pupils, needs all of them.
"""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0065", "0064", None, None

SEEN = """(
    ({table}.visibility IN ('school', 'family') AND 'targets:read' = ANY (r.scopes)) OR 'targets:staff' = ANY (r.scopes)
    OR ({table}.visibility = 'family' AND 'targets:family' = ANY (r.scopes)) OR {table}.client_id = r.client_id
)"""
POLICY = f"""
CREATE POLICY visible ON {{table}} AS RESTRICTIVE FOR SELECT TO markonce_app USING (
    EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {{table}}.tenant_id AND r.school_id = {{table}}.school_id AND {SEEN})
    OR EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {{table}}.tenant_id AND r.scopes && ARRAY['targets:write', 'pupils:write', 'pupils:merge', 'privacy:write'])
    OR ({{table}}.visibility = 'trust' AND EXISTS (
        SELECT 1 FROM reach r WHERE r.tenant_id = {{table}}.tenant_id AND r.school_id = {{table}}.tenant_id AND 'targets:read' = ANY (r.scopes)
    ))
    OR EXISTS (
        SELECT 1 FROM shared_pupils s JOIN reach r ON r.tenant_id = s.tenant_id AND r.school_id = s.school_id
        WHERE s.tenant_id = {{table}}.tenant_id AND s.pupil_id = {{table}}.pupil_id AND {SEEN}
    )
)
"""
NOW = """
CREATE OR REPLACE FUNCTION visibility_now(in_tenant uuid, of_target uuid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT t.visibility FROM targets t WHERE t.tenant_id = in_tenant AND t.id = of_target AND EXISTS (
        SELECT 1 FROM reach r WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
            AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    )
$$
"""
COLUMNS = """tenant_id, id, pupil_id, school_id, subject_no, aspect_no, horizon_year, horizon_point, basis, scheme_version_no, grade_no, visibility,
    locked_at, lock_reason, locked_by, recorded_at, received_at, client_id, actor, recorded_at_school_id, version"""
CHANGES = f"""
CREATE OR REPLACE VIEW target_changes WITH (security_invoker = true) AS
SELECT v.*, COALESCE(b.until, v.received_at) AS changed_at, b.scheme_version_no AS before_scheme_version_no, b.grade_no AS before_grade_no,
    b.visibility AS before_visibility, b.locked_at AS before_locked_at, COALESCE(visibility_now(v.tenant_id, v.id), v.visibility) AS visibility_now
FROM (SELECT {COLUMNS} FROM targets UNION ALL SELECT {COLUMNS} FROM target_history) v
LEFT JOIN LATERAL (
    SELECT h.scheme_version_no, h.grade_no, h.visibility, h.locked_at, h.until FROM target_history h
    WHERE h.tenant_id = v.tenant_id AND h.id = v.id AND h.version < v.version ORDER BY h.version DESC LIMIT 1
) b ON true
"""


def upgrade() -> None:
    run_each(
        *(
            statement.format(table=table)
            for table in ("targets", "target_history")
            for statement in (
                "DROP POLICY IF EXISTS visible ON {table}",
                POLICY,
                "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS lock_reason text, ADD COLUMN IF NOT EXISTS locked_by text",
                "COMMENT ON COLUMN {table}.lock_reason IS 'Why it was locked, or unlocked last; null where it never was'",
            )
        ),
        NOW,
        "COMMENT ON FUNCTION visibility_now IS 'The visibility that a target has now, so that its history is shown to nobody who may not see it any more;"
        " null where it was replaced. Nothing unless the caller reaches something of the tenant'",
        "REVOKE ALL ON FUNCTION visibility_now FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION visibility_now TO markonce_app, markonce_operator",
        CHANGES,
        "GRANT SELECT ON target_changes TO markonce_app, markonce_operator",
    )
