"""A UPN that its owner took from another pupil is a data issue of that pupil's school, for thirty days.

The functions are SECURITY DEFINER because the pupil may be at another school of the tenant, which the caller does not reach.
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

SQL = """
CREATE FUNCTION report_released_upns(in_tenant uuid, of_pupils uuid[], by_client uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    INSERT INTO data_issues (tenant_id, id, kind, school_id, client_id, pupil_ids, fields)
    SELECT in_tenant, renew_id('00000000-0000-700f-8000-000000000000'), 'upn-released', p.school_id, by_client, ARRAY[p.id], '{upn}'
    FROM pupils p WHERE p.tenant_id = in_tenant AND p.id = ANY (of_pupils)
    ON CONFLICT (tenant_id, school_id, kind, client_id, pupil_ids) DO UPDATE SET found_at = clock_timestamp();
END $$;

COMMENT ON FUNCTION report_released_upns IS 'Tells the main school of each of these pupils that a UPN recorded for them went to another pupil';

CREATE FUNCTION remove_old_data_issues(most integer) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH removed AS (
        DELETE FROM data_issues WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM data_issues WHERE kind = 'upn-released' AND found_at <= now() - interval '30 days' LIMIT most
        )) RETURNING 1
    )
    SELECT count(*) FROM removed
$$;

COMMENT ON FUNCTION remove_old_data_issues IS 'Deletes the data issues that tell of something done, which no row can resolve';

REVOKE ALL ON FUNCTION report_released_upns, remove_old_data_issues FROM PUBLIC;

GRANT EXECUTE ON FUNCTION report_released_upns, remove_old_data_issues TO markonce_app, markonce_operator
"""


def upgrade() -> None:
    for statement in SQL.strip().split(";\n\n"):
        op.get_bind().exec_driver_sql(statement)
