"""The audit of collections: what people say of each type of data at any level, and beside it what was measured, in counts alone."""

from migrations.steps import build_index, protect_table, run_each

revision, down_revision, branch_labels, depends_on = "0083", "0082", None, None

ANSWERS = """
CREATE TABLE IF NOT EXISTS collection_answers (
    tenant_id uuid NOT NULL, id uuid NOT NULL, school_id uuid REFERENCES schools, subject_no smallint, aspect_no smallint, window_kind text,
    purpose text, audience text, decision text, impact text, verdict text CHECK (verdict IN ('keep', 'change', 'stop')), decided_by text, review_on date,
    typed_seconds smallint, imported_seconds smallint, carried_seconds smallint,
    client_id uuid NOT NULL, written_at timestamptz NOT NULL DEFAULT clock_timestamp(), replaced_at timestamptz, version integer NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id), CHECK ((verdict IS NULL) = (decided_by IS NULL) AND (verdict IS NULL) = (review_on IS NULL)),
    CHECK (aspect_no IS NULL OR subject_no IS NOT NULL)
)
"""
_IN_FORCE = "r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())"
_CALLER = "NULLIF(current_setting('markonce.caller', true), '')::uuid"
_SEASON = (
    "COALESCE(w.season, CASE WHEN extract(month FROM w.census_on) >= 9 THEN 'autumn'"
    " WHEN w.census_on <= make_date(extract(year FROM w.census_on)::int, 4, 15) THEN 'spring' ELSE 'summer' END)"
)
_LEVEL = "COALESCE(NULLIF(concat_ws('+', CASE WHEN a.school_id IS NOT NULL THEN 'school' END, CASE WHEN a.subject_no IS NOT NULL THEN 'subject' END,"
_LEVEL += (
    " CASE WHEN a.aspect_no IS NOT NULL THEN 'aspect' END, CASE WHEN a.window_kind IS NOT NULL THEN 'kind' END), ''), 'trust')"
)
_RANK = "(a.school_id IS NOT NULL)::int * 8 + (a.subject_no IS NOT NULL)::int * 4 + (a.aspect_no IS NOT NULL)::int * 2 + (a.window_kind IS NOT NULL)::int"


def _pick(value: str, said: str) -> str:
    """Returns in SQL the value of the most specific answer that says this."""
    return f"(array_agg({value} ORDER BY a.rank DESC) FILTER (WHERE {said}))[1]"


_SAYS_VERDICT = "a.verdict IS NOT NULL AND NOT (a.verdict = 'stop' AND statutory AND a.window_kind IS NULL)"
FIND_ANSWERS = f"""
CREATE OR REPLACE FUNCTION find_collection_answers(in_tenant uuid, at_school uuid, of_subject smallint, of_aspect smallint, of_kind text, statutory boolean)
RETURNS TABLE (purpose text, purpose_level text, audience text, audience_level text, decision text, decision_level text, impact text, impact_level text,
    verdict text, decided_by text, review_on date, verdict_level text, typed_seconds smallint, imported_seconds smallint, carried_seconds smallint)
LANGUAGE sql STABLE ROWS 1 SET search_path = public, pg_temp AS $$
    SELECT {", ".join(f"{_pick(f'a.{name}', f'a.{name} IS NOT NULL')}, {_pick('a.level', f'a.{name} IS NOT NULL')}" for name in ("purpose", "audience", "decision", "impact"))},
        {", ".join(_pick(value, _SAYS_VERDICT) for value in ("a.verdict", "a.decided_by", "a.review_on", "a.level"))},
        {", ".join(_pick(f"a.{name}", f"a.{name} IS NOT NULL") for name in ("typed_seconds", "imported_seconds", "carried_seconds"))}
    FROM (
        SELECT a.*, {_LEVEL} AS level, {_RANK} AS rank FROM collection_answers a
        WHERE a.tenant_id = in_tenant AND a.replaced_at IS NULL AND (a.school_id IS NULL OR a.school_id = at_school)
            AND (a.subject_no IS NULL OR a.subject_no = of_subject) AND (a.aspect_no IS NULL OR a.aspect_no = of_aspect)
            AND (a.window_kind IS NULL OR a.window_kind = of_kind)
    ) a
$$
"""
LIST = f"""
CREATE OR REPLACE FUNCTION list_collections() RETURNS TABLE (
    tenant_id uuid, school_id uuid, subject_no smallint, aspect_no smallint, scheme_id uuid, window_kind text, statutory boolean,
    purpose text, purpose_level text, audience text, audience_level text, decision text, decision_level text, impact text, impact_level text,
    verdict text, decided_by text, review_on date, verdict_level text, windows integer, groups integer, groups_never_read integer,
    entered integer, never_read integer, overwritten integer, unchanged integer, writers integer, typed integer, imported integer, carried integer,
    typed_seconds integer, imported_seconds integer, carried_seconds integer, reads integer, aggregate_reads integer, sync_reads integer,
    analytics_reads integer, unknown_kind_reads integer, front_ends integer, not_modified_unknown integer, lost_counts integer, reuse numeric, counted_since timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER ROWS 500 COST 100000 SET search_path = public, pg_temp AS $$
    WITH seen AS MATERIALIZED (
        SELECT DISTINCT s.tenant_id, s.id FROM schools s JOIN reach r ON r.tenant_id = s.tenant_id AND r.school_id = s.id
        WHERE r.client_id = {_CALLER} AND 'collections:read' = ANY (r.scopes) AND {_IN_FORCE}
    ), collected AS MATERIALIZED (
        SELECT p.tenant_id, p.school_id, p.window_no, p.subject_no, p.aspect_no, v.scheme_id, COALESCE(w.template, {_SEASON}) AS kind, w.statutory,
            w.academic_year, w.census_on, w.purpose, w.audience, w.decision
        FROM seen s
        JOIN pins p ON p.tenant_id = s.tenant_id AND p.school_id = s.id
        JOIN windows w ON w.tenant_id = p.tenant_id AND w.no = p.window_no AND w.closes_at > now() - interval '13 months'
        JOIN scheme_versions v ON v.tenant_id = p.tenant_id AND v.no = p.scheme_version_no
    ), judged AS MATERIALIZED (
        SELECT j.tenant_id, j.recorded_at_school_id AS school_id, j.window_no, j.subject_no, j.aspect_no, j.client_id,
            COALESCE(j.actor, j.client_id::text) AS writer,
            CASE WHEN lower(j.method) IN ('typed', 'imported', 'carried') THEN lower(j.method) END AS how,
            count(*) AS n, count(*) FILTER (WHERE j.version > 1) AS overwritten, min(j.received_at) AS first_at
        FROM (SELECT DISTINCT c.tenant_id, c.academic_year, c.window_no FROM collected c) w
        JOIN judgements j ON j.tenant_id = w.tenant_id AND j.academic_year = w.academic_year AND j.window_no = w.window_no
        JOIN seen s ON s.tenant_id = j.tenant_id AND s.id = j.recorded_at_school_id
        WHERE j.status_code IS DISTINCT FROM 'withdrawn'
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    ), kinds AS MATERIALIZED (
        SELECT k.*, find_client_kind(k.client_id, k.tenant_id, k.school_id) AS kind
        FROM (SELECT DISTINCT j.client_id, j.tenant_id, j.school_id FROM judged j) k
    ), entered AS MATERIALIZED (
        SELECT j.tenant_id, j.school_id, j.window_no, j.subject_no, j.aspect_no, sum(j.n) AS n, sum(j.overwritten) AS overwritten,
            min(j.first_at) AS first_at, sum(j.n) FILTER (WHERE x.how = 'imported') AS imported, sum(j.n) FILTER (WHERE x.how = 'carried') AS carried
        FROM judged j JOIN kinds k ON k.client_id = j.client_id AND k.tenant_id = j.tenant_id AND k.school_id = j.school_id
        CROSS JOIN LATERAL (SELECT COALESCE(j.how, CASE WHEN k.kind IN ('sync', 'analytics') THEN 'imported' ELSE 'typed' END) AS how) x
        GROUP BY 1, 2, 3, 4, 5
    ), given AS MATERIALIZED (
        SELECT c.tenant_id, c.school_id, c.window_no, c.subject_no, c.aspect_no,
            count(DISTINCT c.client_id) FILTER (WHERE c.kind = 'front-end' AND c.resource IN ('judgements', 'judgementChanges')) AS front_ends,
            sum(c.number) FILTER (WHERE c.kind = 'front-end' AND c.resource IN ('judgements', 'judgementChanges')) AS reads,
            sum(c.number) FILTER (WHERE c.kind = 'front-end' AND c.resource NOT IN ('judgements', 'judgementChanges')) AS aggregates,
            sum(c.number) FILTER (WHERE c.kind = 'sync') AS sync, sum(c.number) FILTER (WHERE c.kind = 'analytics') AS analytics,
            sum(c.number) FILTER (WHERE c.kind = 'unknown') AS unknown
        FROM read_counts c JOIN seen s ON s.tenant_id = c.tenant_id AND s.id = c.school_id GROUP BY 1, 2, 3, 4, 5
    ), resent AS MATERIALIZED (
        SELECT r.tenant_id, r.school_id, r.window_no, r.subject_no, r.aspect_no, sum(r.unchanged) AS n
        FROM receipts r JOIN seen s ON s.tenant_id = r.tenant_id AND s.id = r.school_id
        WHERE r.operation = 'recordJudgements' AND r.unchanged > 0 GROUP BY 1, 2, 3, 4, 5
    ), types AS (
        SELECT c.tenant_id, c.school_id, c.subject_no, c.aspect_no, c.scheme_id, c.kind, c.statutory, count(*) AS windows,
            (array_agg(c.purpose ORDER BY c.census_on DESC, c.window_no DESC))[1] AS purpose,
            (array_agg(c.audience ORDER BY c.census_on DESC, c.window_no DESC) FILTER (WHERE c.audience IS NOT NULL))[1] AS audience,
            (array_agg(c.decision ORDER BY c.census_on DESC, c.window_no DESC))[1] AS decision,
            count(*) FILTER (WHERE e.n > 0) AS groups, count(*) FILTER (WHERE e.n > 0 AND x.is_unread) AS groups_unread,
            COALESCE(sum(e.n), 0) AS entered, COALESCE(sum(e.n) FILTER (WHERE x.is_unread), 0) AS unread, COALESCE(sum(e.overwritten), 0) AS overwritten,
            COALESCE(sum(e.imported), 0) AS imported, COALESCE(sum(e.carried), 0) AS carried, COALESCE(sum(t.n), 0) AS unchanged,
            COALESCE(sum(g.reads), 0) AS reads, COALESCE(sum(g.aggregates), 0) AS aggregates, COALESCE(sum(g.sync), 0) AS sync,
            COALESCE(sum(g.analytics), 0) AS analytics, COALESCE(sum(g.unknown), 0) AS unknown, COALESCE(max(g.front_ends), 0) AS front_ends,
            COALESCE(sum(e.n * COALESCE(g.front_ends, 0)), 0) AS reuses, min(e.first_at) AS first_at
        FROM collected c
        LEFT JOIN entered e USING (tenant_id, school_id, window_no, subject_no, aspect_no)
        LEFT JOIN given g USING (tenant_id, school_id, window_no, subject_no, aspect_no)
        LEFT JOIN resent t USING (tenant_id, school_id, window_no, subject_no, aspect_no)
        CROSS JOIN LATERAL (
            SELECT COALESCE(g.front_ends, 0) + COALESCE(g.aggregates, 0) + COALESCE(g.unknown, 0) = 0 AS is_unread
        ) x
        GROUP BY 1, 2, 3, 4, 5, 6, 7
    ), writers AS MATERIALIZED (
        SELECT c.tenant_id, c.school_id, c.subject_no, c.aspect_no, c.scheme_id, c.kind, count(DISTINCT j.writer) AS n
        FROM judged j JOIN collected c USING (tenant_id, school_id, window_no, subject_no, aspect_no) GROUP BY 1, 2, 3, 4, 5, 6
    ), apart AS MATERIALIZED (
        SELECT s.tenant_id, COALESCE(sum(u.not_modified) FILTER (WHERE u.kind = 'front-end'), 0) AS not_modified, COALESCE(sum(u.lost), 0) AS lost
        FROM (SELECT DISTINCT seen.tenant_id FROM seen) s
        LEFT JOIN unknown_reads u ON u.tenant_id IN (s.tenant_id, '00000000-0000-0000-0000-000000000000') GROUP BY 1
    )
    SELECT t.tenant_id, t.school_id, t.subject_no, t.aspect_no, t.scheme_id, t.kind, t.statutory,
        COALESCE(a.purpose, t.purpose), COALESCE(a.purpose_level, CASE WHEN t.purpose IS NOT NULL THEN 'window' END),
        COALESCE(a.audience, t.audience), COALESCE(a.audience_level, CASE WHEN t.audience IS NOT NULL THEN 'window' END),
        COALESCE(a.decision, t.decision), COALESCE(a.decision_level, CASE WHEN t.decision IS NOT NULL THEN 'window' END), a.impact, a.impact_level,
        a.verdict, a.decided_by, a.review_on, a.verdict_level, t.windows::integer, t.groups::integer, t.groups_unread::integer,
        t.entered::integer, t.unread::integer, t.overwritten::integer, t.unchanged::integer, COALESCE(w.n, 0)::integer,
        (t.entered - t.imported - t.carried)::integer, t.imported::integer, t.carried::integer,
        COALESCE(a.typed_seconds, 20)::integer, COALESCE(a.imported_seconds, 1)::integer, COALESCE(a.carried_seconds, 2)::integer,
        LEAST(t.reads, 2147483647)::integer, LEAST(t.aggregates, 2147483647)::integer, LEAST(t.sync, 2147483647)::integer,
        LEAST(t.analytics, 2147483647)::integer, LEAST(t.unknown, 2147483647)::integer, t.front_ends::integer,
        LEAST(p.not_modified, 2147483647)::integer, LEAST(p.lost, 2147483647)::integer,
        CASE WHEN t.entered > 0 THEN round(t.reuses / t.entered, 2) END, GREATEST(t.first_at, (SELECT b.began_at FROM read_counting b))
    FROM types t
    JOIN apart p ON p.tenant_id = t.tenant_id
    LEFT JOIN writers w ON w.tenant_id = t.tenant_id AND w.school_id = t.school_id AND w.subject_no = t.subject_no AND w.aspect_no = t.aspect_no
        AND w.scheme_id = t.scheme_id AND w.kind = t.kind
    CROSS JOIN LATERAL find_collection_answers(t.tenant_id, t.school_id, t.subject_no, t.aspect_no, t.kind, t.statutory) a
$$
"""
HAS_TERM = """
CREATE OR REPLACE FUNCTION has_full_term(since date, today date) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT COALESCE(bool_or(since <= t.begins AND t.ends < today), false)
    FROM generate_series(extract(year FROM since)::int, extract(year FROM today)::int) y (year)
    CROSS JOIN LATERAL (VALUES
        (make_date(y.year, 1, 1), make_date(y.year, 4, 15)), (make_date(y.year, 4, 16), make_date(y.year, 8, 31)), (make_date(y.year, 9, 1), make_date(y.year, 12, 31))
    ) t (begins, ends)
$$
"""
STATES = """
DO $$ BEGIN
    ALTER TABLE windows DROP CONSTRAINT windows_state_check,
        ADD CONSTRAINT windows_state_check CHECK (state IN ('planned', 'awaiting', 'open', 'closed', 'locked'));
END $$
"""
STATE = """
CREATE OR REPLACE FUNCTION window_state(stored text, opens_at timestamptz, closes_at timestamptz, instant timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN stored IN ('closed', 'locked') THEN stored WHEN closes_at <= instant THEN 'closed' WHEN stored = 'awaiting' THEN 'planned'
        WHEN stored = 'open' OR opens_at <= instant THEN 'open' ELSE 'planned' END
$$
"""
KNOWS_STATES = """
DO $$ BEGIN
    EXECUTE replace(
        pg_get_functiondef('count_readiness'::regproc), '(w.state <> ''planned'' OR w.opens_at <= at_instant)',
        '(w.state NOT IN (''planned'', ''awaiting'') OR (w.state = ''planned'' AND w.opens_at <= at_instant))'
    );
    EXECUTE replace(pg_get_functiondef('pin_school'::regproc), 'w.state IN (''planned'', ''open'')', 'w.state IN (''planned'', ''awaiting'', ''open'')');
END $$
"""
VIEW = "CREATE OR REPLACE VIEW collections WITH (security_invoker = true) AS SELECT c.* FROM list_collections() c"
FUNCTIONS = {
    "find_collection_answers": "What people say of a type of collected data: each field from the most specific level that says it",
    "list_collections": "Every type of data that schools collect, what is said of it, and what was measured: counts alone, of the schools where the caller holds collections:read",
    "has_full_term": "Whether a whole term lies between two days",
}


def upgrade() -> None:
    run_each(
        ANSWERS,
        "COMMENT ON TABLE collection_answers IS 'What people say of types of collected data, at any level. A row is replaced, and stays as history'",
        "CREATE INDEX IF NOT EXISTS collection_answers_by_id ON collection_answers (id)",
    )
    build_index(
        "collection_answers_current",
        "collection_answers",
        "(tenant_id, COALESCE(school_id, tenant_id), COALESCE(subject_no, -1), COALESCE(aspect_no, -1), COALESCE(window_kind, '')) WHERE replaced_at IS NULL",
        unique=True,
    )
    protect_table("collection_answers", rows_of="tenant")
    run_each(
        FIND_ANSWERS,
        HAS_TERM,
        LIST,
        *(f"COMMENT ON FUNCTION {name} IS '{comment}'" for name, comment in FUNCTIONS.items()),
        *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS),
        *(f"GRANT EXECUTE ON FUNCTION {name} TO markonce_app, markonce_operator" for name in FUNCTIONS),
        VIEW,
        STATES,
        STATE,
        KNOWS_STATES,
        "GRANT SELECT ON collections TO markonce_app, markonce_operator",
    )
