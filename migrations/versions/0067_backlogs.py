"""A function that says how much waits, of all clients together, for the figures that an operator watches."""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0067", "0066", None, None

READ = """
CREATE OR REPLACE FUNCTION read_backlogs(today date) RETURNS TABLE (kind text, number bigint, age double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT s.state, count(j.id), COALESCE(max(extract(epoch FROM clock_timestamp() - j.created_at)), 0)
    FROM unnest(ARRAY['receiving', 'queued', 'running']) AS s (state) LEFT JOIN jobs j ON j.state = s.state GROUP BY s.state
    UNION ALL
    SELECT 'jobs', count(*), COALESCE(max(extract(epoch FROM clock_timestamp() - j.created_at)), 0)
    FROM jobs j WHERE j.state IN ('queued', 'running')
    UNION ALL
    SELECT 'planned_rolls', count(*), COALESCE(max(extract(epoch FROM clock_timestamp() - GREATEST(p.as_of::timestamptz, p.received_at))), 0)
    FROM planned_rolls p WHERE p.state = 'planned' AND p.replaced_by IS NULL AND p.as_of <= today
    UNION ALL
    SELECT 'staged_bytes', COALESCE(sum(j.staged_bytes), 0)::bigint, 0 FROM jobs j WHERE j.staged_bytes > 0
    UNION ALL
    SELECT 'register', today - max(r.as_of), 0 FROM register_imports r
$$
"""
COMMENT = "COMMENT ON FUNCTION read_backlogs(date) IS 'How much waits, of all clients together, and for how many seconds: no row is told from another'"


def upgrade() -> None:
    for statement in (
        READ,
        COMMENT,
        "REVOKE ALL ON FUNCTION read_backlogs(date) FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION read_backlogs(date) TO markonce_app, markonce_operator",
    ):
        op.execute(statement)
