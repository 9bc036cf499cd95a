"""Enrolment statuses F and O, and free meals as targeted, expanded or none; only targeted ones make a pupil disadvantaged."""

from alembic import op

from migrations.steps import run_each

revision, down_revision, branch_labels, depends_on = "0016", "0015", None, None

STATUSES = """
ALTER TABLE enrolments DROP CONSTRAINT enrolments_status_check,
    ADD CONSTRAINT enrolments_status_check CHECK (status IN ('C', 'M', 'S', 'G', 'F', 'O')) NOT VALID
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
WHERE w.state <> 'planned' AND d.year_group = ANY (w.year_groups)
    AND (SELECT later.id FROM enrolments later
        WHERE later.tenant_id = e.tenant_id AND later.pupil_id = e.pupil_id AND later.status IN ('C', 'M', 'F', 'O')
            AND later.from_on <= w.census_on AND COALESCE(later.to_on, 'infinity') >= w.census_on
        ORDER BY later.from_on DESC, later.id DESC LIMIT 1) = e.id
"""

MEALS = """
UPDATE characteristics SET value = CASE value WHEN 'true' THEN 'targeted' ELSE 'none' END
WHERE ctid = ANY (ARRAY(SELECT ctid FROM characteristics WHERE kind = 'fsm' AND value IN ('true', 'false') LIMIT 10000))
"""

TENANTS = """
SELECT tenant_id FROM windows w WHERE state <> 'planned'
    AND EXISTS (SELECT 1 FROM characteristics c WHERE c.tenant_id = w.tenant_id AND c.kind = 'fsm')
GROUP BY tenant_id ORDER BY tenant_id
"""
COUNT = """
SELECT rebuild_cells('{tenant}', l.schools, (SELECT array_agg(no) FROM windows WHERE tenant_id = '{tenant}' AND state <> 'planned')),
    bump_versions('{tenant}', l.schools)
FROM (SELECT lock_schools('{tenant}', (SELECT array_agg(id) FROM schools WHERE tenant_id = '{tenant}'), '{{}}') AS schools OFFSET 0) l
"""
"""Who is disadvantaged has changed, so that the cells of each tenant are counted again, under its locks."""


def upgrade() -> None:
    run_each(STATUSES, CENSUS)
    with op.get_context().autocommit_block():
        while op.get_bind().exec_driver_sql(MEALS).rowcount:
            pass
        for tenant in op.get_bind().exec_driver_sql(TENANTS).scalars().all():
            op.get_bind().exec_driver_sql("SET lock_timeout = 0")  # rows of schools, which readers do not wait for
            op.get_bind().exec_driver_sql(COUNT.format(tenant=tenant))
