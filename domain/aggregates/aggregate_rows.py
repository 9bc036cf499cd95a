"""Aggregates: results pooled over pupils, for one caller and one question; the same answer in both doors.

A question groups by one to three dimensions; subject and window are each grouped by or filtered to one, since a sum over either would
count pupils again. Percentages are whole, rounded half up, and of *eligible* pupils, as in the performance tables (Department for
Education, "Primary school accountability", technical guidance); a trust's result pools its pupils and is never a mean of its schools'
percentages. An average is over pupils with a counting value that has a number, and null where the numbers come from several schemes:
a scaled score and a percentage have no mean.

Which schools count: those within reach with `aggregates:read` or `aggregates:internal` (which includes the former); with `trust`, those
that were its members on the window's census date, whoever controls their data today. A row that pools a school reached without
`aggregates:internal` may be suppressed (disclosure.py). What a caller sees unsuppressed it can subtract, so that in such a row only the
pupils of the other schools count as protection.

Suppression needs the whole answer, so filters come after it:
- Every subject is counted, whatever `subject` says.
- A school is hidden among the schools of its *population*, whose pooled result can be asked for: the trust it was in on the census date
  or, without one, its local authority. All of the population within reach is counted, whatever `school` says.
- Schools named but not grouped by are pooled from their own rows, and a hidden one hides the sum: asking about some schools tells
  nothing that grouping by school does not.

Beside a `c`, its `reason` is told to nobody who might learn from it. "primary" says that a group counts one to five, "complement" that it
does not: of two hidden rows that are 7 together the one that is primary has 1 and the other 6, and of any two it is told which is
small. Where a label tells nothing new it is already implied by what is shown, and it takes all tables that look the same to know that
(tests/insight/test_labels.py goes through the small ones). So labels are for whoever may see every figure behind the answer, who asks with
`view=public`: the answer precisely as a reader with aggregates:read at the same schools gets it, and why.

`excluded` tells of a school only what its rows in an answer by school and subject tell: a school that has a hidden row there, in a window
and subject asked for, is taken to contribute, judged or not. What a window collects, and who was in a trust when, is told of any school.
"""

import json
from asyncio import to_thread
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, product, starmap
from operator import itemgetter
from typing import Literal

import msgspec
from msgspec import structs

from domain.access.caller import Caller, make_scope_error
from domain.aggregates.cells import AggregateTemplate, compile_aggregate
from domain.aggregates.disclosure import LISTED, EligibleRow, Reason, suppress
from domain.aggregates.query import DIMENSIONS, AggregateQuery
from domain.aggregates.results import AggregateResult, Categories, GroupFacts, GroupKey, PupilCounts, Tally
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import parse_id
from domain.declare.inputs import Output
from domain.declare.scopes import Scope
from domain.read.cursors import Cursors
from domain.roster.years import YEARS
from domain.store.database import Database

_RWM, _IN_RWM = "rwm", ("reading", "writing", "maths")
_CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sex": (("F", "M"), ()),
    "disadvantaged": (("true", "false"), ("unknown",)),
    "eal": (("1", "2", "3"), ("unknown",)),
    "sen": (("N", "K", "E"), ("S", "A", "P", "unknown")),
}
"""Of each dimension that is listed everywhere, the categories in order: those always shown, and those shown where the answer has one."""


Exclusion = Literal["not-a-member", "not-collected", "nobody-eligible", "nothing-judged"]


class AggregateRow(Output, kw_only=True):
    """Results of a group of pupils. The group is told by what was grouped by or filtered to one of; `schools` says how many it pools.

    Counts are pupils; percentages are whole and of the eligible. `status` says why figures are null: c suppressed (all of them),
    z not applicable (nobody eligible), x not available (nothing judged yet). `coveragePercent` is of the eligible, those with a counting
    value. `reason`, told with view=public alone, says why a row is suppressed: primary (a small group) or complement (it would help to give
    a small group away).
    """

    school_id: str | None = None
    school_urn: int | None = None
    school_name: str | None = None
    subject: str | None = None
    window: str | None = None
    academic_year: str | None = None
    year_group: str | None = None
    sex: str | None = None
    disadvantaged: str | None = None
    eal: str | None = None
    sen: str | None = None
    schools: int
    eligible: int | None = None
    valid: int | None = None
    expected: int | None = None
    expected_percent: int | None = None
    higher: int | None = None
    higher_percent: int | None = None
    average: float | None = None
    coverage_percent: int | None = None
    status: Literal["c", "z", "x"] | None = None
    reason: Reason | None = None


class ExcludedSchool(Output, kw_only=True):
    """A school that is asked about and contributes to no row's figures, and the reason, of all windows and subjects asked for.

    not-a-member: it was not in the trust on a census date; not-collected: no window collects such a subject from it; nobody-eligible;
    nothing-judged: somebody is eligible, and no value is there yet. A school suppressed in an answer by school and subject is
    never said to be one of the last two.
    """

    school_id: str
    school_urn: int
    school_name: str
    reason: Exclusion


class Coverage(Output, kw_only=True):
    """How many schools are asked about, and how many are not excluded: those named; or ever of the trust; or, with neither, those within
    reach that have such a window. A school suppressed in an answer by school and subject counts as contributing."""

    schools: int
    contributing: int


class PageInfo(Output, kw_only=True):
    """Whether rows follow, and where they begin."""

    has_more: bool
    end_cursor: str | None


class AggregatePage(Output, kw_only=True, dict=True):
    """A page of rows; what is excluded, and the coverage, are of the whole answer. `cursors`, one a row, are no part of it as JSON: only one
    door shows them."""

    data: list[AggregateRow]
    page: PageInfo
    excluded: list[ExcludedSchool]
    coverage: Coverage

    @property
    def cursors(self) -> list[str]:
        return list(vars(self)["cursors"])


@dataclass
class _Group:
    """Pupils of a kind at a place, and why their figures are hidden, if they are."""

    key: GroupKey
    categories: Categories
    place: GroupFacts
    counts: PupilCounts
    hidden: Reason | None = None

    @property
    def status(self) -> Literal["c", "z", "x"] | None:
        if self.hidden:
            return "c"
        if not self.counts.eligible:
            return "z"
        return None if self.counts.valid or self.counts.judged else "x"

    def values(self, dimensions: tuple[str, ...]) -> tuple[Hashable, ...]:
        """Of these dimensions, in their order."""
        school, subject, window, academic_year, year_group = self.key
        known = {"school": school, "subject": subject, "window": (window, academic_year), "yearGroup": year_group}
        every: Mapping[str, Hashable] = known | self.categories._asdict()
        return tuple(every[name] for name in dimensions)


async def read_aggregates(database: Database, caller: Caller, cursors: Cursors, question: AggregateQuery) -> AggregatePage:
    """The page asked for, by one data statement.

    Raises Forbidden without either scope, or for a public view of what the caller may not see whole; Invalid naming every parameter that
    is for nothing within reach; BadRequest for a cursor of another question.
    """
    if caller.scopes.isdisjoint((Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL)):
        raise make_scope_error({"aggregates": f"{Scope.AGGREGATES_READ} or {Scope.AGGREGATES_INTERNAL}"})
    if question.view == "public":
        caller.require_scope(Scope.AGGREGATES_INTERNAL, "view=public")
    after = None if question.after is None else cursors.decrypt_position(question.after, caller.client_id, question.fingerprint)
    pooled = await _read(database, caller, question)
    # hiding among hundreds of schools takes seconds of arithmetic; other requests go on meanwhile
    return await to_thread(
        _make_page, question, pooled, after, lambda place: cursors.encrypt_position(place, caller.client_id, question.fingerprint)
    )


def _make_page(
    question: AggregateQuery, pooled: AggregateResult, after: tuple[str | None, ...] | None, seal: Callable[[bytes], str]
) -> AggregatePage:
    schools = _resolve_schools(question, pooled)
    by_school = "school" in question.group_by or bool(question.school)
    dimensions = tuple(name for name in DIMENSIONS if name in ("subject", "window", *question.group_by, *(["school"] * by_school)))
    groups = _suppress(question, pooled, pooled.groups, dimensions)
    of_schools = groups
    if pooled.by_school is not None:
        of_schools = _suppress(question, pooled, pooled.by_school, ("school", "subject", "window"))
    excluded = list(_list_excluded(question, pooled, of_schools))
    if question.subject is not None:
        groups = [group for group in groups if group.key.subject == question.subject]
    if question.school:
        groups = [group for group in groups if group.key.school in schools]
        if "school" not in question.group_by and len(schools) > 1:
            groups = _pool_schools(groups)
    shown, info, cursors = _cut_page(groups, question, after, seal)
    rows = [_row(group, question.view == "public") for group in shown]
    coverage = Coverage(schools=len(pooled.schools), contributing=len(pooled.schools) - len(excluded))
    page = AggregatePage(data=rows, page=info, excluded=excluded, coverage=coverage)
    vars(page)["cursors"] = cursors
    return page


async def _read(database: Database, caller: Caller, question: AggregateQuery) -> AggregateResult:
    listed = LISTED.intersection(question.group_by)
    by_school, by_year_group = "school" in question.group_by or bool(question.school), "yearGroup" in question.group_by
    shape = AggregateTemplate(
        by_school, by_year_group, listed, question.window is not None, question.trust is not None, bool(question.school)
    )
    values = {
        "caller": caller.client_id,
        "internal": Scope.AGGREGATES_INTERNAL in caller.scopes,
        "subject": question.subject,
        "window": question.window,
        "window_id": parse_id(question.window or ""),
        "trust_id": parse_id(question.trust or ""),
        "trust_uid": _parse_number(question.trust or ""),
        "school_ids": [id_ for school in question.school if (id_ := parse_id(school))],
        "urns": [urn for school in question.school if (urn := _parse_number(school))],
    }
    (text,) = await compile_aggregate(shape).run(database, values)
    return msgspec.json.decode(text, type=AggregateResult)


def _parse_number(text: str) -> int | None:
    """A URN or GIAS group UID."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _resolve_schools(question: AggregateQuery, pooled: AggregateResult) -> set[str]:
    """The ids of the schools named; Invalid for each name of nothing within reach: absent and out of reach are the same."""
    ids = {name: school.id for school in pooled.schools for name in (school.id, str(school.urn))}
    known = {"window": pooled.window, "subject": question.subject is None or pooled.subject, "trust": pooled.trust}
    missing = [name for name, found in known.items() if not found]
    missing += ["school" for school in question.school if school not in ids]
    if missing:
        message = "There is no such {} within the reach of this client's aggregates."
        raise make_invalid([Issue(name, f"{name}-not-found", message.format(name)) for name in missing])
    return {ids[school] for school in question.school}


def _suppress(question: AggregateQuery, pooled: AggregateResult, tally: Tally, dimensions: tuple[str, ...]) -> list[_Group]:
    """The groups of a whole answer, as they are told to whom they are told."""
    groups = _add_empty_groups(pooled, tally, [name for name in dimensions if name in LISTED])
    _judge_combined(groups)
    if question.view == "public":
        if not all(group.place.internal for group in groups):
            needed = f"{Scope.AGGREGATES_INTERNAL} at every school counted, those included among which a school is hidden"
            raise make_scope_error({"view=public": needed})
        for group in groups:
            group.place.internal, group.counts.guarded = False, group.counts.eligible
    _hide(groups, dimensions)
    return groups


def _add_empty_groups(pooled: AggregateResult, tally: Tally, listed: list[str]) -> list[_Group]:
    """The groups, with the empty ones of every category that is listed."""
    places, parts = pooled.pool(tally)
    axes: list[Iterable[str | None]] = []
    for name in Categories._fields:
        always, sometimes = _CATEGORIES[name]
        present = {getattr(categories, name) for _, categories in parts}
        axes.append((*always, *(category for category in sometimes if category in present)) if name in listed else (None,))
    kinds = list(starmap(Categories, product(*axes)))
    return [_Group(key, kind, place, parts.get((key, kind)) or PupilCounts()) for key, place in places.items() for kind in kinds]


def _judge_combined(groups: list[_Group]) -> None:
    """Reading, writing and maths combined is judged where all three are: with one outstanding, nobody can have reached the standard yet."""
    judged = {(group.key, group.categories) for group in groups if group.counts.judged}
    for group in groups:
        if group.key.subject == _RWM:
            group.counts.judged = all((group.key._replace(subject=part), group.categories) in judged for part in _IN_RWM)


def _hide(groups: list[_Group], dimensions: tuple[str, ...]) -> None:
    """Suppress in each population; what the caller reaches with aggregates:internal is neither hidden nor a hiding place."""
    populations: defaultdict[str | None, list[_Group]] = defaultdict(list)
    for group in groups:
        if not group.place.internal:
            populations[group.place.population].append(group)
    for population in populations.values():
        counts = [EligibleRow(group.values(dimensions), group.counts.guarded) for group in population]
        threshold = max(group.place.threshold for group in population)
        for group, reason in zip(population, suppress(counts, dimensions, threshold), strict=True):
            group.hidden = reason


def _list_excluded(question: AggregateQuery, pooled: AggregateResult, groups: list[_Group]) -> Iterable[ExcludedSchool]:
    """By URN; `groups` are by school, subject and window."""
    statuses: defaultdict[str | None, set[str | None]] = defaultdict(set)
    for group in groups:
        if question.subject in (None, group.key.subject):
            statuses[group.key.school].add(group.status)
    collected = pooled.collected()
    parts = set(_IN_RWM if question.subject == _RWM else [question.subject] if question.subject else [])
    for school in sorted(pooled.schools, key=lambda school: school.urn):
        found = statuses[school.id]
        if found & {None, "c"}:
            continue
        reason: Exclusion = "not-collected"
        if school.joined_elsewhen:
            reason = "not-a-member"
        elif "x" in found:
            reason = "nothing-judged"
        elif found or any(parts <= codes for codes in collected[school.id]):
            reason = "nobody-eligible"
        yield ExcludedSchool(school_id=school.id, school_urn=school.urn, school_name=school.name, reason=reason)


def _pool_schools(groups: list[_Group]) -> list[_Group]:
    """The schools' groups added up; a hidden one hides the sum, which would give it away."""
    pooled: dict[tuple[GroupKey, Categories], _Group] = {}
    for group in groups:
        key = group.key._replace(school=None)
        whole = pooled.get((key, group.categories))
        if whole is None:
            pooled[key, group.categories] = replace(group, key=key, place=structs.replace(group.place, urn=None, name=None))
        else:
            whole.place, whole.counts = whole.place + group.place, whole.counts + group.counts
            whole.hidden = "complement" if whole.hidden or group.hidden else None
    return list(pooled.values())


def _cut_page(
    groups: list[_Group], question: AggregateQuery, after: tuple[str | None, ...] | None, seal: Callable[[bytes], str]
) -> tuple[list[_Group], PageInfo, list[str]]:
    """The groups of a page in the order of the dimensions grouped by, and their cursors: a cursor is a place in that order."""
    order = _order(groups, tuple(dict.fromkeys((*question.group_by, "subject", "window"))))
    placed = sorted(((order(group), group) for group in groups), key=itemgetter(0))
    start = 0 if after is None else bisect_right(placed, after, key=itemgetter(0))
    shown = placed[start:] if question.first is None else placed[start : start + question.first]
    sealed = [seal(json.dumps(place).encode()) for place, _ in shown]
    info = PageInfo(has_more=start + len(shown) < len(placed), end_cursor=sealed[-1] if sealed else None)
    return [group for _, group in shown], info, sealed


def _order(groups: list[_Group], dimensions: tuple[str, ...]) -> Callable[[_Group], tuple[str, ...]]:
    """Schools by URN, subjects as their tenant numbers them, windows by census date, year groups by age; as text, to stand in a cursor."""
    numbers: dict[str, int] = {}
    dates: dict[tuple[str, str], str] = {}
    for key, place in ((group.key, group.place) for group in groups):
        window = key.window, key.academic_year
        numbers[key.subject] = min(place.order, numbers.get(key.subject, place.order))
        dates[window] = min(place.census_on, dates.get(window, place.census_on))

    def place_of(group: _Group, dimension: str) -> tuple[str, ...]:
        key = group.key
        match dimension:
            case "school":
                return (f"{group.place.urn:06}",)
            case "subject":
                return f"{numbers[key.subject]:05}", key.subject
            case "window":
                return dates[key.window, key.academic_year], key.window, key.academic_year
            case "yearGroup":
                return (f"{YEARS.index(key.year_group or ''):02}",)
        always, sometimes = _CATEGORIES[dimension]
        return (str((always + sometimes).index(getattr(group.categories, dimension))),)

    return lambda group: tuple(chain.from_iterable(place_of(group, dimension) for dimension in dimensions))


def _row(group: _Group, with_reason: bool) -> AggregateRow:
    key, place, counts = group.key, group.place, group.counts
    row = AggregateRow(
        school_id=key.school,
        school_urn=place.urn,
        school_name=place.name,
        subject=key.subject,
        window=key.window,
        academic_year=key.academic_year,
        year_group=key.year_group,
        schools=place.schools,
        **group.categories._asdict(),
    )
    row.status = group.status
    if group.hidden:
        row.reason = group.hidden if with_reason else None
        return row
    row.eligible, row.valid = counts.eligible, counts.valid
    if counts.eligible:
        row.coverage_percent = percent(counts.valid, counts.eligible)
    if row.status is None:
        row.expected, row.expected_percent = counts.expected, percent(counts.expected, counts.eligible)
        row.higher, row.higher_percent = counts.higher, percent(counts.higher, counts.eligible)
        if counts.valued and len(counts.schemes) <= 1:
            row.average = average(counts.hundredths, counts.valued)
    return row


def percent(number: int, of: int) -> int:
    """A whole percentage, rounded half up."""
    return (200 * number + of) // (2 * of)


def average(hundredths: int, of: int) -> float:
    """The mean of values whose sum is given in hundredths, to one decimal, rounded half up."""
    return (hundredths + 5 * of) // (10 * of) / 10
