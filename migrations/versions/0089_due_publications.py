"""A window publishes itself so many days after it has closed; what closed before publications were there is queued for a first edition."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0089", "0088", None, None

AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"
CLAIM = f"""
CREATE OR REPLACE FUNCTION claim_publication(by_holder uuid, lease_seconds integer)
RETURNS TABLE (tenant_id uuid, id uuid, client_id uuid) LANGUAGE plpgsql {AS_OWNER} $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('markonce publications', 0));
    RETURN QUERY UPDATE publications p SET state = 'protecting', attempts = attempts + 1, holder = by_holder,
        leased_until = clock_timestamp() + make_interval(secs => lease_seconds)
    WHERE (p.tenant_id, p.id) = (
        SELECT w.tenant_id, w.id FROM publications w
        WHERE w.state IN ('queued', 'protecting') AND COALESCE(w.leased_until, '-infinity') < clock_timestamp() AND NOT EXISTS (
            SELECT 1 FROM publications o WHERE o.tenant_id = w.tenant_id AND o.state = 'protecting' AND o.leased_until >= clock_timestamp()
        ) AND (w.days_after_closing IS NULL OR EXISTS (
            SELECT 1 FROM windows c WHERE c.tenant_id = w.tenant_id AND c.no = w.window_no
                AND window_state(c.state, c.opens_at, c.closes_at, now()) IN ('closed', 'locked')
                AND COALESCE(c.closed_at, c.closes_at) + make_interval(days => w.days_after_closing) <= now()
        ))
        ORDER BY w.requested_at, w.id LIMIT 1
    ) RETURNING p.tenant_id, p.id, p.client_id;
END $$
"""
# One window of each census day, since two are about the same pupils; as a client that may read all its figures
FIRST_EDITIONS = """
WITH closed AS (
    SELECT DISTINCT ON (w.tenant_id, w.census_on) w.tenant_id, w.no FROM windows w
    WHERE window_state(w.state, w.opens_at, w.closes_at, now()) IN ('closed', 'locked')
        AND EXISTS (SELECT 1 FROM totals c WHERE c.tenant_id = w.tenant_id AND c.window_no = w.no AND c.eligible > 0)
        AND NOT EXISTS (SELECT 1 FROM publications p WHERE p.tenant_id = w.tenant_id)
    ORDER BY w.tenant_id, w.census_on, (SELECT count(DISTINCT i.school_id) FROM pins i WHERE i.tenant_id = w.tenant_id AND i.window_no = w.no) DESC, w.no
), made AS (
    INSERT INTO publications (tenant_id, id, window_no, no, kind, level, sizes_from, attainment_from, seed, client_id)
    SELECT w.tenant_id, overlay(gen_random_uuid()::text PLACING '701a' FROM 15 FOR 4)::uuid, w.no, 1, 'final', 'department',
        t.suppression_threshold, t.suppression_threshold, 1, reader.client_id
    FROM closed w JOIN tenants t ON t.id = w.tenant_id
    JOIN LATERAL (
        SELECT r.client_id FROM reach r JOIN clients k ON k.id = r.client_id AND k.revoked_at IS NULL
        JOIN schools s ON s.id = r.school_id AND s.tenant_id = r.tenant_id
        WHERE r.tenant_id = w.tenant_id AND 'aggregates:internal' = ANY (r.scopes) AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
        GROUP BY r.client_id HAVING count(DISTINCT s.id) = (SELECT count(*) FROM schools o WHERE o.tenant_id = w.tenant_id)
        ORDER BY r.client_id LIMIT 1
    ) reader ON true
    ON CONFLICT DO NOTHING RETURNING tenant_id, id, client_id
)
INSERT INTO publication_changes (tenant_id, publication_id, version, outcome, reason, client_id)
SELECT tenant_id, id, 1, 'requested', 'The first edition, after an upgrade', client_id FROM made
"""


def upgrade() -> None:
    run_each(
        "ALTER TABLE publications ADD COLUMN IF NOT EXISTS days_after_closing smallint CHECK (days_after_closing BETWEEN 0 AND 365)",
        CLAIM,
        FIRST_EDITIONS,
    )
