-- The rows of the tables in schema.sql, from the product's as they are now. Where the product's change, the left side stays.
INSERT INTO fixed.schools
SELECT id, tenant_id, urn, laestab, ukprn, name, local_authority_code, local_authority, kind, phase, status, low_age, high_age, opened_on, closed_on,
    town, postcode
FROM public.schools;

INSERT INTO fixed.subjects SELECT tenant_id, id, no, code, name, derived FROM public.subjects;

INSERT INTO fixed.grades
SELECT tenant_id, scheme_version_no, no, code, label, rank, value, points, year_group, band, eligible, valid, expected, higher FROM public.grades;

INSERT INTO fixed.windows
SELECT tenant_id, id, no, code, name, academic_year, census_on, opens_at, closes_at, state FROM public.windows;

INSERT INTO fixed.pins SELECT tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no FROM public.pins;

INSERT INTO fixed.pupils
SELECT tenant_id, id, school_id, upn, surname, forename, date_of_birth, sex, year_group, version, xid, changed_at FROM public.pupils ORDER BY tenant_id, id;

INSERT INTO fixed.enrolments
SELECT tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason FROM public.enrolments ORDER BY tenant_id, id;

DO $$
DECLARE y smallint;
BEGIN
    FOR y IN SELECT DISTINCT academic_year FROM fixed.windows ORDER BY 1 LOOP
        EXECUTE format('CREATE TABLE fixed.judgements_%s PARTITION OF fixed.judgements FOR VALUES IN (%s)', y, y);
    END LOOP;
END
$$;

INSERT INTO fixed.judgements
SELECT tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, scheme_version_no, grade_no, mark, status_code, recorded_at,
    received_at, recorded_at_school_id, client_id, actor, source, method, version, xid
FROM public.judgements ORDER BY academic_year, tenant_id, pupil_id, window_no, subject_no;

INSERT INTO fixed.targets
SELECT tenant_id, id, pupil_id, school_id, subject_no, aspect_no, horizon_year, horizon_point, basis, scheme_version_no, grade_no, visibility, locked_at,
    recorded_at, received_at, client_id, actor, version, xid
FROM public.targets ORDER BY tenant_id, pupil_id;

-- Windows of each tenant with pupils in which nothing is judged: those of the first 60 turns of W2-created, like the one that is open.
WITH open AS (
    SELECT w.*, turn FROM fixed.windows w, generate_series(0, 59) AS turn
    WHERE w.state = 'open' AND EXISTS (SELECT FROM fixed.pupils p WHERE p.tenant_id = w.tenant_id)
), added AS (
    INSERT INTO fixed.windows
    SELECT tenant_id, gen_random_uuid(), 1000 + turn, 'created-' || turn, 'Created ' || turn, academic_year, census_on, opens_at, closes_at, 'planned'
    FROM open
)
INSERT INTO fixed.pins
SELECT p.tenant_id, 1000 + o.turn, p.school_id, p.subject_no, p.aspect_no, p.scheme_version_no
FROM open o JOIN fixed.pins p ON p.tenant_id = o.tenant_id AND p.window_no = o.no;

CREATE SEQUENCE fixed.created;
