"""Jobs: streams of rows that are too long to be answered at once. They are staged in parts, and applied school by school.

A job and all that is staged for it belong to the client that sent it: row-level security shows them to nobody else.
"""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0056", "0055", None, None

SQL = """
CREATE TABLE jobs (
    client_id uuid NOT NULL REFERENCES clients,
    id uuid NOT NULL,
    operation text NOT NULL,
    key text,
    said jsonb NOT NULL,
    scopes text[] NOT NULL,
    header text,
    state text NOT NULL DEFAULT 'receiving' CHECK (state IN ('receiving', 'queued', 'running', 'done', 'failed')),
    receiver uuid,
    leased_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    touched_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    decoded_bytes bigint NOT NULL DEFAULT 0,
    staged_bytes bigint NOT NULL DEFAULT 0,
    row_count integer NOT NULL DEFAULT 0,
    digest bytea,
    problem text,
    PRIMARY KEY (client_id, id)
);

COMMENT ON TABLE jobs IS 'Streams of rows that are applied school by school. said is what must be the same when a stream is sent again, digest that of its decoded bytes, receiver the request that may stage rows, problem the code of the error for which it failed';

CREATE UNIQUE INDEX jobs_by_key ON jobs (client_id, operation, key);

CREATE INDEX jobs_unfinished ON jobs (touched_at) WHERE state IN ('receiving', 'queued', 'running');

CREATE TABLE job_parts (
    client_id uuid NOT NULL,
    job_id uuid NOT NULL,
    n integer NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (client_id, job_id, n),
    FOREIGN KEY (client_id, job_id) REFERENCES jobs ON DELETE CASCADE
);

COMMENT ON TABLE job_parts IS 'The parts of a stream that are staged. digest is that of all rows up to the end of the part';

CREATE TABLE job_schools (
    client_id uuid NOT NULL,
    job_id uuid NOT NULL,
    school_id uuid NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'applied', 'refused')),
    received integer NOT NULL DEFAULT 0,
    created integer NOT NULL DEFAULT 0,
    updated integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    superseded integer NOT NULL DEFAULT 0,
    withdrawn integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    leavers integer NOT NULL DEFAULT 0,
    not_counted integer NOT NULL DEFAULT 0,
    issue_count integer NOT NULL DEFAULT 0,
    problem text,
    PRIMARY KEY (client_id, job_id, school_id),
    FOREIGN KEY (client_id, job_id) REFERENCES jobs ON DELETE CASCADE
);

COMMENT ON TABLE job_schools IS 'What became of the rows of each school of a job. The school of rows whose school is not known has the nil id';

CREATE TABLE staged_rows (
    client_id uuid NOT NULL,
    job_id uuid NOT NULL,
    school_id uuid NOT NULL,
    n integer NOT NULL,
    line integer NOT NULL,
    body bytea NOT NULL,
    fault text[],
    PRIMARY KEY (client_id, job_id, school_id, n),
    FOREIGN KEY (client_id, job_id) REFERENCES jobs ON DELETE CASCADE
);

COMMENT ON TABLE staged_rows IS 'The rows of jobs as they were sent, until they are applied, at most a day. fault is the code and the message of what keeps a row from being read';

CREATE TABLE job_issues (
    client_id uuid NOT NULL,
    job_id uuid NOT NULL,
    n integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    is_warning boolean NOT NULL,
    at text NOT NULL,
    code text NOT NULL,
    message text NOT NULL,
    line integer,
    PRIMARY KEY (client_id, job_id, n, seq),
    FOREIGN KEY (client_id, job_id) REFERENCES jobs ON DELETE CASCADE
);

COMMENT ON TABLE job_issues IS 'The issues and warnings of the rows of jobs; n is the number of the row, -1 for those of the head'
"""
TABLES = ("jobs", "job_parts", "job_schools", "staged_rows", "job_issues")
CLAIM = """
CREATE FUNCTION claim_job(lease_seconds integer) RETURNS TABLE (client_id uuid, id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('markonce jobs', 0));
    RETURN QUERY UPDATE jobs j SET state = 'running', touched_at = clock_timestamp(), leased_until = clock_timestamp() + make_interval(secs => lease_seconds)
    WHERE (j.client_id, j.id) = (
        SELECT w.client_id, w.id FROM jobs w
        WHERE w.state IN ('queued', 'running') AND COALESCE(w.leased_until, '-infinity') < clock_timestamp() AND NOT EXISTS (
            SELECT 1 FROM jobs o WHERE o.client_id = w.client_id AND o.state IN ('queued', 'running') AND (o.created_at, o.id) < (w.created_at, w.id)
        )
        ORDER BY w.touched_at, w.id LIMIT 1
    ) RETURNING j.client_id, j.id;
END $$
"""
COUNT = """
CREATE FUNCTION count_staged_bytes() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT COALESCE(sum(staged_bytes), 0)::bigint FROM jobs
$$
"""
REMOVE = """
CREATE FUNCTION remove_old_jobs(most integer) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH expired AS (
        UPDATE jobs SET state = 'failed', problem = CASE state WHEN 'receiving' THEN 'body-cut-short' ELSE 'busy' END, finished_at = clock_timestamp(), staged_bytes = 0
        WHERE state IN ('receiving', 'queued', 'running') AND created_at <= now() - interval '23 hours'
    ), unstaged AS (
        DELETE FROM staged_rows WHERE ctid = ANY (ARRAY(
            SELECT s.ctid FROM jobs j JOIN staged_rows s ON s.client_id = j.client_id AND s.job_id = j.id
            WHERE j.created_at <= now() - interval '23 hours' LIMIT most
        )) RETURNING 1
    ), removed AS (
        DELETE FROM jobs WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM jobs WHERE finished_at <= now() - interval '7 days'
                OR (state = 'receiving' AND key IS NULL AND touched_at <= now() - interval '1 hour') LIMIT most
        )) RETURNING 1
    )
    SELECT (SELECT count(*) FROM unstaged) + (SELECT count(*) FROM removed)
$$
"""
FUNCTIONS = ("claim_job(integer)", "count_staged_bytes()", "remove_old_jobs(integer)")


def upgrade() -> None:
    connection = op.get_bind()
    for statement in SQL.strip().split(";\n\n"):
        connection.exec_driver_sql(statement)
    for table in TABLES:
        connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        own = f"{table}.client_id = (SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid)"
        connection.exec_driver_sql(f"CREATE POLICY own ON {table} TO markonce_app USING ({own})")
        connection.exec_driver_sql(
            f"CREATE POLICY maintenance ON {table} TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)"
        )
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO markonce_app, markonce_operator")
    for function in (CLAIM, COUNT, REMOVE):
        connection.exec_driver_sql(function)
    for signature in FUNCTIONS:
        connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
        connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {signature} TO markonce_app, markonce_operator")
