"""What a verdict to stop does: new windows that collect it are refused, and planned ones open only with a reason."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.assessment.seasons import season_sql
from domain.declare.errors import Conflict, Issue
from domain.store.database import Connection, transpose

AWAITING = "awaiting"
"""The stored state of a planned window that opens only with a reason (window_state of the database)."""
_NAMED = 5
"""Schools and subjects that a message names at most."""
_HAS_STOPS = "EXISTS (SELECT 1 FROM collection_answers WHERE tenant_id = $1 AND replaced_at IS NULL AND verdict = 'stop')"
"""Nearly no tenant has any: without one, what each school and subject inherits is not read."""
_STOPPED = """
SELECT DISTINCT s.name, s.urn, b.code AS subject, x.code AS aspect, a.decided_by, a.review_on
FROM unnest($2::smallint[], $3::smallint[], $4::uuid[]) AS l (subject_no, aspect_no, school_id)
JOIN schools s ON s.tenant_id = $1 AND (l.school_id = s.id OR (l.school_id = $1 AND NOT EXISTS (
    SELECT 1 FROM unnest($2::smallint[], $3::smallint[], $4::uuid[]) AS o (subject_no, aspect_no, school_id)
    WHERE o.subject_no = l.subject_no AND o.aspect_no = l.aspect_no AND o.school_id = s.id
)))
JOIN subjects b ON b.tenant_id = $1 AND b.no = l.subject_no
JOIN aspects x ON x.tenant_id = $1 AND x.no = l.aspect_no
CROSS JOIN LATERAL find_collection_answers($1, s.id, l.subject_no, l.aspect_no, $5, $6) a
WHERE s.status <> 'closed' AND a.verdict = 'stop' ORDER BY s.urn, b.code, x.code
"""
_LINES = "SELECT subject_no, aspect_no, school_id FROM pins WHERE tenant_id = $1 AND window_no = $2"
_HOLD = f"""
WITH planned AS (
    SELECT w.no, w.code, w.state, {_HAS_STOPS} AND EXISTS (
        SELECT 1 FROM pins p CROSS JOIN LATERAL find_collection_answers(
            $1, p.school_id, p.subject_no, p.aspect_no, COALESCE(w.template, {season_sql("w")}), w.statutory
        ) a WHERE p.tenant_id = $1 AND p.window_no = w.no AND a.verdict = 'stop'
    ) AS is_stopped
    FROM windows w WHERE w.tenant_id = $1 AND w.closes_at > $2 AND (w.state = '{AWAITING}' OR (w.state = 'planned' AND w.opens_at > $2))
)
UPDATE windows w SET state = CASE WHEN p.is_stopped THEN '{AWAITING}' ELSE 'planned' END, version = version + 1
FROM planned p WHERE w.tenant_id = $1 AND w.no = p.no AND p.is_stopped <> (p.state = '{AWAITING}')
RETURNING w.code, p.is_stopped
"""


async def refuse_stopped(
    connection: Connection, tenant_id: UUID, season: str, lines: Sequence[Sequence[Any]], pointer: str
) -> None:
    """Raises Conflict with this JSON pointer, naming the schools and subjects, where lines of a window of this season collect what is to stop.

    A line has the numbers of a subject and an aspect, and a school; the tenant stands for all schools without a line of their own. The caller
    does not check a statutory window: what the law requires is not stopped.
    """
    if not await connection.fetchval(f"SELECT {_HAS_STOPS}", tenant_id):
        return
    stopped = await connection.fetch(_STOPPED, tenant_id, *transpose([tuple(line)[:3] for line in lines], 3), season, False)
    if stopped:
        message = f"{_describe(stopped)} Leave these schools and subjects out, or change the verdict: GET /v1/collection-answers."
        raise Conflict(message, code="collection-stopped", issues=(Issue(pointer, "collection-stopped", message),))


def _describe(stopped: Sequence[Any]) -> str:
    named = [
        f"{row['name']} ({row['urn']}), {row['subject']}{'' if row['aspect'] == 'main' else '/' + row['aspect']}" for row in stopped
    ]
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"It was decided to stop collecting this: {'; '.join(named[:_NAMED])}{more}."


async def describe_held(connection: Connection, window: Any) -> str:
    """Returns which schools and subjects of a window are to stop."""
    kind = window["template"] or window["season_now"]
    lines = await connection.fetch(_LINES, window["tenant_id"], window["no"])
    columns = transpose([tuple(line) for line in lines], 3)
    stopped = await connection.fetch(_STOPPED, window["tenant_id"], *columns, kind, window["statutory"])
    return _describe(stopped)


async def hold_stopped_windows(connection: Connection, tenant_id: UUID, now: datetime) -> tuple[list[str], list[str]]:
    """Lets the planned windows of a tenant wait for a reason that collect what is to stop, and no others. All schools are locked.

    Returns the codes of those that wait from now on, and of those that wait no more.
    """
    changed = await connection.fetch(_HOLD, tenant_id, now)
    return sorted(row["code"] for row in changed if row["is_stopped"]), sorted(
        row["code"] for row in changed if not row["is_stopped"]
    )
