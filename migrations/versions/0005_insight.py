"""Cells and totals, how they are counted, and row-level security on everything a tenant owns.

The functions here are SECURITY DEFINER because what they count, match, move and lock may lie at a school of the same tenant
that the caller does not reach: a pupil counted at the school of the census may be on roll elsewhere today. Each takes the tenant and
touches nothing outside it; the commands that call them have checked the caller's right to that tenant.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FIRST_YEAR, LAST_YEAR = 2014, 2030
GRAIN = "tenant_id, academic_year, window_no, school_id, subject_no, aspect_no, year_group, sex, disadvantaged, eal, sen, scheme_version_no, grade_no"
TOTAL = "tenant_id, academic_year, window_no, school_id, subject_no, aspect_no"
SUMS = """
    sum(n) FILTER (WHERE COALESCE(g.eligible, true)) AS eligible,
    sum(n) FILTER (WHERE g.valid) AS valid,
    sum(n) FILTER (WHERE g.expected) AS expected,
    sum(n) FILTER (WHERE g.higher) AS higher,
    sum(n) FILTER (WHERE g.valid AND g.value IS NOT NULL) AS valued,
    sum(n * g.value) FILTER (WHERE g.valid) AS value_sum
"""
SUMMED = f"""
    SELECT {", ".join("x." + c for c in TOTAL.split(", "))}, COALESCE(eligible, 0) AS eligible, COALESCE(valid, 0) AS valid,
        COALESCE(expected, 0) AS expected, COALESCE(higher, 0) AS higher, COALESCE(valued, 0) AS valued, COALESCE(value_sum, 0) AS value_sum
    FROM (
        SELECT {", ".join("c." + c for c in TOTAL.split(", "))}, {SUMS}
        FROM %s c LEFT JOIN grades g ON g.tenant_id = c.tenant_id AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
        WHERE %s
        GROUP BY {", ".join("c." + c for c in TOTAL.split(", "))}
    ) x
"""

SQL = f"""
CREATE TABLE cells (
    tenant_id uuid,
    academic_year smallint,
    window_no smallint,
    school_id uuid,
    subject_no smallint,
    aspect_no smallint,
    year_group text,
    sex text,
    disadvantaged text,
    eal text,
    sen text,
    scheme_version_no smallint,
    grade_no smallint,
    n integer NOT NULL,
    PRIMARY KEY (tenant_id, window_no, school_id, subject_no, aspect_no, year_group, sex, disadvantaged, eal, sen, scheme_version_no, grade_no)
);

COMMENT ON TABLE cells IS 'Every counted pupil once per window, subject and counted aspect; grade 0 is no judgement';

CREATE TABLE totals (
    tenant_id uuid,
    academic_year smallint,
    window_no smallint,
    school_id uuid,
    subject_no smallint,
    aspect_no smallint,
    eligible integer NOT NULL,
    valid integer NOT NULL,
    expected integer NOT NULL,
    higher integer NOT NULL,
    valued integer NOT NULL,
    value_sum numeric NOT NULL,
    PRIMARY KEY (tenant_id, window_no, school_id, subject_no, aspect_no)
);

CREATE VIEW census WITH (security_invoker = true) AS
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
    AND NOT EXISTS (
        SELECT 1 FROM enrolments later
        WHERE later.tenant_id = e.tenant_id AND later.pupil_id = e.pupil_id AND later.status IN ('C', 'M')
            AND later.from_on <= w.census_on AND COALESCE(later.to_on, 'infinity') >= w.census_on
            AND (later.from_on, later.id) > (e.from_on, e.id)
    );

COMMENT ON VIEW census IS 'Whom each window counts, once and where: enrolled C or M on the census date, the later spell where two overlap';

CREATE VIEW contributions WITH (security_invoker = true) AS
SELECT c.tenant_id, c.academic_year, c.window_no, c.school_id, c.pupil_id, p.subject_no, p.aspect_no, c.year_group, c.sex, c.disadvantaged, c.eal, c.sen,
    COALESCE(j.scheme_version_no, p.scheme_version_no) AS scheme_version_no, COALESCE(j.grade_no, 0::smallint) AS grade_no
FROM census c
JOIN pins p ON p.tenant_id = c.tenant_id AND p.window_no = c.window_no AND p.school_id = c.school_id
JOIN aspects a ON a.tenant_id = p.tenant_id AND a.no = p.aspect_no AND a.counted
LEFT JOIN judgements j ON j.tenant_id = c.tenant_id AND j.academic_year = c.academic_year AND j.pupil_id = c.pupil_id
    AND j.window_no = c.window_no AND j.subject_no = p.subject_no AND j.aspect_no = p.aspect_no
UNION ALL
SELECT c.tenant_id, c.academic_year, c.window_no, c.school_id, c.pupil_id, s.no, 0::smallint, c.year_group, c.sex, c.disadvantaged, c.eal, c.sen, v.no, r.grade_no
FROM census c
JOIN subjects s ON s.tenant_id = c.tenant_id AND s.code = 'rwm'
JOIN schemes m ON m.tenant_id = c.tenant_id AND m.code = 'rwm'
JOIN scheme_versions v ON v.tenant_id = m.tenant_id AND v.scheme_id = m.id AND v.version = 1
CROSS JOIN LATERAL (
    SELECT (CASE WHEN bool_or(NOT COALESCE(g.eligible, true)) THEN 1
        WHEN NOT bool_and(COALESCE(g.valid, false)) THEN 2
        WHEN bool_and(COALESCE(g.higher, false)) THEN 5
        WHEN bool_and(COALESCE(g.expected, false)) THEN 4
        ELSE 3 END)::smallint AS grade_no
    FROM pins p
    JOIN subjects part ON part.tenant_id = p.tenant_id AND part.no = p.subject_no AND part.code IN ('reading', 'writing', 'maths')
    LEFT JOIN judgements j ON j.tenant_id = c.tenant_id AND j.academic_year = c.academic_year AND j.pupil_id = c.pupil_id
        AND j.window_no = c.window_no AND j.subject_no = p.subject_no AND j.aspect_no = p.aspect_no
    LEFT JOIN grades g ON g.tenant_id = j.tenant_id AND g.scheme_version_no = j.scheme_version_no AND g.no = j.grade_no
    WHERE p.tenant_id = c.tenant_id AND p.window_no = c.window_no AND p.school_id = c.school_id AND p.aspect_no = 0
    HAVING count(*) = 3
) r;

COMMENT ON VIEW contributions IS 'What one pupil adds to the cells. Reading, writing and maths combined is a conjunction per pupil (grades 1-5 of the scheme rwm: not eligible, not valid, below, expected, higher)';

CREATE FUNCTION acts_in(in_tenant uuid, with_school uuid DEFAULT NULL) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT (session_user = current_user OR pg_has_role(session_user, 'markonce_operator', 'MEMBER')) AND NOT EXISTS (
        SELECT 1 FROM reach r WHERE r.client_id = NULLIF(current_setting('markonce.caller', true), '')::uuid AND r.tenant_id = in_tenant
            AND r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the caller reaches nothing of this tenant';
    END IF;
    IF with_school IS NOT NULL AND NOT EXISTS (SELECT 1 FROM schools WHERE id = with_school AND tenant_id = in_tenant) THEN
        RAISE insufficient_privilege USING MESSAGE = 'the school is not of this tenant';
    END IF;
END $$;

COMMENT ON FUNCTION acts_in IS 'The second wall around the functions below, which see past row-level security: the caller must reach something of the tenant';

CREATE FUNCTION lock_schools(in_tenant uuid, of_schools uuid[], of_pupils uuid[]) RETURNS uuid[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    wanted uuid[];
    held uuid[] := '{{}}';
BEGIN
    PERFORM acts_in(in_tenant);
    LOOP
        SELECT array_agg(s ORDER BY s) INTO wanted FROM (
            SELECT unnest(of_schools) AS s UNION SELECT e.school_id FROM enrolments e WHERE e.tenant_id = in_tenant AND e.pupil_id = ANY (of_pupils)
        ) x;
        EXIT WHEN wanted IS NULL OR wanted <@ held;
        INSERT INTO school_versions (tenant_id, school_id)
            SELECT in_tenant, s FROM unnest(wanted) s WHERE NOT EXISTS (SELECT 1 FROM school_versions v WHERE v.tenant_id = in_tenant AND v.school_id = s) ORDER BY s
            ON CONFLICT DO NOTHING;
        PERFORM 1 FROM school_versions v WHERE v.tenant_id = in_tenant AND v.school_id = ANY (wanted) ORDER BY v.school_id FOR UPDATE;
        held := wanted;
    END LOOP;
    RETURN held;
END $$;

COMMENT ON FUNCTION lock_schools IS 'Locks the version rows of these schools and of every school where these pupils are or were enrolled, in id order; again if somebody moved a pupil meanwhile';

CREATE FUNCTION bump_versions(in_tenant uuid, of_schools uuid[]) RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT acts_in(in_tenant);
    WITH bumped AS (UPDATE school_versions SET version = version + 1 WHERE tenant_id = in_tenant AND school_id = ANY (of_schools) RETURNING version)
    SELECT max(version) FROM bumped
$$;

CREATE FUNCTION rebuild_cells(in_tenant uuid, of_schools uuid[], in_windows smallint[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM acts_in(in_tenant);
    DELETE FROM cells c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    DELETE FROM totals c WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows);
    INSERT INTO cells ({GRAIN}, n)
        SELECT {GRAIN}, count(*) FROM contributions c
        WHERE c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows) GROUP BY {GRAIN};
    INSERT INTO totals ({TOTAL}, eligible, valid, expected, higher, valued, value_sum)
        {SUMMED % ("cells", "c.tenant_id = in_tenant AND c.school_id = ANY (of_schools) AND c.window_no = ANY (in_windows)")};
END $$;

CREATE FUNCTION adjust_cells(in_tenant uuid, of_pupils uuid[], in_windows smallint[], sign integer) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT acts_in(in_tenant);
    WITH changed AS (
        SELECT {GRAIN}, (sign * count(*))::integer AS n FROM contributions c
        WHERE c.tenant_id = in_tenant AND c.pupil_id = ANY (of_pupils) AND c.window_no = ANY (in_windows) GROUP BY {GRAIN}
    ), counted AS (
        INSERT INTO cells ({GRAIN}, n) SELECT {GRAIN}, n FROM changed
        ON CONFLICT (tenant_id, window_no, school_id, subject_no, aspect_no, year_group, sex, disadvantaged, eal, sen, scheme_version_no, grade_no)
        DO UPDATE SET n = cells.n + excluded.n
    )
    INSERT INTO totals AS t ({TOTAL}, eligible, valid, expected, higher, valued, value_sum)
        {SUMMED % ("changed", "true")}
    ON CONFLICT (tenant_id, window_no, school_id, subject_no, aspect_no) DO UPDATE SET eligible = t.eligible + excluded.eligible,
        valid = t.valid + excluded.valid, expected = t.expected + excluded.expected, higher = t.higher + excluded.higher,
        valued = t.valued + excluded.valued, value_sum = t.value_sum + excluded.value_sum
$$;

CREATE FUNCTION match_pupils(in_tenant uuid, source_id uuid, at_schools uuid[], ids uuid[], refs text[], upn_lists text[]) RETURNS TABLE (
    n integer, by_id uuid, by_reference uuid, by_upn uuid, by_former_upn uuid, school_id uuid, open_main_from date, open_main_status text, surname text, forename text, date_of_birth date
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT acts_in(in_tenant);
    SELECT g.n::integer, i.id, x.id, u.pupil_id, f.pupil_id, p.school_id, e.from_on, e.status, p.surname, p.forename, p.date_of_birth
    FROM unnest(at_schools, ids, refs, upn_lists) WITH ORDINALITY AS g (school, id, reference, upn, n)
    LEFT JOIN LATERAL (SELECT id FROM pupils WHERE tenant_id = in_tenant AND id = g.id LIMIT 1) i ON true
    LEFT JOIN LATERAL (
        SELECT id FROM external_ids WHERE tenant_id = in_tenant AND source = source_id AND kind = 'pupil' AND external_ids.school_id = g.school AND value = g.reference LIMIT 1
    ) x ON true
    LEFT JOIN LATERAL (SELECT pupil_id FROM upns WHERE tenant_id = in_tenant AND upns.upn = split_part(g.upn, ' ', 1) LIMIT 1) u ON true
    LEFT JOIN LATERAL (
        SELECT h.pupil_id FROM upns h WHERE h.tenant_id = in_tenant AND h.upn = ANY ((string_to_array(g.upn, ' '))[2:]) ORDER BY h.current DESC LIMIT 1
    ) f ON true
    LEFT JOIN LATERAL (SELECT * FROM pupils WHERE tenant_id = in_tenant AND pupils.id = COALESCE(i.id, x.id, u.pupil_id, f.pupil_id) LIMIT 1) p ON true
    LEFT JOIN LATERAL (
        SELECT from_on, status FROM enrolments WHERE tenant_id = in_tenant AND pupil_id = p.id AND enrolments.school_id = p.school_id
            AND status IN ('C', 'M') AND to_on IS NULL ORDER BY from_on DESC LIMIT 1
    ) e ON true
$$;

COMMENT ON FUNCTION match_pupils IS 'Who in this tenant each given id, reference, UPN and (after it, blank-separated) former UPNs belongs to. LIMIT keeps each look-up an index probe, also before the tables have statistics';

CREATE FUNCTION move_pupils(in_tenant uuid, of_pupils uuid[], to_school uuid) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT acts_in(in_tenant, to_school);
    UPDATE pupils SET school_id = to_school WHERE tenant_id = in_tenant AND id = ANY (of_pupils);
    UPDATE upns SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE characteristics SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE judgements SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE judgement_history SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE targets SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    UPDATE target_history SET school_id = to_school WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils);
    DELETE FROM shared_pupils WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils) AND school_id = to_school;
    INSERT INTO shared_pupils (tenant_id, pupil_id, school_id)
        SELECT DISTINCT tenant_id, pupil_id, school_id FROM enrolments
        WHERE tenant_id = in_tenant AND pupil_id = ANY (of_pupils) AND school_id <> to_school AND status IN ('S', 'G') AND to_on IS NULL
        ON CONFLICT DO NOTHING
$$;

REVOKE ALL ON FUNCTION acts_in, lock_schools, bump_versions, rebuild_cells, adjust_cells, match_pupils, move_pupils FROM PUBLIC;

GRANT EXECUTE ON FUNCTION lock_schools, bump_versions, rebuild_cells, adjust_cells, match_pupils, move_pupils TO markonce_app, markonce_operator;

GRANT SELECT ON cells, totals TO markonce_app;

GRANT SELECT, INSERT, UPDATE, DELETE ON cells, totals TO markonce_operator;

GRANT SELECT ON census, contributions TO markonce_app, markonce_operator
"""

CALLER = "(SELECT NULLIF(current_setting('markonce.caller', true), '')::uuid)"
IN_FORCE = "r.starts_at <= now() AND (r.ends_at IS NULL OR r.ends_at > now())"
BY_SCHOOL = f"""EXISTS (SELECT 1 FROM reach r WHERE r.client_id = {CALLER} AND r.tenant_id = {{table}}.tenant_id AND r.school_id = {{table}}.school_id AND {IN_FORCE})"""
SHARED = f"""EXISTS (SELECT 1 FROM shared_pupils s JOIN reach r ON r.school_id = s.school_id
    WHERE s.tenant_id = {{table}}.tenant_id AND s.pupil_id = {{table}}.pupil_id AND r.client_id = {CALLER} AND {IN_FORCE})"""
BY_TENANT = f"EXISTS (SELECT 1 FROM reach r WHERE r.client_id = {CALLER} AND r.tenant_id = {{table}}.tenant_id AND {IN_FORCE})"

POLICIES = {
    "external_ids": BY_SCHOOL,
    "enrolments": BY_SCHOOL,
    "shared_pupils": BY_SCHOOL,
    "groups": BY_SCHOOL,
    "group_members": BY_SCHOOL,
    "school_versions": BY_SCHOOL,
    "cells": BY_SCHOOL,
    "totals": BY_SCHOOL,
    "pupils": f"{BY_SCHOOL} OR {SHARED.replace('.pupil_id AND r', '.id AND r')}",
    "upns": f"{BY_SCHOOL} OR {SHARED}",
    "characteristics": f"{BY_SCHOOL} OR {SHARED}",
    "judgements": f"{BY_SCHOOL} OR {SHARED}",
    "judgement_history": f"{BY_SCHOOL} OR {SHARED}",
    "targets": f"{BY_SCHOOL} OR {SHARED}",
    "target_history": f"{BY_SCHOOL} OR {SHARED}",
    "tenants": BY_TENANT.replace("{table}.tenant_id", "{table}.id"),
    "subjects": BY_TENANT,
    "aspects": BY_TENANT,
    "schemes": BY_TENANT,
    "scheme_versions": BY_TENANT,
    "grades": BY_TENANT,
    "windows": BY_TENANT,
    "collects": BY_TENANT,
    "pins": BY_TENANT,
}


def upgrade() -> None:
    connection = op.get_bind()
    for statement in SQL.strip().split(";\n\n"):
        connection.exec_driver_sql(statement)
    for table, rule in POLICIES.items():
        rule = rule.format(table=table)
        connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        connection.exec_driver_sql(f"CREATE POLICY reached ON {table} TO markonce_app USING ({rule})")
        connection.exec_driver_sql(
            f"CREATE POLICY maintenance ON {table} TO CURRENT_USER, markonce_operator USING (true) WITH CHECK (true)"
        )
    connection.exec_driver_sql(f"SELECT prepare_years({FIRST_YEAR}::smallint, {LAST_YEAR}::smallint)")
