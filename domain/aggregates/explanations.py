"""Explains one figure of aggregates: the same row, read as any other, beside the pupils that it adds up, one by one.

A function of the database lists the counted pupils as its owner, at schools where the caller holds aggregates:internal; it names them where the caller
also reads pupils and judgements. Their outcomes are decided here by the rules of `measure_counted_conjunctions`, of which a subject alone is a conjunction
with one part.
"""

import json
from asyncio import to_thread
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import msgspec

from domain.access.caller import Caller, make_scope_error
from domain.access.reach import IN_FORCE, set_caller_first
from domain.aggregates.aggregate_rows import AggregatePage, AggregateRow
from domain.aggregates.aggregates import read_aggregates
from domain.aggregates.dimensions import FILTERS
from domain.aggregates.edition_groups import list_editions, list_unpublished
from domain.aggregates.editions import find_covered
from domain.aggregates.explanation_query import ExplanationQuery
from domain.aggregates.explanation_rows import (
    AggregateExplanation,
    ExplainedPupil,
    ExplainedScheme,
    ExplainedSchool,
    ExplainedValue,
    Outcome,
    OutcomeCount,
)
from domain.aggregates.transition_rows import TransitionPageInfo
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.read.cursors import Cursors
from domain.store.database import Database
from domain.support import clock

_PUPILS_READ = (Scope.PUPILS_READ, Scope.JUDGEMENTS_READ)
_LIST = set_caller_first(f"""
    WITH reached AS MATERIALIZED (
        SELECT r.tenant_id, r.school_id, bool_or('{Scope.AGGREGATES_INTERNAL}' = ANY (r.scopes)) AS internal,
            bool_or('{Scope.PUPILS_READ}' = ANY (r.scopes)) AND bool_or('{Scope.JUDGEMENTS_READ}' = ANY (r.scopes)) AND $7::boolean AS lists
        FROM reach r WHERE r.client_id = $1 AND r.school_id = ANY ($2::uuid[]) AND {IN_FORCE} GROUP BY 1, 2
    ), asked AS MATERIALIZED (
        SELECT w.tenant_id, w.no, s.no AS subject_no, s.least_weight, array_agg(q.school_id) AS schools,
            (SELECT array_agg(c.part_no) FROM list_conjunctions(w.tenant_id) c WHERE c.subject_no = s.no) AS parts
        FROM windows w JOIN subjects s ON s.tenant_id = w.tenant_id AND s.code = $5 JOIN reached q ON q.tenant_id = w.tenant_id AND q.internal
        WHERE w.tenant_id IN (SELECT tenant_id FROM reached) AND (w.code = $3 OR w.id = $4)
        GROUP BY w.tenant_id, w.no, s.no, s.least_weight
    ), pupils AS MATERIALIZED (
        SELECT a.tenant_id, p.* FROM asked a
        CROSS JOIN LATERAL list_counted_pupils(a.tenant_id, a.no, a.schools, COALESCE(a.parts, ARRAY[a.subject_no]), $6::date, $7) p
    ), versions AS (
        SELECT DISTINCT p.tenant_id, p.scheme_version_no FROM pupils p
    )
    SELECT json_build_object(
        'schools', (SELECT COALESCE(json_agg(json_build_array(q.school_id, q.internal, q.lists)), '[]') FROM reached q),
        'parts', (SELECT COALESCE(json_agg(json_build_array(a.tenant_id, c.part_no, c.slot, c.threshold, c.higher_threshold, c.weight, c.required,
            COALESCE(a.least_weight, 1))), '[]') FROM asked a CROSS JOIN LATERAL list_conjunctions(a.tenant_id) c WHERE c.subject_no = a.subject_no),
        'subjects', (SELECT COALESCE(json_agg(json_build_array(s.tenant_id, s.no, s.code)), '[]') FROM subjects s
            WHERE s.tenant_id IN (SELECT tenant_id FROM asked)),
        'versions', (SELECT COALESCE(json_agg(json_build_array(v.tenant_id, v.no, m.code, v.version, k.id, k.from_on, k.signed_by)), '[]')
            FROM versions u JOIN scheme_versions v ON v.tenant_id = u.tenant_id AND v.no = u.scheme_version_no
            JOIN schemes m ON m.tenant_id = v.tenant_id AND m.id = v.scheme_id
            LEFT JOIN LATERAL (SELECT c.id, c.from_on, c.signed_by FROM crosswalks c WHERE c.tenant_id = v.tenant_id AND c.scheme_version_no = v.no
                AND c.from_on <= $6 AND find_scale(v.tenant_id, $6) IS NOT NULL
                ORDER BY c.from_on DESC, COALESCE(c.first_signed_at, c.signed_at) DESC LIMIT 1) k ON true),
        'rows', (SELECT COALESCE(json_agg(json_build_array(p.tenant_id, p.school_id, p.pupil_no, p.pupil_id, p.apart, p.year_group, p.sex, p.disadvantaged,
            p.eal, p.sen, p.subject_no, p.scheme_version_no, p.grade, p.status, p.grade_no > 0, p.eligible, p.valid, p.band, p.expected, p.higher,
            p.has_expected, p.has_higher)), '[]') FROM pupils p)
    )::text AS found WHERE c.s IS NOT NULL OFFSET 0
""")


class _Part(msgspec.Struct, array_like=True):
    """A subject of a conjunction, as `list_conjunctions` has it."""

    tenant: str
    subject_no: int
    slot: int
    threshold: str
    higher_threshold: str | None
    weight: int
    required: bool
    least_weight: int


class _Version(msgspec.Struct, array_like=True):
    tenant: str
    no: int
    scheme: str
    version: int
    crosswalk_id: str | None
    crosswalk_from: str | None
    signed_by: str | None


class _Row(msgspec.Struct, array_like=True):
    """A pupil in a subject, as `list_counted_pupils` has it."""

    tenant: str
    school: str
    pupil_no: int
    pupil: str | None
    apart: bool
    year_group: str | None
    sex: str | None
    disadvantaged: str | None
    eal: str | None
    sen: str | None
    subject_no: int
    version_no: int | None
    grade: str | None
    status: str | None
    judged: bool
    eligible: bool
    valid: bool
    band: str | None
    expected: bool | None
    higher: bool | None
    has_expected: bool
    has_higher: bool


class _Found(msgspec.Struct):
    schools: list[tuple[str, bool, bool]]
    parts: list[_Part]
    subjects: list[tuple[str, int, str]]
    versions: list[_Version]
    rows: list[_Row]


@dataclass(frozen=True)
class _Pupil:
    """A pupil of the group, with its rows and what became of it."""

    rows: list[_Row]
    outcome: Outcome


async def read_explanation(database: Database, caller: Caller, cursors: Cursors, query: ExplanationQuery) -> AggregateExplanation:
    """Returns where one figure comes from.

    Raises Forbidden without aggregates:internal, or where it is not held at every school that counts; Invalid where nobody is of the group, and what
    `read_aggregates` raises; BadRequest for a cursor of another query.
    """
    caller.require_scope(Scope.AGGREGATES_INTERNAL, "explain")
    after = None if query.after is None else cursors.decrypt_position(query.after, caller.client_id, query.fingerprint)
    question = replace(query.question, crosswalks_on=query.question.crosswalks_on or clock.read_today())
    page = await read_aggregates(database, caller, cursors, question)
    by_school = await read_aggregates(database, caller, cursors, replace(question, group_by=("school", *query.values)))
    figures = _find_row(page, query.values)
    schools = {row.school_id: row for row in by_school.data if row.school_id and _is_of(row, query.values)}
    ids = [parse_id(id_) for id_ in schools]
    with_pupils = all(scope in caller.scopes for scope in _PUPILS_READ)
    arguments = (
        caller.client_id,
        ids,
        question.window,
        parse_id(question.window or ""),
        question.subject,
        question.crosswalks_on,
        with_pupils,
    )
    row: Any = await database.read(_LIST, *arguments, name="explain aggregates")
    found = msgspec.json.decode(row["found"], type=_Found) if row is not None else _Found([], [], [], [], [])
    if {id_ for id_, is_internal, _ in found.schools if is_internal} != set(schools):
        required = f"{Scope.AGGREGATES_INTERNAL} at every school counted"
        raise make_scope_error({"explain": required})
    covered = await find_covered(database, caller, replace(question, view="public"))

    def encrypt(position: tuple[str, ...]) -> str:
        return cursors.encrypt_position(json.dumps(position).encode(), caller.client_id, query.fingerprint)

    pupils = await to_thread(_decide_outcomes, found, query.values)
    listed = sorted(
        (((_sort_school(schools, each), each.rows[0].pupil or ""), each) for each in pupils if each.rows[0].pupil),
        key=lambda pair: pair[0],
    )
    start = 0 if after is None else bisect_right(listed, (str(after[0]), str(after[1])), key=lambda pair: pair[0])
    cut = listed[start : start + query.first]
    info = TransitionPageInfo(has_more=start + len(cut) < len(listed), end_cursor=encrypt(cut[-1][0]) if cut else None)
    names = _Names(found)
    explanation = AggregateExplanation(
        figures=figures,
        basis=page.basis,
        outcomes=_count_outcomes(pupils),
        schools=_explain_schools(schools.values(), pupils, names, {id_ for id_, _, lists in found.schools if lists}),
        excluded=page.excluded,
        coverage=page.coverage,
        editions=list_editions(covered) if covered else [],
        unpublished=list_unpublished(covered) if covered else [],
        data=[names.explain_pupil(each) for _, each in cut],
        unlisted=len(pupils) - len(listed),
        page=info,
    )
    vars(explanation)["groups_read"] = page.groups
    return explanation


def _sort_school(schools: dict[str, AggregateRow], pupil: _Pupil) -> str:
    return f"{schools[pupil.rows[0].school].school_urn or 0:07}"


def _is_of(row: AggregateRow | _Row, values: dict[str, str]) -> bool:
    return all(getattr(row, FILTERS[name]) == value for name, value in values.items())


def _find_row(page: AggregatePage, values: dict[str, str]) -> AggregateRow:
    """Returns the row of the group. Raises Invalid where nobody is of it."""
    rows = [row for row in page.data if _is_of(row, values)]
    if not rows:
        at = next(iter(values), "window")
        raise make_invalid([Issue(at, "group-empty", "Nobody is counted in this window, subject and group.")])
    return rows[0]


def _decide_outcomes(found: _Found, values: dict[str, str]) -> list[_Pupil]:
    """Returns the pupils of the group with their outcomes. Who lacks a subject that a conjunction needs is counted by nothing, and left out."""
    parts: defaultdict[str, dict[int, _Part]] = defaultdict(dict)
    for part in found.parts:
        parts[part.tenant][part.subject_no] = part
    alone = _Part("", 0, 1, "expected", "higher", 1, True, 1)
    rows_of: defaultdict[tuple[str, str, int], list[_Row]] = defaultdict(list)
    apart: defaultdict[tuple[str, str, int], list[_Row]] = defaultdict(list)
    for row in found.rows:
        key = row.tenant, row.school, row.pupil_no
        if not _is_of(row, values):
            continue
        if row.apart:
            apart[key].append(row)
        else:
            rows_of[key].append(row)
    pupils = []
    for key, rows in rows_of.items():
        of_tenant = parts.get(key[0])
        judged = [(of_tenant[row.subject_no] if of_tenant else alone, row) for row in rows]
        needed = {part.slot for part in of_tenant.values() if part.required} if of_tenant else {1}
        if needed <= {part.slot for part, _ in judged}:
            alike = [(of_tenant[row.subject_no] if of_tenant else alone, row) for row in apart.get(key, ())]
            is_discounted = bool(alike) and _decide(alike) != "not-eligible"
            pupils.append(_Pupil(rows, "discounted" if is_discounted else _decide(judged)))
    return pupils


def _decide(judged: Sequence[tuple[_Part, _Row]]) -> Outcome:
    """Returns the outcome of a pupil in a conjunction, of whose slots the best part counts; a subject alone has one slot."""
    slots: defaultdict[int, list[tuple[_Part, _Row]]] = defaultdict(list)
    for part, row in judged:
        slots[part.slot].append((part, row))
    least = judged[0][0].least_weight

    def reaches(flags: dict[int, bool]) -> bool:
        required = all(flags[slot] for slot, parts in slots.items() if any(part.required for part, _ in parts))
        return required and sum(max(part.weight for part, _ in parts) for slot, parts in slots.items() if flags[slot]) >= least

    eligible = {slot: any(row.eligible for _, row in parts) for slot, parts in slots.items()}
    if not any(eligible.values()) or not all(
        eligible[slot] for slot, parts in slots.items() if any(part.required for part, _ in parts)
    ):
        return "not-eligible"
    if not reaches({slot: any(row.valid for _, row in parts) for slot, parts in slots.items()}):
        return "no-value"
    outcomes: dict[bool, bool | None] = {}
    for is_higher in (False, True):
        places = {slot: [_place(part, row, is_higher=is_higher) for part, row in parts] for slot, parts in slots.items()}
        is_placed = all(placed for of_slot in places.values() for placed, _ in of_slot)
        outcomes[is_higher] = (
            reaches({slot: any(is_reached for _, is_reached in each) for slot, each in places.items()}) if is_placed else None
        )
    if outcomes[False] is None and outcomes[True] is None:
        return "no-place"
    if outcomes[True]:
        return "higher"
    return "expected" if outcomes[False] else "below-expected"


def _place(part: _Part, row: _Row, *, is_higher: bool) -> tuple[bool, bool]:
    """Returns whether a value has a place by the standard that the part has for the expected or the higher one, and whether it reaches it."""
    threshold = part.higher_threshold if is_higher else part.threshold
    if threshold is None:
        return False, False
    reached, has_place = (row.higher, row.has_higher) if threshold == "higher" else (row.expected, row.has_expected)
    return (reached is not None if row.valid else has_place), bool(reached)


_OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def _count_outcomes(pupils: Iterable[_Pupil]) -> list[OutcomeCount]:
    counts = Counter(pupil.outcome for pupil in pupils)
    return [OutcomeCount(outcome=outcome, pupils=counts[outcome]) for outcome in _OUTCOMES if counts[outcome]]


class _Names:
    """The codes of subjects and schemes, by tenant and number."""

    def __init__(self, found: _Found) -> None:
        self.subjects = {(tenant, no): code for tenant, no, code in found.subjects}
        self.versions = {(version.tenant, version.no): version for version in found.versions}

    def explain_pupil(self, pupil: _Pupil) -> ExplainedPupil:
        first = pupil.rows[0]
        values = []
        for row in sorted(pupil.rows, key=lambda row: row.subject_no):
            version = self.versions[row.tenant, row.version_no or 0]
            subject = self.subjects[row.tenant, row.subject_no]
            value = ExplainedValue(
                subject=subject, scheme=version.scheme, version=version.version, grade=row.grade, status=row.status, band=row.band
            )
            values.append(value)
        return ExplainedPupil(pupil_id=first.pupil or "", school_id=first.school, outcome=pupil.outcome, values=values)


def _explain_schools(
    rows: Iterable[AggregateRow], pupils: Iterable[_Pupil], names: _Names, listing: set[str]
) -> list[ExplainedSchool]:
    of_school: defaultdict[str, list[_Pupil]] = defaultdict(list)
    for pupil in pupils:
        of_school[pupil.rows[0].school].append(pupil)
    explained = []
    for row in sorted(rows, key=lambda row: row.school_urn or 0):
        there = of_school[row.school_id or ""]
        counts = Counter((each.tenant, each.subject_no, each.version_no or 0) for pupil in there for each in pupil.rows)
        schemes = []
        for (tenant, subject_no, version_no), number in sorted(counts.items()):
            version = names.versions[tenant, version_no]
            scheme = ExplainedScheme(
                subject=names.subjects[tenant, subject_no],
                scheme=version.scheme,
                version=version.version,
                crosswalk_id=version.crosswalk_id,
                crosswalk_from=version.crosswalk_from,
                signed_by=version.signed_by,
                pupils=number,
            )
            schemes.append(scheme)
        school = ExplainedSchool(
            school_id=row.school_id or "",
            school_urn=row.school_urn or 0,
            school_name=row.school_name or "",
            outcomes=_count_outcomes(there),
            schemes=schemes,
            lists_pupils=row.school_id in listing,
        )
        explained.append(school)
    return explained
