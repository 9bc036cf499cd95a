"""The audit of collections on one page for governors and trustees: sums by subject and kind of window, of schools where the client holds collections:read.

It says nothing of a single child or teacher: no figure is below a school's subject, small numbers of values are not said, nor is who decided.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import msgspec

from domain.access.caller import Caller
from domain.access.reach import IN_FORCE, set_caller_first
from domain.assessment.collections import IS_CANDIDATE, MINUTES, write_in_sql
from domain.declare.errors import NotFound
from domain.declare.scopes import Scope
from domain.store.database import Database
from domain.support import clock

SMALL = 10
"""Fewer values than these are said as few."""


class SummaryRow(msgspec.Struct, rename="camel"):
    """A subject and kind of window over all schools of the page. `verdicts` are how many of its types have each verdict."""

    subject: str
    window_kind: str
    schools: int
    values: int
    minutes: int
    never_read: int
    reuses: float
    resends: int
    candidates: int
    verdicts: dict[str, int]
    aspects: list[str]


class BudgetWindow(msgspec.Struct, rename="camel"):
    """A window beyond the workload budget, and its three reasons."""

    code: str
    name: str
    actions: str
    time_to_set_and_analyse: str
    time_to_act: str


class _Found(msgspec.Struct, rename="camel"):
    name: str | None
    schools: int
    rows: list[SummaryRow] | None
    windows: list[BudgetWindow] | None
    counted_since: date
    lost: int


@dataclass(frozen=True)
class CollectionSummary:
    """What the page says. `lost` are counts of reads that were lost, so that the others are too low."""

    name: str
    on: date
    schools: int
    rows: list[SummaryRow]
    windows: list[BudgetWindow]
    counted_since: date
    lost: int


_SEES = (
    "SELECT s.id FROM schools s JOIN reach r ON r.tenant_id = s.tenant_id AND r.school_id = s.id"
    f" WHERE s.{{column}} = $2 AND r.client_id = $1 AND '{Scope.COLLECTIONS_READ}' = ANY (r.scopes) AND {IN_FORCE}"
)
_READ = set_caller_first("""
    WITH seen AS MATERIALIZED ({sees}), types AS MATERIALIZED (
        SELECT collections.*, {minutes} AS minutes, {is_candidate} AS is_candidate
        FROM collections WHERE school_id IN (SELECT id FROM seen)
    ), sums AS (
        SELECT b.name AS subject, t.window_kind AS kind, count(DISTINCT t.school_id) AS schools, sum(t.entered) AS n, sum(t.minutes) AS minutes,
            sum(t.never_read) AS never_read, COALESCE(sum(t.entered * t.reuse), 0) AS reuses, sum(t.unchanged) AS resends,
            count(*) FILTER (WHERE t.is_candidate) AS candidates, array_agg(DISTINCT a.name) FILTER (WHERE t.is_candidate) AS aspects,
            count(*) FILTER (WHERE t.verdict = 'keep') AS keep, count(*) FILTER (WHERE t.verdict = 'change') AS change,
            count(*) FILTER (WHERE t.verdict = 'stop') AS stop, count(*) FILTER (WHERE t.verdict IS NULL) AS none
        FROM types t JOIN subjects b ON b.tenant_id = t.tenant_id AND b.no = t.subject_no JOIN aspects a ON a.tenant_id = t.tenant_id AND a.no = t.aspect_no
        GROUP BY b.name, t.window_kind
    )
    SELECT json_build_object(
        'name', (SELECT o.name FROM {owners} o WHERE o.id = $2), 'schools', (SELECT count(DISTINCT id) FROM seen),
        'rows', (SELECT json_agg(json_build_object('subject', s.subject, 'windowKind', s.kind, 'schools', s.schools, 'values', s.n, 'minutes', s.minutes,
            'neverRead', s.never_read, 'reuses', s.reuses, 'resends', s.resends, 'candidates', s.candidates, 'aspects', COALESCE(s.aspects, '{{}}'),
            'verdicts', json_build_object('keep', s.keep, 'change', s.change, 'stop', s.stop, 'none', s.none))
            ORDER BY s.minutes DESC, s.subject, s.kind) FROM sums s),
        'windows', (SELECT json_agg(json_build_object('code', w.code, 'name', w.name, 'actions', w.frequency_reasons ->> 'actions',
            'timeToSetAndAnalyse', w.frequency_reasons ->> 'timeToSetAndAnalyse', 'timeToAct', w.frequency_reasons ->> 'timeToAct')
            ORDER BY w.census_on DESC, w.no DESC)
            FROM windows w WHERE w.frequency_reasons IS NOT NULL AND w.closes_at > now() - interval '13 months' AND EXISTS (
                SELECT 1 FROM pins p WHERE p.tenant_id = w.tenant_id AND p.window_no = w.no AND p.school_id IN (SELECT id FROM seen))),
        'countedSince', COALESCE((SELECT min(t.counted_since) FROM types t)::date, $3), 'lost', COALESCE((SELECT max(t.lost_counts) FROM types t), 0)
    )::text AS found WHERE c.s IS NOT NULL OFFSET 0
""")
_FIGURES = {"minutes": write_in_sql(MINUTES, "$3"), "is_candidate": write_in_sql(IS_CANDIDATE, "$3")}
_STATEMENTS = {
    "trust": _READ.format(sees=_SEES.format(column="tenant_id"), owners="trusts", **_FIGURES),
    "school": _READ.format(sees=_SEES.format(column="id"), owners="schools", **_FIGURES),
}


async def read_collection_summary(database: Database, caller: Caller, noun: str, row_id: UUID | None) -> CollectionSummary:
    """Returns the summary of a trust, or of one school. Raises Forbidden without collections:read, NotFound where it is held at none of its schools."""
    caller.require_scope(Scope.COLLECTIONS_READ, "collectionSummary")
    if row_id is None:
        raise NotFound()
    today = clock.read_today()
    row: Any = await database.read(_STATEMENTS[noun], caller.client_id, row_id, today, name="read the summary of collections")
    found = msgspec.json.decode(row["found"], type=_Found) if row["found"] is not None else None
    if found is None or found.name is None or not found.schools:
        raise NotFound()
    return CollectionSummary(
        name=found.name,
        on=today,
        schools=found.schools,
        rows=[each for each in found.rows or [] if each.values],
        windows=found.windows or [],
        counted_since=found.counted_since,
        lost=found.lost,
    )
