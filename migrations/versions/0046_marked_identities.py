"""Which pupils have a new identity, without a word of who they were.

A complete roll that still has the old row may not end the spells of the new identity; the hash of an old identifier may not
lead to a pupil. So a pupil is marked, and only functions of the owner read the marks. Who had a new identity before this
migration is not marked, since nothing tells who they are.
"""

from alembic import op

revision, down_revision, branch_labels, depends_on = "0046", "0045", None, None

SQL = r"""
CREATE TABLE new_identities (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    pupil_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

COMMENT ON TABLE new_identities IS 'Pupils who have a new identity. Nothing here leads to the old one. A merge may leave two rows of one pupil';

CREATE INDEX new_identities_by_pupil ON new_identities (tenant_id, pupil_id);

ALTER TABLE new_identities ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY maintenance ON new_identities TO CURRENT_USER USING (true) WITH CHECK (true);

CREATE FUNCTION find_new_identities(in_tenant uuid, of_pupils uuid[]) RETURNS uuid[] LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN ARRAY(SELECT n.pupil_id FROM new_identities n WHERE n.tenant_id = in_tenant AND n.pupil_id = ANY (of_pupils));
END $$;

COMMENT ON FUNCTION find_new_identities IS 'Which of these pupils have a new identity. It decides whose spells a complete roll leaves alone, and is told to nobody';

REVOKE ALL ON FUNCTION find_new_identities FROM PUBLIC;

GRANT EXECUTE ON FUNCTION find_new_identities TO markonce_app, markonce_operator
"""
REPOINT = "    PERFORM repoint_pupil(in_tenant, old_pupil, new_pupil);\n"
MARK = """    INSERT INTO new_identities (tenant_id, pupil_id)
    SELECT in_tenant, new_pupil WHERE NOT EXISTS (SELECT 1 FROM new_identities n WHERE n.tenant_id = in_tenant AND n.pupil_id = new_pupil);
"""
DEFINITION = (
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'retire_identity' AND pronamespace = 'public'::regnamespace"
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in SQL.strip().split(";\n\n"):
        connection.exec_driver_sql(statement)
    definition = connection.exec_driver_sql(DEFINITION).scalar_one()
    assert definition.count(REPOINT) == 1
    connection.exec_driver_sql(definition.replace(REPOINT, REPOINT + MARK))
