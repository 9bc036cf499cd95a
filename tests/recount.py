"""Cells and totals against a recount from what they count."""

from tests.trust import Trust

DIFFERING_CELLS = """
SELECT count(*) FROM (
    SELECT {grain}, count(*)::integer AS n FROM contributions WHERE tenant_id = $1 GROUP BY {grain}
) counted FULL JOIN (SELECT {grain}, n FROM cells WHERE tenant_id = $1 AND n <> 0) kept USING ({grain}, n) WHERE counted.n IS NULL OR kept.n IS NULL
"""
GRAIN = "tenant_id, academic_year, window_no, school_id, subject_no, aspect_no, year_group, sex, disadvantaged, eal, sen, scheme_version_no, grade_no"
DIFFERING_TOTALS = """
SELECT count(*) FROM (
    SELECT c.window_no, c.school_id, c.subject_no, c.aspect_no, COALESCE(sum(n) FILTER (WHERE COALESCE(g.eligible, true)), 0) AS eligible,
        COALESCE(sum(n) FILTER (WHERE g.valid), 0) AS valid, COALESCE(sum(n) FILTER (WHERE g.expected), 0) AS expected,
        COALESCE(sum(n) FILTER (WHERE g.higher), 0) AS higher, COALESCE(sum(n) FILTER (WHERE g.valid AND g.value IS NOT NULL), 0) AS valued,
        COALESCE(sum(n * g.value) FILTER (WHERE g.valid), 0) AS value_sum
    FROM contributed c LEFT JOIN grades g ON g.tenant_id = $1 AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no
    GROUP BY c.window_no, c.school_id, c.subject_no, c.aspect_no
) counted FULL JOIN (SELECT * FROM totals WHERE tenant_id = $1 AND (eligible, valid, expected, higher, valued, value_sum) <> (0, 0, 0, 0, 0, 0)) kept
    USING (window_no, school_id, subject_no, aspect_no, eligible, valid, expected, higher, valued, value_sum)
WHERE (counted.eligible IS NULL OR kept.tenant_id IS NULL)
    AND (eligible, valid, expected, higher, valued, value_sum) <> (0, 0, 0, 0, 0, 0)
"""
CONTRIBUTED = "WITH contributed AS (SELECT *, 1 AS n FROM contributions WHERE tenant_id = $1)"


async def miscounted(here: Trust) -> tuple[int, int, int]:
    """How many cells are below zero, how many cells and how many totals differ from a recount of the trust."""
    tenant_id = here.ids["trust"]
    return (
        await here.value("SELECT count(*) FROM cells WHERE n < 0"),
        await here.value(DIFFERING_CELLS.format(grain=GRAIN), tenant_id),
        await here.value(CONTRIBUTED + DIFFERING_TOTALS, tenant_id),
    )
