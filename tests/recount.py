"""Cells and totals against a recount from what they count, written apart from the database's own counting (migration 0014)."""

from tests.trust import Trust

CONTRIBUTIONS = """
WITH eligible AS (
    SELECT c.*, EXISTS (
        SELECT 1 FROM discounts d WHERE d.tenant_id = c.tenant_id AND d.window_no = c.window_no AND d.pupil_id = c.pupil_id AND d.withdrawn_at IS NULL
    ) AS discounted FROM census c WHERE c.tenant_id = $1
), contributions AS (
    SELECT c.tenant_id, c.academic_year, c.window_no, c.school_id, c.pupil_id, p.subject_no, p.aspect_no, c.year_group, c.sex, c.disadvantaged, c.eal, c.sen,
        COALESCE(j.scheme_version_no, p.scheme_version_no) AS scheme_version_no,
        CASE WHEN c.discounted OR j.status_code = 'left' THEN -1 ELSE COALESCE(j.grade_no, 0) END::smallint AS grade_no, 1 AS n
    FROM eligible c
    JOIN pins p ON p.tenant_id = c.tenant_id AND p.window_no = c.window_no AND p.school_id = c.school_id
    JOIN aspects a ON a.tenant_id = p.tenant_id AND a.no = p.aspect_no AND a.counted
    LEFT JOIN judgements j ON j.tenant_id = c.tenant_id AND j.academic_year = c.academic_year AND j.pupil_id = c.pupil_id
        AND j.window_no = c.window_no AND j.subject_no = p.subject_no AND j.aspect_no = p.aspect_no
    WHERE c.tenant_id = $1
    UNION ALL
    SELECT c.tenant_id, c.academic_year, c.window_no, c.school_id, c.pupil_id, s.no, 0::smallint, c.year_group, c.sex, c.disadvantaged, c.eal, c.sen,
        v.no, CASE WHEN c.discounted THEN 1 ELSE r.grade_no END::smallint, 1
    FROM eligible c
    JOIN subjects s ON s.tenant_id = c.tenant_id AND s.code = 'rwm'
    JOIN schemes m ON m.tenant_id = c.tenant_id AND m.code = 'rwm'
    JOIN scheme_versions v ON v.tenant_id = m.tenant_id AND v.scheme_id = m.id AND v.version = 1
    CROSS JOIN LATERAL (
        SELECT (CASE WHEN bool_or(NOT COALESCE(g.eligible, j.status_code IS DISTINCT FROM 'left')) THEN 1
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
    ) r
    WHERE c.tenant_id = $1
)
"""
DIFFERING_CELLS = """
SELECT count(*) FROM (
    SELECT {grain}, count(*)::integer AS n FROM contributions GROUP BY {grain}
) counted FULL JOIN (SELECT {grain}, n FROM cells WHERE tenant_id = $1 AND n <> 0) kept USING ({grain}, n) WHERE counted.n IS NULL OR kept.n IS NULL
"""
GRAIN = "tenant_id, academic_year, window_no, school_id, subject_no, aspect_no, year_group, sex, disadvantaged, eal, sen, scheme_version_no, grade_no"
DIFFERING_TOTALS = """
SELECT count(*) FROM (
    SELECT c.window_no, c.school_id, c.subject_no, c.aspect_no, COALESCE(sum(n) FILTER (WHERE COALESCE(g.eligible, c.grade_no >= 0)), 0) AS eligible,
        COALESCE(sum(n) FILTER (WHERE g.valid), 0) AS valid, COALESCE(sum(n) FILTER (WHERE g.expected), 0) AS expected,
        COALESCE(sum(n) FILTER (WHERE g.higher), 0) AS higher, COALESCE(sum(n) FILTER (WHERE g.valid AND g.value IS NOT NULL), 0) AS valued,
        COALESCE(sum(n * g.value) FILTER (WHERE g.valid), 0) AS value_sum
    FROM contributions c LEFT JOIN grades g ON g.tenant_id = $1 AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
    GROUP BY c.window_no, c.school_id, c.subject_no, c.aspect_no
) counted FULL JOIN (SELECT * FROM totals WHERE tenant_id = $1 AND (eligible, valid, expected, higher, valued, value_sum) <> (0, 0, 0, 0, 0, 0)) kept
    USING (window_no, school_id, subject_no, aspect_no, eligible, valid, expected, higher, valued, value_sum)
WHERE (counted.eligible IS NULL OR kept.tenant_id IS NULL)
    AND (eligible, valid, expected, higher, valued, value_sum) <> (0, 0, 0, 0, 0, 0)
"""


async def miscounted(here: Trust) -> tuple[int, int, int]:
    """How many cells are below zero, how many cells and how many totals differ from a recount of the trust."""
    tenant_id = here.ids["trust"]
    return (
        await here.value("SELECT count(*) FROM cells WHERE n < 0"),
        await here.value(CONTRIBUTIONS + DIFFERING_CELLS.format(grain=GRAIN), tenant_id),
        await here.value(CONTRIBUTIONS + DIFFERING_TOTALS, tenant_id),
    )
