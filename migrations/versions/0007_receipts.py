"""Receipts of batches, the moment a window was closed, and what each school has returned to a window.

window_returns is SECURITY DEFINER for the same reason as the counting of migration 0005: whom a school is to judge is decided by the census, and a
pupil of that day may be on roll elsewhere now, where row-level security would hide them. It answers for the schools at which the caller holds
windows:read and judgements:read, and names only pupils within the caller's reach.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SQL = """
ALTER TABLE windows ADD COLUMN closed_at timestamptz;

COMMENT ON COLUMN windows.closed_at IS 'When it was closed; null while it is not, and for windows closed before this was noted';

CREATE TABLE receipts (
    tenant_id uuid,
    id uuid,
    school_id uuid NOT NULL REFERENCES schools,
    window_no smallint,
    subject_no smallint,
    aspect_no smallint,
    client_id uuid NOT NULL,
    operation text NOT NULL,
    accepted boolean NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    received integer NOT NULL,
    created integer NOT NULL,
    updated integer NOT NULL,
    unchanged integer NOT NULL,
    superseded integer NOT NULL,
    withdrawn integer NOT NULL,
    rejected integer NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (received = created + updated + unchanged + superseded + withdrawn + rejected)
);

CREATE INDEX receipts_by_time ON receipts (tenant_id, received_at, id);

CREATE INDEX receipts_by_school ON receipts (tenant_id, school_id, received_at, id);

CREATE INDEX receipts_by_line ON receipts (tenant_id, school_id, window_no, subject_no, aspect_no, received_at);

COMMENT ON TABLE receipts IS 'What became of each batch at each school, and of judgements in each window, subject and aspect. Kept for 13 months';

GRANT SELECT, INSERT ON receipts TO markonce_app;

GRANT SELECT, INSERT, DELETE ON receipts TO markonce_operator;

CREATE FUNCTION window_returns(in_tenant uuid, of_window smallint, listed integer) RETURNS TABLE (
    school_id uuid, subject_no smallint, aspect_no smallint, expected integer, received integer, missing_pupil_ids uuid[]
) LANGUAGE sql STABLE SECURITY DEFINER ROWS 100 COST 100000 SET search_path = public, pg_temp AS $$
    WITH grants_in_force AS MATERIALIZED (
        SELECT r.school_id, r.scopes FROM reach r
        WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
            AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    ), reached AS MATERIALIZED (
        SELECT g.school_id FROM grants_in_force g GROUP BY g.school_id
        HAVING bool_or('windows:read' = ANY (g.scopes)) AND bool_or('judgements:read' = ANY (g.scopes))
    ), eligible AS MATERIALIZED (
        SELECT c.school_id, c.pupil_id, c.academic_year,
            EXISTS (SELECT 1 FROM grants_in_force g WHERE g.school_id = p.school_id AND 'pupils:read' = ANY (g.scopes)) OR EXISTS (
                SELECT 1 FROM shared_pupils s JOIN grants_in_force g ON g.school_id = s.school_id AND 'pupils:read' = ANY (g.scopes)
                WHERE s.tenant_id = in_tenant AND s.pupil_id = p.id
            ) AS seen
        FROM census c CROSS JOIN LATERAL (SELECT id, school_id FROM pupils WHERE tenant_id = in_tenant AND pupils.id = c.pupil_id LIMIT 1) p
        WHERE c.tenant_id = in_tenant AND c.window_no = of_window AND c.school_id IN (SELECT r.school_id FROM reached r)
    )
    SELECT n.school_id, n.subject_no, n.aspect_no, count(e.pupil_id)::integer, count(j.found)::integer,
        COALESCE((array_agg(e.pupil_id ORDER BY e.pupil_id) FILTER (WHERE e.seen AND j.found IS NULL))[:listed], '{}')
    FROM pins n
    LEFT JOIN eligible e ON e.school_id = n.school_id
    LEFT JOIN LATERAL (
        SELECT true AS found FROM judgements j WHERE j.tenant_id = in_tenant AND j.academic_year = e.academic_year AND j.pupil_id = e.pupil_id
            AND j.window_no = of_window AND j.subject_no = n.subject_no AND j.aspect_no = n.aspect_no AND j.status_code IS DISTINCT FROM 'withdrawn' LIMIT 1
    ) j ON true
    WHERE n.tenant_id = in_tenant AND n.window_no = of_window AND n.school_id IN (SELECT r.school_id FROM reached r)
    GROUP BY n.school_id, n.subject_no, n.aspect_no
$$;

COMMENT ON FUNCTION window_returns IS 'By school, subject and aspect that a window collects: whom the census expects, for how many there is a value, and who is missing, as far as listed. LIMIT keeps each look-up an index probe, also before the tables have statistics';

REVOKE ALL ON FUNCTION window_returns FROM PUBLIC;

GRANT EXECUTE ON FUNCTION window_returns TO markonce_app, markonce_operator;

CREATE VIEW returns WITH (security_invoker = true) AS
SELECT w.tenant_id, w.no AS window_no, w.code AS window_code, s.id AS school_id, s.urn AS school_urn, s.name AS school_name, f.subject_no, f.aspect_no,
    f.expected, f.received, f.expected - f.received AS missing, f.missing_pupil_ids,
    cardinality(f.missing_pupil_ids) < f.expected - f.received AS missing_cut,
    last.received_at AS last_push_at, c.name AS last_client, last.rejected AS last_rejected
FROM windows w
CROSS JOIN LATERAL window_returns(w.tenant_id, w.no, 200) f
JOIN schools s ON s.id = f.school_id
LEFT JOIN LATERAL (
    SELECT r.received_at, r.client_id, r.rejected FROM receipts r
    WHERE r.tenant_id = w.tenant_id AND r.school_id = f.school_id AND r.window_no = w.no AND r.subject_no = f.subject_no AND r.aspect_no = f.aspect_no
    ORDER BY r.received_at DESC LIMIT 1
) last ON true
LEFT JOIN clients c ON c.id = last.client_id;

COMMENT ON VIEW returns IS 'What each school has returned to each window, beside the last receipt';

GRANT SELECT ON returns TO markonce_app, markonce_operator
"""

POLICY = """EXISTS (SELECT 1 FROM reach r WHERE r.client_id = (SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid)
    AND r.tenant_id = receipts.tenant_id AND r.school_id = receipts.school_id AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now()))"""


def upgrade() -> None:
    connection = op.get_bind()
    for statement in SQL.strip().split(";\n\n"):
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("ALTER TABLE receipts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    connection.exec_driver_sql(f"CREATE POLICY reached ON receipts TO markonce_app USING ({POLICY})")
    connection.exec_driver_sql(
        "CREATE POLICY maintenance ON receipts TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)"
    )
