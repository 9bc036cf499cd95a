"""Origins of a client's browser apps, and the removal of secrets and keys that have expired.

The two functions are SECURITY DEFINER because the app role may not delete secrets or keys: what these delete can prove nothing and
verify nothing any more, whoever calls them.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SQL = """
ALTER TABLE clients ADD COLUMN origins text[] NOT NULL DEFAULT '{}';

COMMENT ON COLUMN clients.origins IS 'Where its browser apps are served from, each as a browser sends it: scheme://host[:port]';

CREATE FUNCTION remove_expired_secrets(most integer) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH removed AS (
        DELETE FROM client_secrets WHERE ctid = ANY (ARRAY(SELECT ctid FROM client_secrets WHERE expires_at <= now() LIMIT most)) RETURNING 1
    )
    SELECT count(*) FROM removed
$$;

CREATE FUNCTION remove_retired_keys(most integer) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH removed AS (
        DELETE FROM signing_keys
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM signing_keys WHERE retired_at <= now() - interval '1 day' LIMIT most)) RETURNING 1
    )
    SELECT count(*) FROM removed
$$;

CREATE FUNCTION remove_old_receipts(most integer) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH removed AS (
        DELETE FROM receipts
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM receipts WHERE received_at <= now() - interval '13 months' LIMIT most)) RETURNING 1
    )
    SELECT count(*) FROM removed
$$;

COMMENT ON FUNCTION remove_retired_keys IS 'A token lives for minutes: nothing signed with a key retired a day ago is still in force';

REVOKE ALL ON FUNCTION remove_expired_secrets, remove_retired_keys, remove_old_receipts FROM PUBLIC;

GRANT EXECUTE ON FUNCTION remove_expired_secrets, remove_retired_keys, remove_old_receipts TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
