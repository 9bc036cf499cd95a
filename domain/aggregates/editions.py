"""Reads editions: the rows of publications that a reader of aggregates reaches, as they are stored. Nothing is added up here."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.access.caller import Caller
from domain.access.reach import IN_FORCE, set_caller_first
from domain.aggregates.edition_figures import EditionFigures
from domain.aggregates.query import AggregateQuery
from domain.aggregates.results import Categories
from domain.aggregates.school_names import parse_names
from domain.assessment.window_state import state_sql
from domain.declare.errors import Conflict, Issue, make_invalid
from domain.declare.ids import NIL, parse_id
from domain.declare.scopes import Scope
from domain.store.database import Database
from domain.support import clock


class CoveredSchool(Struct):
    """A school that a question covers, within reach."""

    id: str
    tenant_id: str
    urn: int
    name: str


class CoveredWindow(Struct):
    """A window that a question covers, with its newest edition; None where it has none. `state` is that of its newest publication."""

    tenant_id: str
    code: str
    academic_year: int
    census_on: str
    publication_id: str | None
    no: int | None
    kind: str | None
    published_at: datetime | None
    frozen_at: datetime | None
    subjects: list[str] | None
    state: str | None
    due: datetime | None
    """The instant at which it is meant to be published, where it waits for one."""


class EditionRow(Struct):
    """A row of an edition. `school_id` is None for the trust; `figures` is None where they are hidden."""

    publication_id: str
    school_id: str | None
    year_group: str
    category: str
    schools: int
    figures: dict[str, EditionFigures] | None
    edition: int | None
    """The edition whose figures they are, where it is known."""


class Covered(Struct):
    """What a question covers, where it is answered from editions: the schools and windows of the tenants that publish.

    `others` are the schools whose figures are live, since their tenants have no edition or the caller reads all of them there; `tenants` are all.
    """

    schools: list[CoveredSchool]
    windows: list[CoveredWindow]
    tenants: list[str]
    others: list[str]


_COUNTS = f"'{{{Scope.AGGREGATES_READ.value},{Scope.AGGREGATES_INTERNAL.value}}}'"
_COVERED = f"""
WITH covered AS (
    SELECT s.id, s.tenant_id, s.urn, s.name, bool_or('{Scope.AGGREGATES_INTERNAL.value}' = ANY (r.scopes)) AND $2::boolean AS internal
    FROM reach r JOIN schools s ON s.id = r.school_id AND s.tenant_id = r.tenant_id
    WHERE c.s IS NOT NULL AND r.client_id = $1::uuid AND {IN_FORCE} AND r.scopes && {_COUNTS}
        AND ($3::text[] = '{{}}' OR s.id = ANY ($4::uuid[]) OR s.urn = ANY ($5::integer[]) OR s.status <> 'closed' AND s.laestab = ANY ($3))
        AND ($6::uuid IS NULL AND $7::integer IS NULL OR s.tenant_id = $6 OR EXISTS (
            SELECT 1 FROM memberships m JOIN trusts t ON t.id = m.trust_id WHERE m.school_id = s.id AND (t.id = $6 OR t.group_uid = $7)))
    GROUP BY s.id
), publishing AS (
    SELECT a.tenant_id FROM covered a GROUP BY a.tenant_id HAVING NOT bool_and(a.internal) AND EXISTS (
        SELECT 1 FROM publications p WHERE p.tenant_id = a.tenant_id AND p.published_at IS NOT NULL OFFSET 0)
)
SELECT json_build_object(
    'tenants', (SELECT json_agg(DISTINCT a.tenant_id) FROM covered a),
    'schools', (SELECT json_agg(json_build_object('id', a.id, 'tenant_id', a.tenant_id, 'urn', a.urn, 'name', a.name) ORDER BY a.urn)
        FROM covered a WHERE a.tenant_id IN (SELECT tenant_id FROM publishing)),
    'others', (SELECT COALESCE(json_agg(a.id), '[]') FROM covered a WHERE a.tenant_id NOT IN (SELECT tenant_id FROM publishing)),
    'windows', (SELECT COALESCE(json_agg(json_build_object(
            'tenant_id', w.tenant_id, 'code', w.code, 'academic_year', w.academic_year, 'census_on', w.census_on, 'publication_id', e.id, 'no', e.no,
            'kind', e.kind, 'published_at', e.published_at, 'frozen_at', e.frozen_at, 'subjects', e.subjects, 'state', l.state,
            'due', l.due)), '[]')
        FROM windows w
        LEFT JOIN LATERAL (SELECT p.* FROM publications p WHERE p.tenant_id = w.tenant_id AND p.window_no = w.no AND p.state = 'published'
            ORDER BY p.no DESC LIMIT 1) e ON true
        LEFT JOIN LATERAL (SELECT p.state, (COALESCE(w.closed_at, w.closes_at) + make_interval(days => p.days_after_closing)) AS due
            FROM publications p WHERE p.tenant_id = w.tenant_id AND p.window_no = w.no
            AND (p.published_at IS NOT NULL OR p.state IN ('queued', 'protecting')) ORDER BY p.no DESC LIMIT 1) l ON true
        WHERE w.tenant_id IN (SELECT tenant_id FROM publishing) AND CASE
            WHEN $8::text IS NULL THEN {state_sql("$10::timestamptz")} <> 'planned' ELSE w.code = $8 OR w.id = $9::uuid END)
)::text AS text WHERE EXISTS (SELECT 1 FROM publishing) OFFSET 0
"""
_ROWS = f"""
SELECT COALESCE(json_agg(json_build_object(
    'publication_id', e.publication_id, 'school_id', NULLIF(e.school_id, '{NIL}'), 'year_group', e.year_group, 'category', e.category,
    'schools', cardinality(e.pooled), 'figures', e.figures, 'edition', e.edition)), '[]')::text AS text
FROM edition_rows e WHERE c.s IS NOT NULL AND e.tenant_id = ANY ($2::uuid[]) AND e.publication_id = ANY ($3::uuid[]) AND e.dimension = $4
    AND (e.year_group <> '') = $5 AND e.school_id = ANY ($6::uuid[]) OFFSET 0
"""
_COVERED_SQL, ROWS_SQL = set_caller_first(_COVERED), set_caller_first(_ROWS)
_DIVIDING = Categories._fields


async def find_covered(database: Database, caller: Caller, query: AggregateQuery) -> Covered | None:
    """Returns what a question covers if it is answered from editions, otherwise None.

    It is where a trust of it publishes, and the caller is a reader there or asks as one (view=public).
    """
    named = parse_names(query.school, query.trust)
    is_unknown = bool(query.trust) and named.trust_id is None and named.trust_uid is None
    arguments = (
        caller.client_id,
        Scope.AGGREGATES_INTERNAL in caller.scopes and query.view == "own",
        list(query.school),
        named.school_ids,
        named.urns,
        NIL if is_unknown else named.trust_id,
        named.trust_uid,
        query.window,
        parse_id(query.window or ""),
        clock.read_now(),
    )
    row = await database.read(_COVERED_SQL, *arguments, name="find editions", may_lag=True)
    return None if row is None else msgspec.json.decode(row["text"], type=Covered)


async def read_rows(database: Database, caller: Caller, query: AggregateQuery, covered: Covered) -> list[EditionRow]:
    """Returns the rows of the newest editions that a question covers. Raises Invalid where it asks for what no edition has."""
    _check_question(query, covered)
    by_school = is_by_school(query, covered)
    publications = [UUID(window.publication_id) for window in covered.windows if window.publication_id]
    schools = [UUID(school.id) for school in covered.schools] if by_school else [NIL]
    tenants = sorted({UUID(school.tenant_id) for school in covered.schools})
    arguments = caller.client_id, tenants, publications, find_dividing(query), "yearGroup" in query.group_by, schools
    row: Any = await database.read(ROWS_SQL, *arguments, name="read editions", may_lag=True)
    rows = msgspec.json.decode(row["text"], type=list[EditionRow])
    if not rows and not by_school and publications:
        raise make_invalid([_make_sum_issue("groupBy")])
    return rows


def is_by_school(query: AggregateQuery, covered: Covered) -> bool:
    """Whether rows of schools are read: they are grouped by, or one is named, or no other is within reach."""
    return "school" in query.group_by or bool(query.school) or len(covered.schools) + len(covered.others) == 1


def find_dividing(query: AggregateQuery) -> str:
    """Returns the characteristic that divides pupils, the first of several; empty where none does."""
    return next((name for name in query.group_by if name in _DIVIDING), "")


def _check_question(query: AggregateQuery, covered: Covered) -> None:
    """Raises Conflict where no window has an edition, Invalid with every reason why no edition has such figures."""
    published = [window for window in covered.windows if window.publication_id]
    if covered.windows and not published and not covered.others:
        if all(window.state == "withdrawn" for window in covered.windows):
            raise Conflict("The publication of this window is withdrawn.", code="publication-withdrawn")
        message = "The trust publishes its results, and this window has no edition yet."
        if dues := sorted({window.due for window in covered.windows if window.due}):
            message += f" It is meant to be published on {clock.find_day(dues[0])}."
        raise Conflict(message, code="not-published")
    issues = []
    if sum(name in _DIVIDING for name in query.group_by) > 1:
        message = "Published figures divide pupils by one characteristic at a time."
        issues.append(Issue("groupBy", "grouping-not-published", message))
    if query.crosswalks_on is not None:
        message = "Published figures are frozen with the scales of their day: leave crosswalksOn out."
        issues.append(Issue("crosswalksOn", "grouping-not-published", message))
    if query.as_of is not None:
        issues.append(Issue("asOf", "grouping-not-published", "Published figures are those of their editions: leave asOf out."))
    if query.subject is not None and published and not any(query.subject in (window.subjects or ()) for window in published):
        issues.append(Issue("subject", "subject-not-published", "No edition of this window has the subject."))
    if "school" not in query.group_by and len(query.school) > 1:
        issues.append(_make_sum_issue("school"))
    elif not is_by_school(query, covered) and len(covered.tenants) > 1:
        issues.append(Issue("trust", "trust-required", "Nothing is added up over trusts: name one, or group by school."))
    if issues:
        raise make_invalid(issues)


def _make_sum_issue(at: str) -> Issue:
    message = "Published figures are of one school, or of the trust as a whole for whoever reaches all of it: group by school, or name one."
    return Issue(at, "sum-not-published", message)
