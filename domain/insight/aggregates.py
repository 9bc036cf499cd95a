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

from domain.engine.access import Caller, Scope, scope_missing
from domain.engine.command import Output
from domain.engine.cursor import Cursors
from domain.engine.database import Database
from domain.engine.errors import BadRequest, Invalid, Issue, invalid
from domain.engine.ids import parse_id
from domain.engine.resource import closest
from domain.insight.cells import Categories, Counts, Key, Place, Pooled, Shape, plan
from domain.insight.disclosure import LISTED, Count, suppress
from domain.roster.years import YEARS

DIMENSIONS = ("school", "subject", "window", "yearGroup", "sex", "disadvantaged", "eal", "sen")
PARAMETERS = ("groupBy", "window", "subject", "trust", "school", "first", "after")
MOST_DIMENSIONS, MOST_SCHOOLS, FIRST, MOST_FIRST = 3, 200, 100, 1000

_PERSONAL = ("teacher", "teachers", "class", "classes", "group", "groups", "actor", "actors")
_RWM, _IN_RWM = "rwm", ("reading", "writing", "maths")
_CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sex": (("F", "M"), ()),
    "disadvantaged": (("true", "false"), ("unknown",)),
    "eal": (("1", "2", "3"), ("unknown",)),
    "sen": (("N", "K", "E"), ("S", "A", "P", "unknown")),
}
"""Of each dimension that is listed everywhere, the categories in order: those always shown, and those shown where the answer has one."""


@dataclass(frozen=True)
class Question:
    """What is asked, as checked: `window` is a code or id, `trust` an id or GIAS group UID, a `school` an id or URN."""

    group_by: tuple[str, ...]
    window: str | None = None
    subject: str | None = None
    trust: str | None = None
    school: tuple[str, ...] = ()
    first: int = FIRST
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to, beside the client."""
        return repr(("aggregates", self.group_by, self.window, self.subject, self.trust, sorted(self.school)))


class AggregateRow(Output, kw_only=True):
    """Results of a group of pupils. The group is told by what was grouped by or filtered to one of; `schools` says how many it pools.

    Counts are pupils; percentages are whole and of the eligible. `status` says why figures are null: c suppressed (all of them),
    z not applicable (nobody eligible), x not available (nothing judged yet).
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
    status: Literal["c", "z", "x"] | None = None


class PageInfo(Output, kw_only=True):
    """Whether rows follow, and where they begin."""

    has_more: bool
    end_cursor: str | None


class AggregatePage(Output, kw_only=True, dict=True):
    """A page of rows. `cursors`, one a row, are no part of it as JSON: only one door shows them."""

    data: list[AggregateRow]
    page: PageInfo

    @property
    def cursors(self) -> list[str]:
        return list(vars(self)["cursors"])


def read_question(pairs: Iterable[tuple[str, str]]) -> Question:
    """The question of named texts, as in a query string; `groupBy` may hold several names, with commas, and repeat, `school` may repeat.

    Raises BadRequest with everything that is wrong, or Invalid where it groups by whoever taught the pupils.
    """
    given: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        given[name].append(value)
    group_by = [name for value in given["groupBy"] for name in value.split(",")]
    issues = list(_issues(given, group_by))
    if any(issue.code == "teacher-comparison-not-supported" for issue in issues):
        raise Invalid("Results are not compared by teacher.", code="teacher-comparison-not-supported", issues=tuple(issues))
    if issues:
        noun = "parameter" if len(issues) == 1 else "parameters"
        raise BadRequest(f"{len(issues)} {noun} cannot be read.", code="parameter-invalid", issues=tuple(issues))
    single = {name: given[name][0] for name in ("window", "subject", "trust", "after") if given[name]}
    return Question(
        tuple(group_by), school=tuple(given["school"]), first=int(given["first"][0]) if given["first"] else FIRST, **single
    )


def _issues(given: dict[str, list[str]], group_by: list[str]) -> Iterable[Issue]:
    for name, values in given.items():
        if name not in PARAMETERS:
            yield Issue(name, "parameter-unknown", f"There is no parameter {name} here.{closest(name, PARAMETERS)}")
        elif len(values) > 1 and name not in ("groupBy", "school"):
            yield Issue(name, "parameter-repeated", f"{name} stands more than once.")
        elif any(not value.isprintable() for value in values):
            yield Issue(name, "parameter-invalid", f"{name} holds a character that cannot be in it.")
    for name in dict.fromkeys(group_by):
        if name.lower() in _PERSONAL:
            reason = "Results are not compared by teacher: pay and appraisal must not hang on them."
            yield Issue("groupBy", "teacher-comparison-not-supported", reason)
        elif name not in DIMENSIONS:
            message = f"There is no dimension {name}.{closest(name, DIMENSIONS)} There are: {', '.join(DIMENSIONS)}."
            yield Issue("groupBy", "dimension-unknown", message)
        elif group_by.count(name) > 1:
            yield Issue("groupBy", "dimension-repeated", f"{name} stands more than once.")
    if not 1 <= len(group_by) <= MOST_DIMENSIONS:
        yield Issue("groupBy", "dimensions-count", f"Group by one to {MOST_DIMENSIONS} dimensions.")
    for name in ("subject", "window"):
        if name not in group_by and not given.get(name):
            yield Issue(name, f"{name}-required", f"Group by {name} or give one: pupils would be counted several times.")
    if len(given.get("school", ())) > MOST_SCHOOLS:
        yield Issue("school", "too-many-schools", f"Name at most {MOST_SCHOOLS} schools, or a trust, or none.")
    for first in given.get("first", ()):
        if not (first.isascii() and first.isdigit() and len(first) < 6 and 1 <= int(first) <= MOST_FIRST):
            yield Issue("first", "parameter-invalid", f"first is a whole number from 1 to {MOST_FIRST}.")


@dataclass
class _Group:
    """Pupils of a kind at a place, and whether their figures are hidden."""

    key: Key
    categories: Categories
    place: Place
    counts: Counts
    hidden: bool = False

    def values(self, dimensions: tuple[str, ...]) -> tuple[Hashable, ...]:
        """Of these dimensions, in their order."""
        school, subject, window, academic_year, year_group = self.key
        known = {"school": school, "subject": subject, "window": (window, academic_year), "yearGroup": year_group}
        every: Mapping[str, Hashable] = known | self.categories._asdict()
        return tuple(every[name] for name in dimensions)


async def aggregate(database: Database, caller: Caller, cursors: Cursors, question: Question) -> AggregatePage:
    """The page asked for, by one data statement.

    Raises Forbidden without either scope, Invalid naming every parameter that is for nothing within reach, BadRequest for a cursor of
    another question.
    """
    if caller.scopes.isdisjoint((Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL)):
        raise scope_missing({"aggregates": f"{Scope.AGGREGATES_READ} or {Scope.AGGREGATES_INTERNAL}"})
    after = None if question.after is None else cursors.open(question.after, caller.client_id, question.fingerprint)
    pooled = await _read(database, caller, question)
    # hiding among hundreds of schools takes seconds of arithmetic; other requests go on meanwhile
    return await to_thread(
        _answer, question, pooled, after, lambda place: cursors.seal(place, caller.client_id, question.fingerprint)
    )


def _answer(
    question: Question, pooled: Pooled, after: tuple[str | None, ...] | None, seal: Callable[[bytes], str]
) -> AggregatePage:
    schools = _resolved(question, pooled)
    by_school = "school" in question.group_by or bool(question.school)
    dimensions = tuple(name for name in DIMENSIONS if name in ("subject", "window", *question.group_by, *(["school"] * by_school)))
    groups = _complete(pooled, [name for name in dimensions if name in LISTED])
    _judge_combined(groups)
    _hide(groups, dimensions)
    if question.subject is not None:
        groups = [group for group in groups if group.key.subject == question.subject]
    if question.school:
        groups = [group for group in groups if group.key.school in schools]
        if "school" not in question.group_by and len(schools) > 1:
            groups = _pool_schools(groups)
    return _page(groups, question, after, seal)


async def _read(database: Database, caller: Caller, question: Question) -> Pooled:
    listed = LISTED.intersection(question.group_by)
    by_school, by_year_group = "school" in question.group_by or bool(question.school), "yearGroup" in question.group_by
    shape = Shape(by_school, by_year_group, listed, question.window is not None, question.trust is not None, bool(question.school))
    values = {
        "caller": caller.client_id,
        "internal": Scope.AGGREGATES_INTERNAL in caller.scopes,
        "subject": question.subject,
        "window": question.window,
        "window_id": parse_id(question.window or ""),
        "trust_id": parse_id(question.trust or ""),
        "trust_uid": _number(question.trust or ""),
        "school_ids": [id_ for school in question.school if (id_ := parse_id(school))],
        "urns": [urn for school in question.school if (urn := _number(school))],
    }
    (text,) = await plan(shape).run(database, values)
    return msgspec.json.decode(text, type=Pooled)


def _number(text: str) -> int | None:
    """A URN or GIAS group UID."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _resolved(question: Question, pooled: Pooled) -> set[str]:
    """The ids of the schools named; Invalid for each name of nothing within reach: absent and out of reach are the same."""
    ids = {name: id_ for id_, urn in pooled.schools for name in (id_, str(urn))}
    known = {"window": pooled.window, "subject": question.subject is None or pooled.subject, "trust": pooled.trust}
    missing = [name for name, found in known.items() if not found]
    missing += ["school" for school in question.school if school not in ids]
    if missing:
        message = "There is no such {} within the reach of this client's aggregates."
        raise invalid([Issue(name, f"{name}-not-found", message.format(name)) for name in missing])
    return {ids[school] for school in question.school}


def _complete(pooled: Pooled, listed: list[str]) -> list[_Group]:
    """The groups, with the empty ones of every category that is listed."""
    places, parts = pooled.pool()
    axes: list[Iterable[str | None]] = []
    for name in Categories._fields:
        always, sometimes = _CATEGORIES[name]
        present = {getattr(categories, name) for _, categories in parts}
        axes.append((*always, *(category for category in sometimes if category in present)) if name in listed else (None,))
    kinds = list(starmap(Categories, product(*axes)))
    return [_Group(key, kind, place, parts.get((key, kind)) or Counts()) for key, place in places.items() for kind in kinds]


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
        counts = [Count(group.values(dimensions), group.counts.guarded) for group in population]
        threshold = max(group.place.threshold for group in population)
        for group, reason in zip(population, suppress(counts, dimensions, threshold), strict=True):
            group.hidden = reason is not None


def _pool_schools(groups: list[_Group]) -> list[_Group]:
    """The schools' groups added up; a hidden one hides the sum."""
    pooled: dict[tuple[Key, Categories], _Group] = {}
    for group in groups:
        key = group.key._replace(school=None)
        whole = pooled.get((key, group.categories))
        if whole is None:
            pooled[key, group.categories] = replace(group, key=key, place=structs.replace(group.place, urn=None, name=None))
        else:
            whole.place, whole.counts = whole.place + group.place, whole.counts + group.counts
            whole.hidden = whole.hidden or group.hidden
    return list(pooled.values())


def _page(
    groups: list[_Group], question: Question, after: tuple[str | None, ...] | None, seal: Callable[[bytes], str]
) -> AggregatePage:
    """Rows in the order of the dimensions grouped by; a cursor is a row's place in that order."""
    order = _order(groups, tuple(dict.fromkeys((*question.group_by, "subject", "window"))))
    placed = sorted(((order(group), group) for group in groups), key=itemgetter(0))
    start = 0 if after is None else bisect_right(placed, after, key=itemgetter(0))
    shown = placed[start : start + question.first]
    sealed = [seal(json.dumps(place).encode()) for place, _ in shown]
    info = PageInfo(has_more=start + len(shown) < len(placed), end_cursor=sealed[-1] if sealed else None)
    page = AggregatePage(data=[_row(group) for _, group in shown], page=info)
    vars(page)["cursors"] = sealed
    return page


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


def _row(group: _Group) -> AggregateRow:
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
    if group.hidden:
        row.status = "c"
        return row
    row.eligible, row.valid = counts.eligible, counts.valid
    if not counts.eligible:
        row.status = "z"
    elif not counts.valid and not counts.judged:
        row.status = "x"
    else:
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
