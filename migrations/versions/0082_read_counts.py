"""How often clients were given which groups of collected values: counted by day, in functions of the owner alone."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0082", "0081", None, None

COUNTS = """
CREATE TABLE IF NOT EXISTS read_counts (
    tenant_id uuid NOT NULL, school_id uuid NOT NULL, window_no smallint NOT NULL, subject_no smallint NOT NULL, aspect_no smallint NOT NULL,
    client_id uuid NOT NULL, resource text NOT NULL, kind text NOT NULL CHECK (kind IN ('front-end', 'sync', 'analytics', 'unknown')),
    day date NOT NULL, number bigint NOT NULL,
    PRIMARY KEY (tenant_id, school_id, window_no, subject_no, aspect_no, client_id, resource, kind, day),
    FOREIGN KEY (tenant_id, window_no) REFERENCES windows (tenant_id, no) ON DELETE CASCADE
)
"""
UNKNOWN = """
CREATE TABLE IF NOT EXISTS unknown_reads (
    tenant_id uuid NOT NULL, client_id uuid NOT NULL, kind text NOT NULL CHECK (kind IN ('front-end', 'sync', 'analytics', 'unknown')),
    day date NOT NULL, not_modified bigint NOT NULL, lost bigint NOT NULL, PRIMARY KEY (tenant_id, client_id, kind, day)
)
"""
BEGAN = """
CREATE TABLE IF NOT EXISTS read_counting (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), began_at timestamptz NOT NULL DEFAULT now())
"""
KIND = """
CREATE OR REPLACE FUNCTION find_client_kind(of_client uuid, in_tenant uuid, at_school uuid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT COALESCE((
        SELECT COALESCE(g.kind, 'unknown') FROM reach r JOIN grants g ON g.id = r.grant_id
        WHERE r.client_id = of_client AND r.scopes && '{judgements:read,aggregates:read,aggregates:internal}'::text[]
        ORDER BY r.tenant_id = in_tenant AND r.school_id = at_school DESC, r.tenant_id = in_tenant DESC, g.kind = 'front-end' DESC NULLS LAST, g.kind
        LIMIT 1
    ), (SELECT g.kind FROM grants g WHERE g.client_id = of_client AND g.kind IS NOT NULL ORDER BY g.approved_at DESC, g.id LIMIT 1), 'unknown')
$$
"""
COUNT = """
CREATE OR REPLACE FUNCTION count_reads(
    on_day date, clients uuid[], tenants uuid[], at_schools uuid[], windows_nos smallint[], subject_nos smallint[], aspect_nos smallint[],
    resources text[], numbers bigint[]
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH given AS MATERIALIZED (
        SELECT g.* FROM unnest(clients, tenants, at_schools, windows_nos, subject_nos, aspect_nos, resources, numbers)
            AS g (client_id, tenant_id, school_id, window_no, subject_no, aspect_no, resource, number)
        JOIN windows w ON w.tenant_id = g.tenant_id AND w.no = g.window_no
    ), kinds AS MATERIALIZED (
        SELECT k.*, find_client_kind(k.client_id, k.tenant_id, k.school_id) AS kind
        FROM (SELECT DISTINCT client_id, tenant_id, school_id FROM given) k
    )
    INSERT INTO read_counts AS c (tenant_id, school_id, window_no, subject_no, aspect_no, client_id, resource, kind, day, number)
    SELECT g.tenant_id, g.school_id, g.window_no, g.subject_no, g.aspect_no, g.client_id, g.resource, k.kind, on_day, sum(g.number)
    FROM given g JOIN kinds k ON k.client_id = g.client_id AND k.tenant_id = g.tenant_id AND k.school_id = g.school_id
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
    ON CONFLICT (tenant_id, school_id, window_no, subject_no, aspect_no, client_id, resource, kind, day)
    DO UPDATE SET number = c.number + excluded.number
$$
"""
COUNT_POOLED = """
CREATE OR REPLACE FUNCTION count_pooled_reads(
    on_day date, clients uuid[], at_schools uuid[], window_codes text[], subject_codes text[], numbers bigint[]
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH pooled AS (
        SELECT g.client_id, s.tenant_id, s.id AS school_id, w.no AS window_no, COALESCE(c.part_no, b.no) AS subject_no, max(g.number) AS number
        FROM unnest(clients, at_schools, window_codes, subject_codes, numbers) AS g (client_id, school_id, window_code, subject_code, number)
        JOIN schools s ON s.id = g.school_id
        JOIN windows w ON w.tenant_id = s.tenant_id AND w.code = g.window_code
        JOIN subjects b ON b.tenant_id = s.tenant_id AND b.code = g.subject_code
        LEFT JOIN conjunction_parts c ON c.tenant_id = b.tenant_id AND c.subject_no = b.no
        GROUP BY 1, 2, 3, 4, 5
    ), collected AS (
        SELECT p.* FROM pooled p WHERE EXISTS (
            SELECT 1 FROM pins n WHERE n.tenant_id = p.tenant_id AND n.window_no = p.window_no AND n.school_id = p.school_id
                AND n.subject_no = p.subject_no AND n.aspect_no = 0
        )
    )
    SELECT count_reads(on_day, array_agg(client_id), array_agg(tenant_id), array_agg(school_id), array_agg(window_no), array_agg(subject_no),
        array_agg(0::smallint), array_agg('aggregates'::text), array_agg(number)) FROM collected
$$
"""
COUNT_UNKNOWN = """
CREATE OR REPLACE FUNCTION count_unknown_reads(on_day date, clients uuid[], not_modified bigint[], lost bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO unknown_reads AS u (tenant_id, client_id, kind, day, not_modified, lost)
    SELECT t.tenant_id, g.client_id, find_client_kind(g.client_id, t.tenant_id, t.tenant_id), on_day, sum(g.not_modified), sum(g.lost)
    FROM unnest(clients, not_modified, lost) AS g (client_id, not_modified, lost)
    CROSS JOIN LATERAL (
        SELECT DISTINCT r.tenant_id FROM reach r WHERE r.client_id = g.client_id
        UNION SELECT g.client_id WHERE g.client_id = '00000000-0000-0000-0000-000000000000'
    ) t
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (tenant_id, client_id, kind, day)
    DO UPDATE SET not_modified = u.not_modified + excluded.not_modified, lost = u.lost + excluded.lost
$$
"""
REMOVE = """
CREATE OR REPLACE FUNCTION remove_old_read_counts(most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH removed AS (
        DELETE FROM read_counts
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM read_counts WHERE day <= (now() - interval '13 months')::date LIMIT most)) RETURNING 1
    ), unknown AS (
        DELETE FROM unknown_reads
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM unknown_reads WHERE day <= (now() - interval '13 months')::date LIMIT most)) RETURNING 1
    )
    SELECT (SELECT count(*) FROM removed) + (SELECT count(*) FROM unknown)
$$
"""
FUNCTIONS = {
    "count_reads": "Adds to the counts of reads of groups. The kind of a client is that of its grant at the school as it is now",
    "count_pooled_reads": "Adds to the counts of reads of groups that were pooled in aggregates, by codes; of conjunctions those of their parts",
    "count_unknown_reads": "Adds to the counts of answers whose groups are not known, and of counts that were lost, in each tenant that the client reaches",
    "remove_old_read_counts": "Deletes counts of reads older than 13 months",
}


def upgrade() -> None:
    run_each(
        COUNTS,
        "COMMENT ON TABLE read_counts IS 'How often a client was given values of a group on a day. It is written and read by functions of the owner alone'",
        "CREATE INDEX IF NOT EXISTS read_counts_by_day ON read_counts (day)",
        "CREATE INDEX IF NOT EXISTS read_counts_by_window ON read_counts (tenant_id, window_no)",
        UNKNOWN,
        "COMMENT ON TABLE unknown_reads IS 'Answers 304 for bodies whose groups are not known, and counts that were lost, by client and day'",
        BEGAN,
        "COMMENT ON TABLE read_counting IS 'Since when reads are counted'",
        "INSERT INTO read_counting DEFAULT VALUES ON CONFLICT DO NOTHING",
        *(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY" for table in ("read_counts", "unknown_reads")),
        *(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = '{table}'::regclass) THEN CREATE POLICY maintenance ON {table}"
            " TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true); END IF; END $$"
            for table in ("read_counts", "unknown_reads")
        ),
        "GRANT SELECT, INSERT, DELETE ON read_counts, unknown_reads TO markonce_operator",
        "GRANT SELECT, UPDATE ON read_counting TO markonce_operator",
        KIND,
        "COMMENT ON FUNCTION find_client_kind IS 'What a client does with the data of a school, as the grant by which it reads there says it'",
        "REVOKE ALL ON FUNCTION find_client_kind FROM PUBLIC",
        COUNT,
        COUNT_POOLED,
        COUNT_UNKNOWN,
        REMOVE,
        *(f"COMMENT ON FUNCTION {name} IS '{comment}'" for name, comment in FUNCTIONS.items()),
        *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS),
        *(f"GRANT EXECUTE ON FUNCTION {name} TO markonce_app, markonce_operator" for name in FUNCTIONS),
    )
