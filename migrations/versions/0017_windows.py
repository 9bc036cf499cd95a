"""Windows open and close by themselves: their state follows from their terms and the time, and what is counted of one is counted when it is planned.

Servers of the release before do not count planned windows. A window that they plan or whose roll they change is right again when its terms change or
when it is opened by the verb.
"""

from alembic import op

from migrations.steps import run_each

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

STATE = """
CREATE OR REPLACE FUNCTION window_state(stored text, opens_at timestamptz, closes_at timestamptz, instant timestamptz) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN stored IN ('closed', 'locked') THEN stored WHEN closes_at <= instant THEN 'closed'
        WHEN stored = 'open' OR opens_at <= instant THEN 'open' ELSE 'planned' END
$$
"""
NOTE_INSTANTS = """
CREATE OR REPLACE FUNCTION note_instants() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO window_instants (at) SELECT i FROM unnest(ARRAY[NEW.opens_at, NEW.closes_at, NEW.accept_until]) i WHERE i IS NOT NULL
    ORDER BY i ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$
"""
PIN_SCHOOL = """
CREATE OR REPLACE FUNCTION pin_school() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO pins (tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no)
    SELECT NEW.tenant_id, c.window_no, NEW.id, c.subject_no, c.aspect_no, v.no
    FROM windows w
    JOIN collects c ON c.tenant_id = w.tenant_id AND c.window_no = w.no AND c.school_id = w.tenant_id
    JOIN LATERAL (
        SELECT no FROM scheme_versions v WHERE v.tenant_id = w.tenant_id AND v.scheme_id = c.scheme_id ORDER BY version DESC LIMIT 1
    ) v ON true
    WHERE w.tenant_id = NEW.tenant_id AND w.state IN ('planned', 'open')
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$
"""
CENSUS = """
CREATE OR REPLACE VIEW census WITH (security_invoker = true) AS
SELECT w.tenant_id, w.academic_year, w.no AS window_no, e.school_id, e.pupil_id, d.year_group, p.sex,
    CASE WHEN 'true' = d.ever6_fsm OR 'true' = d.looked_after OR 'true' = d.left_care OR EXISTS (
            SELECT 1 FROM characteristics f
            WHERE f.tenant_id = e.tenant_id AND f.pupil_id = e.pupil_id AND f.kind = 'fsm' AND f.value IN ('targeted', 'true')
                AND f.from_on <= w.census_on AND COALESCE(f.to_on, 'infinity') >= w.census_on - interval '6 years'
                AND (f.to_on IS NOT NULL OR NOT EXISTS (
                    SELECT 1 FROM characteristics later
                    WHERE later.tenant_id = f.tenant_id AND later.pupil_id = f.pupil_id AND later.kind = 'fsm'
                        AND later.from_on > f.from_on AND later.from_on <= w.census_on - interval '6 years'))
        ) THEN 'true' WHEN d.ever6_fsm = 'false' THEN 'false' ELSE 'unknown' END AS disadvantaged,
    COALESCE(d.eal, 'unknown') AS eal, COALESCE(d.sen, 'unknown') AS sen
FROM windows w
JOIN enrolments e ON e.tenant_id = w.tenant_id AND e.status IN ('C', 'M', 'F', 'O') AND e.from_on <= w.census_on
    AND COALESCE(e.to_on, 'infinity') >= w.census_on
CROSS JOIN LATERAL (SELECT sex FROM pupils WHERE tenant_id = e.tenant_id AND id = e.pupil_id LIMIT 1) p
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
WHERE d.year_group = ANY (w.year_groups)
    AND (SELECT later.id FROM enrolments later
        WHERE later.tenant_id = e.tenant_id AND later.pupil_id = e.pupil_id AND later.status IN ('C', 'M', 'F', 'O')
            AND later.from_on <= w.census_on AND COALESCE(later.to_on, 'infinity') >= w.census_on
        ORDER BY later.from_on DESC, later.id DESC LIMIT 1) = e.id
"""
RETURNS = """
CREATE OR REPLACE VIEW returns WITH (security_invoker = true) AS
SELECT w.tenant_id, w.no AS window_no, w.code AS window_code, s.id AS school_id, s.urn AS school_urn, s.name AS school_name, f.subject_no, f.aspect_no,
    f.expected, f.received, f.expected - f.received AS missing, f.missing_pupil_ids,
    cardinality(f.missing_pupil_ids) < f.expected - f.received AS missing_cut,
    last.received_at AS last_push_at, c.name AS last_client, last.rejected AS last_rejected,
    w.state, w.opens_at, w.closes_at
FROM windows w
CROSS JOIN LATERAL window_returns(w.tenant_id, w.no, 200) f
JOIN schools s ON s.id = f.school_id
LEFT JOIN LATERAL (
    SELECT r.received_at, r.client_id, r.rejected FROM receipts r
    WHERE r.tenant_id = w.tenant_id AND r.school_id = f.school_id AND r.window_no = w.no AND r.subject_no = f.subject_no AND r.aspect_no = f.aspect_no
    ORDER BY r.received_at DESC LIMIT 1
) last ON true
LEFT JOIN clients c ON c.id = last.client_id
"""
PINS_OF_PLANNED = """
INSERT INTO pins (tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no)
SELECT DISTINCT ON (w.tenant_id, w.no, s.id, c.subject_no, c.aspect_no) w.tenant_id, w.no, s.id, c.subject_no, c.aspect_no, v.no
FROM windows w
JOIN collects c ON c.tenant_id = w.tenant_id AND c.window_no = w.no
JOIN schools s ON s.tenant_id = w.tenant_id AND c.school_id IN (s.id, w.tenant_id)
JOIN LATERAL (
    SELECT no FROM scheme_versions v WHERE v.tenant_id = w.tenant_id AND v.scheme_id = c.scheme_id ORDER BY version DESC LIMIT 1
) v ON true
WHERE w.state = 'planned'
ORDER BY w.tenant_id, w.no, s.id, c.subject_no, c.aspect_no, c.school_id = s.id DESC
ON CONFLICT DO NOTHING
"""
PLANNED = "SELECT tenant_id::text, no FROM windows WHERE state = 'planned' ORDER BY 1, 2"
COUNT = """
SELECT rebuild_cells(w.tenant_id, ARRAY(SELECT s.id FROM schools s WHERE s.tenant_id = w.tenant_id), ARRAY[w.no])
FROM windows w WHERE w.tenant_id = '{tenant_id}' AND w.no = {no}
"""


def upgrade() -> None:
    run_each(
        "CREATE TABLE IF NOT EXISTS window_instants (at timestamptz PRIMARY KEY)",
        "COMMENT ON TABLE window_instants IS 'The instants at which windows of any tenant open, close and stop accepting: the data versions contain the newest that"
        " has passed, so none is ever deleted'",
        "GRANT SELECT ON window_instants TO markonce_app, markonce_operator",
        STATE,
        "REVOKE ALL ON FUNCTION window_state FROM PUBLIC",
        "GRANT EXECUTE ON FUNCTION window_state TO markonce_app, markonce_operator",
        NOTE_INSTANTS,
        "REVOKE ALL ON FUNCTION note_instants FROM PUBLIC",
        PIN_SCHOOL,
        "REVOKE ALL ON FUNCTION pin_school FROM PUBLIC",
        "CREATE OR REPLACE TRIGGER note_instants AFTER INSERT OR UPDATE OF opens_at, closes_at, accept_until ON windows"
        " FOR EACH ROW EXECUTE FUNCTION note_instants()",
        "INSERT INTO window_instants (at) SELECT DISTINCT i FROM windows w, unnest(ARRAY[w.opens_at, w.closes_at, w.accept_until]) i WHERE i IS NOT NULL"
        " ON CONFLICT DO NOTHING",
        "CREATE OR REPLACE TRIGGER pin_school AFTER UPDATE OF tenant_id ON schools FOR EACH ROW WHEN (OLD.tenant_id <> NEW.tenant_id)"
        " EXECUTE FUNCTION pin_school()",
        CENSUS,
        RETURNS,
        PINS_OF_PLANNED,
    )
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        for tenant_id, no in connection.exec_driver_sql(PLANNED).all():
            connection.exec_driver_sql(COUNT.format(tenant_id=tenant_id, no=no))
