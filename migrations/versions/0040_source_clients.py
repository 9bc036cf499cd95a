"""A school may name one client as the source of its pupils' names, enrolments and characteristics.

The function is SECURITY DEFINER because a client sees its own reach alone, and the one that is named is another.
"""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

SQL = """
ALTER TABLE school_settings ADD COLUMN source_client_id uuid;

COMMENT ON COLUMN school_settings.source_client_id IS 'The only client that writes names, enrolments and characteristics of the school; null: any that may';

CREATE FUNCTION find_source_client(in_tenant uuid, of_school uuid, named text) RETURNS uuid LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN (
        SELECT c.id FROM clients c WHERE named IN (c.name, c.id::text) AND c.revoked_at IS NULL AND EXISTS (
            SELECT 1 FROM reach r WHERE r.client_id = c.id AND r.tenant_id = in_tenant AND r.school_id = of_school AND 'pupils:write' = ANY (r.scopes)
                AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
        ) ORDER BY c.id::text = named DESC LIMIT 1
    );
END $$;

COMMENT ON FUNCTION find_source_client IS 'The client of this id or name that may write the pupils of the school; null for any other';

REVOKE ALL ON FUNCTION find_source_client FROM PUBLIC;

GRANT EXECUTE ON FUNCTION find_source_client TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
