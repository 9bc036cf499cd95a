"""Who a row of a roll means: which pupils its keys lead to, what is stored of them, and decisions about who a pupil is.

The functions are SECURITY DEFINER because a UPN may be that of a pupil of another school of the tenant, whom the caller does not reach. Each takes the
tenant and touches nothing outside it. The policy of the history follows the pupil, so that it needs no school of its own.
"""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

SQL = """
CREATE TABLE identity_history (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    pupil_id uuid NOT NULL,
    kind text NOT NULL,
    upn text,
    facts text,
    client_id uuid NOT NULL,
    actor text,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, pupil_id) REFERENCES pupils
);

COMMENT ON TABLE identity_history IS 'Decisions about who a pupil is: same child (facts: what differed, blank-separated), upn released (upn: the number), reference replaced';

CREATE INDEX identity_history_by_pupil ON identity_history (tenant_id, pupil_id);

CREATE INDEX identity_history_by_upn ON identity_history (tenant_id, upn) WHERE upn IS NOT NULL;

ALTER TABLE identity_history ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY reached ON identity_history TO markonce_app
    USING (EXISTS (SELECT 1 FROM pupils p WHERE p.tenant_id = identity_history.tenant_id AND p.id = identity_history.pupil_id));

CREATE POLICY maintenance ON identity_history TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON identity_history TO markonce_app, markonce_operator;

CREATE FUNCTION find_key_owners(in_tenant uuid, source_id uuid, at_schools uuid[], ids uuid[], refs text[], numbers text[]) RETURNS TABLE (
    n integer, by_id uuid, by_reference uuid, by_upn uuid, is_current boolean
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN QUERY SELECT g.n::integer, i.id, x.id, u.pupil_id, u.current
    FROM unnest(at_schools, ids, refs, numbers) WITH ORDINALITY AS g (school, id, reference, upn, n)
    LEFT JOIN LATERAL (SELECT id FROM pupils WHERE tenant_id = in_tenant AND id = g.id LIMIT 1) i ON true
    LEFT JOIN LATERAL (
        SELECT id FROM external_ids WHERE tenant_id = in_tenant AND source = source_id AND kind = 'pupil' AND external_ids.school_id = g.school AND value = g.reference LIMIT 1
    ) x ON true
    LEFT JOIN LATERAL (SELECT pupil_id, current FROM upns WHERE tenant_id = in_tenant AND upns.upn = g.upn LIMIT 1) u ON true;
END $$;

COMMENT ON FUNCTION find_key_owners IS 'Whom in this tenant each id, reference and UPN belongs to. LIMIT keeps each look-up an index probe, also before the tables have statistics';

CREATE FUNCTION read_identities(in_tenant uuid, of_pupils uuid[]) RETURNS TABLE (
    id uuid, school_id uuid, upn text, surname text, forename text, date_of_birth date, sex text, open_main_from date, open_main_status text
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM acts_in(in_tenant);
    RETURN QUERY SELECT p.id, p.school_id, p.upn, p.surname, p.forename, p.date_of_birth, p.sex, e.from_on, e.status
    FROM unnest(of_pupils) AS g (id)
    JOIN LATERAL (SELECT * FROM pupils WHERE tenant_id = in_tenant AND pupils.id = g.id LIMIT 1) p ON true
    LEFT JOIN LATERAL (
        SELECT from_on, status FROM enrolments WHERE tenant_id = in_tenant AND pupil_id = p.id AND enrolments.school_id = p.school_id
            AND status IN ('C', 'M', 'F', 'O') AND to_on IS NULL ORDER BY from_on DESC LIMIT 1
    ) e ON true;
END $$;

COMMENT ON FUNCTION read_identities IS 'By what a row of a roll is compared with the pupils that its keys lead to, within reach or not';

CREATE FUNCTION release_upns(in_tenant uuid, numbers text[], of_pupils uuid[], by_client uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM acts_in(in_tenant);
    WITH released AS (
        DELETE FROM upns u USING unnest(numbers, of_pupils) AS g (upn, pupil_id)
        WHERE u.tenant_id = in_tenant AND u.upn = g.upn AND u.pupil_id = g.pupil_id RETURNING u.upn, u.pupil_id
    )
    INSERT INTO identity_history (tenant_id, pupil_id, kind, upn, client_id) SELECT in_tenant, pupil_id, 'upn released', upn, by_client FROM released;
END $$;

COMMENT ON FUNCTION release_upns IS 'Takes UPNs from pupils for whom they were recorded in error, and keeps in their history that they had them';

REVOKE ALL ON FUNCTION find_key_owners, read_identities, release_upns FROM PUBLIC;

GRANT EXECUTE ON FUNCTION find_key_owners, read_identities, release_upns TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
