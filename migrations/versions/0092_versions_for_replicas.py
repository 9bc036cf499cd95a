"""What a replica must have before it may answer, and the versions that a write ends with."""

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0092", "0091", None, None

AS_OWNER = "SECURITY DEFINER SET search_path = public, pg_temp AS"
CAUGHT_UP = f"""
CREATE OR REPLACE FUNCTION is_caught_up(of_client uuid, reach bigint, of_tenants uuid[], versions bigint[]) RETURNS boolean
LANGUAGE sql STABLE {AS_OWNER} $$
    SELECT EXISTS (SELECT 1 FROM clients c WHERE c.id = of_client AND c.reach_version >= reach) AND NOT EXISTS (
        SELECT 1 FROM unnest(of_tenants, versions) AS w (tenant_id, version) LEFT JOIN tenant_versions t ON t.tenant_id = w.tenant_id
        WHERE COALESCE(t.version, 0) < w.version
    )
$$
"""
END_WRITE = f"""
CREATE OR REPLACE FUNCTION end_write(of_tenants uuid[]) RETURNS TABLE (tenant_id uuid, version bigint)
LANGUAGE plpgsql {AS_OWNER} $$
#variable_conflict use_column
BEGIN
    SET CONSTRAINTS count_tenant IMMEDIATE;
    INSERT INTO tenant_versions AS t (tenant_id, version) SELECT DISTINCT w, 1 FROM unnest(of_tenants) w ORDER BY 1
    ON CONFLICT (tenant_id) DO UPDATE SET version = t.version + 1, xid = excluded.xid WHERE t.xid <> excluded.xid;
    RETURN QUERY SELECT v.tenant_id, v.version FROM tenant_versions v WHERE v.tenant_id = ANY (of_tenants) ORDER BY v.tenant_id;
END $$
"""
FUNCTIONS = ("is_caught_up(uuid, bigint, uuid[], bigint[])", "end_write(uuid[])")


def upgrade() -> None:
    run_each(
        CAUGHT_UP,
        END_WRITE,
        *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name in FUNCTIONS),
        *(f"GRANT EXECUTE ON FUNCTION {name} TO markonce_app, markonce_operator" for name in FUNCTIONS),
    )
