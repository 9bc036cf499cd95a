"""The workload budget: at how many points of an academic year the pupils of a school and year group are assessed.

A collection point is a season. Windows of one season that share no subject and aspect are one point, since the departments of
a school collect on different days; so a season counts as often as its most collected subject and aspect. What one
school collects is no workload of another. Statutory windows do not count, and nobody has to say the three reasons for them.

Source: the Department for Education's workload reduction toolkit and the inspectorate's handbook on the frequency of data
collection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.assessment.seasons import season_sql
from domain.declare.errors import Conflict, Issue
from domain.store.database import Connection, transpose

CollectedAt = tuple[int, int, UUID]
"""The numbers of a subject and an aspect, and the school that collects it, or the tenant where every school does."""

_EXCEEDED = f"""
WITH collected AS (
    SELECT DISTINCT s.id AS school_id, y.year_group, $3 AS season, l.subject_no, l.aspect_no, NULL::smallint AS window_no
    FROM unnest($5::smallint[], $6::smallint[], $7::uuid[]) AS l (subject_no, aspect_no, school_id)
    JOIN schools s ON s.tenant_id = $1 AND l.school_id IN (s.id, $1) CROSS JOIN unnest($4::text[]) AS y (year_group)
    UNION ALL
    SELECT p.school_id, y.year_group, {season_sql("w")}, p.subject_no, p.aspect_no, w.no
    FROM windows w JOIN pins p ON p.tenant_id = $1 AND p.window_no = w.no CROSS JOIN unnest(w.year_groups) AS y (year_group)
    WHERE w.tenant_id = $1 AND w.academic_year = $2 AND NOT w.statutory AND w.no <> $8 AND y.year_group = ANY ($4)
), points AS (
    SELECT school_id, year_group, season, max(n) AS n, max(n_before) AS n_before FROM (
        SELECT school_id, year_group, season, count(*) AS n, count(window_no) AS n_before
        FROM collected GROUP BY school_id, year_group, season, subject_no, aspect_no
    ) x GROUP BY school_id, year_group, season
)
SELECT s.name, p.year_group, t.workload_budget AS budget
FROM (SELECT school_id, year_group, sum(n) AS n, sum(n_before) AS n_before FROM points GROUP BY school_id, year_group) p
JOIN schools s ON s.tenant_id = $1 AND s.id = p.school_id JOIN tenants t ON t.id = $1
WHERE p.n > t.workload_budget AND p.n > p.n_before ORDER BY s.urn, p.year_group
"""
_NAMED = 5
"""Schools and year groups that a message names at most."""


@dataclass(frozen=True)
class Workload:
    """What a window asks of teachers. `window_no` is its own number, 0 while it has none."""

    tenant_id: UUID
    academic_year: int
    season: str
    year_groups: list[str]
    lines: Sequence[CollectedAt]
    window_no: int = 0


async def check_workload_budget(connection: Connection, workload: Workload, pointer: str) -> None:
    """Raises Conflict with this JSON pointer where a school's pupils would be assessed at more points than the budget has.

    The caller does not check a statutory window, nor one that says the three reasons.
    """
    w = workload
    key = (w.tenant_id, w.academic_year, w.season, w.year_groups)
    exceeded = await connection.fetch(_EXCEEDED, *key, *transpose(w.lines, 3), w.window_no)
    if not exceeded:
        return
    named = [f"{row['name']}, year group {row['year_group']}" for row in exceeded[:_NAMED]]
    more = f"; and {len(exceeded) - _NAMED} more" if len(exceeded) > _NAMED else ""
    message = (
        f"Pupils would be assessed at more than {exceeded[0]['budget']} collection points this year: {'; '.join(named)}{more}."
        " Give frequencyReasons, all three, or collect less."
    )
    raise Conflict(message, code="workload-budget-exceeded", issues=(Issue(pointer, "workload-budget-exceeded", message),))
