"""Cheap walls and versions: what a statement reads of `reach` is said once, on reach itself, and what clients have read is known by its version.

`reach` shows its own rows in force and no others, so that the rules of the other tables need only name the place; `shared_pupils` shows those of
schools within reach, so that theirs need not look at reach again. A rule is a part of every plan and is made ready with every statement: each
table named in it costs, whether it is looked at or not.

A partition costs in every plan, too, so that a year has one from its first window on, and none before.

The census asks each spell for the pupil's latest one. As an anti-join that read the spells of the whole trust for one judgement (20 ms).

`data_versions` counts the changes of what everybody's answers hold: the names behind small numbers (references) and the register. A change is
counted once a transaction, at its end, so that transactions do not wait for each other longer than that.
"""

from typing import Any

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

BY_SCHOOL = "EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {table}.tenant_id AND r.school_id = {table}.school_id)"
SHARED = "EXISTS (SELECT 1 FROM shared_pupils s WHERE s.tenant_id = {table}.tenant_id AND s.pupil_id = {table}.{pupil})"
BY_TENANT = "EXISTS (SELECT 1 FROM reach r WHERE r.tenant_id = {table}.tenant_id)"
POLICIES = {
    **dict.fromkeys(("external_ids", "enrolments", "shared_pupils", "groups", "group_members", "school_versions"), BY_SCHOOL),
    **dict.fromkeys(("cells", "totals", "school_settings", "receipts"), BY_SCHOOL),
    **dict.fromkeys(("pupils", "upns", "characteristics", "judgements", "judgement_history"), f"{BY_SCHOOL} OR {SHARED}"),
    **dict.fromkeys(("targets", "target_history"), f"{BY_SCHOOL} OR {SHARED}"),
    "tenants": BY_TENANT.replace("{table}.tenant_id", "{table}.id"),
    **dict.fromkeys(("subjects", "aspects", "schemes", "scheme_versions", "grades", "windows", "collects", "pins"), BY_TENANT),
}
REFERENCES = ("tenants", "subjects", "aspects", "windows", "collects", "pins", "schemes", "scheme_versions", "grades")
REGISTER = ("trusts", "schools", "memberships", "succession")

SQL = """
ALTER TABLE clients ADD COLUMN reach_version bigint NOT NULL DEFAULT 1;

COMMENT ON COLUMN clients.reach_version IS 'Grows whenever the reach of the client is derived anew';

CREATE OR REPLACE FUNCTION derive_reach(for_clients uuid[] DEFAULT NULL) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT 1 FROM clients WHERE for_clients IS NULL OR id = ANY (for_clients) ORDER BY id FOR UPDATE;
    UPDATE clients SET reach_version = reach_version + 1 WHERE for_clients IS NULL OR id = ANY (for_clients);
    DELETE FROM reach WHERE for_clients IS NULL OR client_id = ANY (for_clients);
    INSERT INTO reach (client_id, tenant_id, school_id, grant_id, scopes, starts_at, ends_at)
    SELECT DISTINCT g.client_id, t.tenant_id, t.school_id, g.id, g.scopes, g.starts_at, g.expires_at
    FROM grants g
    JOIN clients c ON c.id = g.client_id AND c.revoked_at IS NULL
    CROSS JOIN LATERAL (
        SELECT '00000000-0000-0000-0000-000000000000'::uuid AS tenant_id, '00000000-0000-0000-0000-000000000000'::uuid AS school_id
        WHERE g.target = 'installation'
        UNION ALL SELECT s.tenant_id, s.id FROM schools s WHERE g.target = 'schools'
        UNION ALL SELECT s.tenant_id, s.id FROM schools s WHERE g.target = 'school' AND s.id = g.target_id
        UNION ALL SELECT s.tenant_id, s.id FROM schools s WHERE g.target = 'trust' AND s.tenant_id = g.target_id
        UNION ALL SELECT t.id, t.id FROM trusts t WHERE g.target = 'trusts' OR (g.target = 'trust' AND t.id = g.target_id)
    ) t
    WHERE g.revoked_at IS NULL AND (for_clients IS NULL OR g.client_id = ANY (for_clients))
$$;

DROP POLICY own ON reach;

CREATE POLICY own ON reach TO markonce_app USING (
    client_id = (SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid) AND starts_at <= now() AND (ends_at IS NULL OR ends_at > now())
);

CREATE TABLE data_versions (name text PRIMARY KEY, version bigint NOT NULL, xid xid8 NOT NULL);

COMMENT ON TABLE data_versions IS 'How often the references of all tenants, and the register, have changed. It belongs to no tenant and names nothing';

INSERT INTO data_versions VALUES ('references', 1, pg_current_xact_id()), ('register', 1, pg_current_xact_id());

CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE data_versions SET version = version + 1, xid = pg_current_xact_id() WHERE name = TG_ARGV[0] AND xid <> pg_current_xact_id();
    RETURN NULL;
END $$;

GRANT SELECT ON data_versions TO markonce_app, markonce_operator;

CREATE FUNCTION reach_state() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    RETURN (
        SELECT COALESCE(sum(v.version), 0)::bigint
        FROM reach r JOIN school_versions v ON v.tenant_id = r.tenant_id AND v.school_id = r.school_id
        WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    );
END $$;

CREATE OR REPLACE FUNCTION bump_versions(in_tenant uuid, of_schools uuid[]) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    newest bigint;
BEGIN
    PERFORM acts_in(in_tenant);
    WITH bumped AS (UPDATE school_versions SET version = version + 1 WHERE tenant_id = in_tenant AND school_id = ANY (of_schools) RETURNING version)
    SELECT max(version) INTO newest FROM bumped;
    RETURN newest;
END $$;

COMMENT ON FUNCTION reach_state IS 'Grows with every change at a school within the reach of the caller, as long as its reach is the same';

REVOKE ALL ON FUNCTION reach_state FROM PUBLIC;

GRANT EXECUTE ON FUNCTION reach_state TO markonce_app;

CREATE OR REPLACE VIEW census WITH (security_invoker = true) AS
SELECT w.tenant_id, w.academic_year, w.no AS window_no, e.school_id, e.pupil_id, d.year_group, p.sex,
    CASE WHEN 'true' IN (d.ever6_fsm, d.looked_after, d.left_care) THEN 'true' WHEN d.ever6_fsm = 'false' THEN 'false' ELSE 'unknown' END AS disadvantaged,
    COALESCE(d.eal, 'unknown') AS eal, COALESCE(d.sen, 'unknown') AS sen
FROM windows w
JOIN enrolments e ON e.tenant_id = w.tenant_id AND e.status IN ('C', 'M') AND e.from_on <= w.census_on AND COALESCE(e.to_on, 'infinity') >= w.census_on
JOIN pupils p ON p.tenant_id = e.tenant_id AND p.id = e.pupil_id
CROSS JOIN LATERAL (
    SELECT (array_agg(c.value ORDER BY c.from_on DESC) FILTER (WHERE c.kind = 'yearGroup'))[1] AS year_group,
        (array_agg(c.value ORDER BY c.from_on DESC) FILTER (WHERE c.kind = 'ever6Fsm'))[1] AS ever6_fsm,
        (array_agg(c.value ORDER BY c.from_on DESC) FILTER (WHERE c.kind = 'lookedAfter'))[1] AS looked_after,
        (array_agg(c.value ORDER BY c.from_on DESC) FILTER (WHERE c.kind = 'leftCare'))[1] AS left_care,
        (array_agg(c.value ORDER BY c.from_on DESC) FILTER (WHERE c.kind = 'eal'))[1] AS eal,
        (array_agg(c.value ORDER BY c.from_on DESC) FILTER (WHERE c.kind = 'sen'))[1] AS sen
    FROM characteristics c
    WHERE c.tenant_id = e.tenant_id AND c.pupil_id = e.pupil_id AND c.from_on <= w.census_on AND COALESCE(c.to_on, 'infinity') >= w.census_on
) d
WHERE w.state <> 'planned' AND d.year_group = ANY (w.year_groups)
    AND (
        SELECT later.id FROM enrolments later
        WHERE later.tenant_id = e.tenant_id AND later.pupil_id = e.pupil_id AND later.status IN ('C', 'M')
            AND later.from_on <= w.census_on AND COALESCE(later.to_on, 'infinity') >= w.census_on
        ORDER BY later.from_on DESC, later.id DESC LIMIT 1
    ) = e.id;

CREATE OR REPLACE FUNCTION prepare_years(first smallint, last smallint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO academic_years SELECT generate_series(first::integer, last) ON CONFLICT DO NOTHING
$$;

CREATE FUNCTION hold_year() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    parent text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('markonce years'), NEW.academic_year);
    FOREACH parent IN ARRAY ARRAY['judgements', 'judgement_history'] LOOP
        IF to_regclass(parent || '_' || NEW.academic_year) IS NULL THEN
            EXECUTE format('CREATE TABLE %1$s_%2$s (LIKE %1$s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', parent, NEW.academic_year);
            EXECUTE format('ALTER TABLE %1$s ATTACH PARTITION %1$s_%2$s FOR VALUES IN (%2$s)', parent, NEW.academic_year);
        END IF;
    END LOOP;
    RETURN NEW;
END $$;

COMMENT ON FUNCTION hold_year IS 'Makes the partitions of the year of a window. Attaching them keeps nobody from reading and writing the others';

CREATE TRIGGER hold_year BEFORE INSERT ON windows FOR EACH ROW EXECUTE FUNCTION hold_year()
"""


REPLANNED = {"adjust_cells": "WITH changed", "match_pupils": "RETURN QUERY SELECT g.n"}
"""Functions in SQL, which PostgreSQL plans anew at each call (20 ms for one judgement), and how what follows the check of the caller begins in PL/pgSQL."""


def keep_plans(connection: Any) -> None:
    """The functions as they are, in the language that keeps their plans."""
    for name, begins in REPLANNED.items():
        found = connection.exec_driver_sql(f"SELECT pg_get_functiondef(oid), prosrc FROM pg_proc WHERE proname = '{name}'").one()
        check, _, rest = found[1].strip().partition(";")
        assert check == "SELECT acts_in(in_tenant)"
        body = f"#variable_conflict use_column\nBEGIN\n    PERFORM acts_in(in_tenant);\n    {begins}{rest.strip().removeprefix(begins.removeprefix('RETURN QUERY '))};\nEND "
        connection.exec_driver_sql(found[0].replace(found[1], body).replace("LANGUAGE sql", "LANGUAGE plpgsql"))


def upgrade() -> None:
    connection = op.get_bind()
    for statement in SQL.strip().split(";\n\n"):
        connection.exec_driver_sql(statement)
    keep_plans(connection)
    unused = "SELECT year FROM academic_years y WHERE NOT EXISTS (SELECT 1 FROM windows w WHERE w.academic_year = y.year)"
    for (year,) in connection.exec_driver_sql(unused).fetchall():
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS judgements_{year}, judgement_history_{year}")
    for table, rule in POLICIES.items():
        using = rule.format(table=table, pupil="id" if table == "pupils" else "pupil_id")
        connection.exec_driver_sql(f"DROP POLICY reached ON {table}")
        connection.exec_driver_sql(f"CREATE POLICY reached ON {table} TO markonce_app USING ({using})")
    for name, tables in (("references", REFERENCES), ("register", REGISTER)):
        for table in tables:
            connection.exec_driver_sql(
                f"CREATE CONSTRAINT TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE ON {table}"
                f" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION count_change('{name}')"
            )
