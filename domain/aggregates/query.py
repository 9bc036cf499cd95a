"""The query of an aggregate, and how it is read from named parameters, the same for REST and GraphQL."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain, islice
from typing import Any

from domain.aggregates.dimensions import CLASS, COMPARED, DIMENSIONS, FILTERS, find_value, list_values
from domain.declare.errors import Issue, PartlyRead, describe_unreadable
from domain.declare.value_types import ValueType
from domain.declare.vocabulary import find_word
from domain.read.staff_names import is_staff_issue, make_class_issue, make_staff_issue, names_staff, refuse_comparison
from domain.support import clock
from domain.support.suggestions import Suggestions
from domain.support.texts import clean_text

PARAMETERS = (
    *("groupBy", "window", "windows", "pool", "subject", "trust", "school", *FILTERS, "include", "gap", "changeFrom"),
    *("view", "crosswalksOn", "asOf", "first", "after"),
)
LISTS = ("groupBy", "windows", "school", "include", *FILTERS)
"""Parameters that name several things."""
VIEWS = ("own", "public")
INCLUDED = ("bands", "grades")
INCLUDE = """bands: the pupils by band of the common scale; grades: by grade of the schools' schemes. Null where it is not asked for. \
They need aggregates:internal, and cover the schools where the client holds it."""
"""What `include` means, for whoever reads a contract."""
CROSSWALKS_ON = "The day whose common scales and crosswalks place the grades: the day of `asOf`, or today, unless said."
"""What crosswalksOn means, for whoever reads a contract."""
AS_OF = """The judgements as they stood at the end of this day, as it was known here; those of now, without it. Who is counted, and as what, \
is as it is known now. It needs aggregates:internal, and covers the schools where the client holds it."""
GROUP_BY = """One to three dimensions. class is the class or registration group on the census day; a pupil of two counts in both. It is for a client \
that reads aggregates of one school alone, by a grant on that school with aggregates:internal; and neither for view=public nor for CSV."""
WINDOWS = (
    "Several windows by code or id, in place of `window`: each for itself, which groups by window, or with pool=window together."
)
POOL = """window: the results of all `windows` together, such as of three years; they are of one season and of different academic years. A pupil of two \
of them counts in both. It needs aggregates:internal, and covers the schools where the client holds it."""
FILTER = "Only pupils with one of these values. It needs aggregates:internal, and covers the schools where the client holds it."
GAP = f"""A characteristic, of whose two groups each row tells the difference: {", ".join(COMPARED)}. disadvantaged is those who are less \
those who are not, sen:E:N those with an education, health and care plan less those without SEN. It needs aggregates:internal, and covers the \
schools where the client holds it."""
CHANGE_FROM = """An earlier window by code or id, of the same season as `window`: each row tells the change since. It needs aggregates:internal, and covers \
the schools where the client holds it."""
DEFAULT_ROWS, MAX_ROWS = 100, 1000
"""Rows of a page: without `first`, and at most."""
MAX_DIMENSIONS, MAX_SCHOOLS, MAX_WINDOWS = 3, 200, 20
MAX_ISSUES = 100
"""Issues in one error response."""


@dataclass(frozen=True)
class ComparedGroups:
    """Two categories of a characteristic: the gap is the first less the second."""

    dimension: str
    group: str
    against: str


@dataclass(frozen=True)
class AggregateQuery:
    """A checked query. `window` and each of `windows` is a code or id, `trust` an id or GIAS group UID, each `school` an id, URN or LAESTAB.

    `view`: own, as the caller's grants allow, or public, as a reader with aggregates:read sees it. `crosswalks_on`: the day whose scales and
    crosswalks place the grades, None for that of `as_of` or today. `as_of`: the day as of which judgements are counted, None for now. `include`: of
    INCLUDED. `pools_windows`: whether the windows count together. `filters`: by dimension, the values of which pupils have one. `change_from`: an
    earlier window. `first` is None for all rows.
    """

    group_by: tuple[str, ...]
    window: str | None = None
    subject: str | None = None
    trust: str | None = None
    school: tuple[str, ...] = ()
    view: str = "own"
    crosswalks_on: date | None = None
    as_of: date | None = None
    include: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    pools_windows: bool = False
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()
    gap: ComparedGroups | None = None
    change_from: str | None = None
    first: int | None = DEFAULT_ROWS
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to, besides the client."""
        names = (self.group_by, self.window, self.subject, self.trust, sorted(self.school), self.view)
        more = (self.windows, self.pools_windows, self.filters, self.gap, self.change_from)
        return repr(("aggregates", *names, self.crosswalks_on, self.as_of, *more))

    @property
    def window_names(self) -> tuple[str, ...]:
        """The windows that the rows are of; none for all."""
        return self.windows if self.window is None else (self.window,)

    @property
    def is_internal(self) -> bool:
        """Whether only schools count where the caller holds aggregates:internal, and no edition answers."""
        return bool(self.internal_names) and self.internal_names != ("asOf",)

    @property
    def internal_names(self) -> tuple[str, ...]:
        """What the query names that only readers with aggregates:internal are told."""
        named = {"asOf": self.as_of, "pool": self.pools_windows or None, "gap": self.gap, "changeFrom": self.change_from}
        return (*(name for name, value in named.items() if value is not None), *(name for name, _ in self.filters), *self.include)


def read_query(pairs: Iterable[tuple[str, str]], interface_issues: Iterable[Issue] = ()) -> AggregateQuery:
    """Reads a query from names and values, as in a query string. `groupBy` may list several names, with commas or
    repeated; `school` may repeat. Blanks at the ends of a value do not count; words are in any case.

    `interface_issues` were found by REST or GraphQL itself and are reported with the others. Raises PartlyRead with
    every issue, or Invalid where the query groups by staff.
    """
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(clean_text(value))
    group_by = [find_word(name, DIMENSIONS) or name.strip() for value in values["groupBy"] for name in value.split(",")]
    if "include" in values:
        named = (name for value in values["include"] for name in value.split(","))
        values["include"] = [find_word(name, INCLUDED) or name.strip() for name in named]
    for name in FILTERS:
        if name in values:
            values[name] = [find_value(name, value) or value for value in values[name]]
    if "view" in values:
        values["view"] = [find_word(view, VIEWS) or view for view in values["view"]]
    staffed = find_staff_names(values, group_by, DIMENSIONS)
    issues = list(islice(chain(interface_issues, staffed, _find_issues(values, group_by)), MAX_ISSUES))
    if any(map(is_staff_issue, issues)):
        raise refuse_comparison(issues)
    if issues:
        readable = _read_names(values, {issue.at for issue in issues})
        raise PartlyRead(describe_unreadable(len(issues)), code="parameter-invalid", issues=tuple(issues), readable=readable)
    single: dict[str, Any] = {name: values[name][0] for name in ("window", "subject", "trust", "view", "after") if values[name]}
    filters = tuple((name, tuple(sorted(values[name]))) for name in FILTERS if values[name])
    gap, change_from = (values[name][0] if values[name] else None for name in ("gap", "changeFrom"))
    first = int(values["first"][0]) if values["first"] else DEFAULT_ROWS
    days = {name: date.fromisoformat(values[name][0]) if values[name] else None for name in ("crosswalksOn", "asOf")}
    school, placed, stood = tuple(values["school"]), days["crosswalksOn"], days["asOf"]
    include = tuple(values["include"])
    return AggregateQuery(
        tuple(group_by),
        school=school,
        crosswalks_on=placed,
        as_of=stood,
        include=include,
        windows=tuple(values["windows"]),
        pools_windows=bool(values["pool"]),
        filters=filters,
        gap=None if gap is None else parse_gap(gap),
        change_from=change_from,
        first=first,
        **single,
    )


def _read_names(values: dict[str, list[str]], faulty: set[str]) -> AggregateQuery:
    """Returns a query that names what the parameters name, less the faulty ones."""
    window, subject, trust = (
        values[name][0] if values.get(name) and name not in faulty else None for name in ("window", "subject", "trust")
    )
    windows, schools = (() if name in faulty else tuple(values.get(name, ())) for name in ("windows", "school"))
    return AggregateQuery(("subject", "window"), window, subject, trust, schools, windows=() if window else windows)


def find_staff_names(parameters: Iterable[str], group_by: list[str], allowed: tuple[str, ...] = ()) -> Iterable[Issue]:
    """Yields an issue for each dimension but the `allowed`, and each parameter, that would compare members of staff."""
    dimensions = ("groupBy" for name in dict.fromkeys(group_by) if names_staff(name, divides=True) and name not in allowed)
    return map(make_staff_issue, chain(dimensions, (name for name in parameters if names_staff(name, divides=True))))


def _find_issues(values: dict[str, list[str]], group_by: list[str]) -> Iterable[Issue]:
    suggestions = Suggestions()
    yield from find_parameter_issues(values, PARAMETERS, LISTS, suggestions, may_be_empty=True)
    for name in dict.fromkeys(group_by):
        if name not in DIMENSIONS and names_staff(name, divides=True):
            continue
        if name not in DIMENSIONS:
            message = f"There is no dimension {name}.{suggestions.suggest(name, DIMENSIONS)} There are: {', '.join(DIMENSIONS)}."
            yield Issue("groupBy", "dimension-unknown", message)
        elif group_by.count(name) > 1:
            yield Issue("groupBy", "dimension-repeated", f"{name} appears more than once.")
    if not 1 <= len(group_by) <= MAX_DIMENSIONS:
        yield Issue("groupBy", "dimensions-count", f"Group by one to {MAX_DIMENSIONS} dimensions.")
    for name in ("subject", "window"):
        if name not in group_by and not values.get(name) and not (name == "window" and values.get("windows")):
            yield Issue(name, f"{name}-required", f"Group by {name} or give one: pupils would be counted several times.")
    if len(values.get("school", ())) > MAX_SCHOOLS:
        yield Issue("school", "too-many-schools", f"Name at most {MAX_SCHOOLS} schools, or a trust, or none.")
    if values.get("view", VIEWS)[0] not in VIEWS:
        yield Issue("view", "parameter-invalid", f"view is {' or '.join(VIEWS)}.")
    if "public" in values.get("view", ()):
        if CLASS in group_by:
            yield make_class_issue("groupBy", "What the public sees is never divided by class.")
        for name in ("asOf", "include", "pool", *FILTERS, "gap", "changeFrom"):
            if values.get(name):
                message = f"view=public is what a reader sees now, who is not told this: leave {name} out, or view."
                yield Issue(name, "parameter-invalid", message)
    yield from _find_window_issues(values, group_by)
    yield from _find_measure_issues(values, group_by, suggestions)
    for name in ("crosswalksOn", "asOf"):
        yield from find_day_issues(name, values.get(name, ()))
    yield from find_number_issues(values.get("first", ()), MAX_ROWS)


def _find_window_issues(values: dict[str, list[str]], group_by: list[str]) -> Iterable[Issue]:
    """Yields what is wrong with several windows, and with windows that are pooled or compared."""
    several, pools = values.get("windows", []), bool(values.get("pool"))
    if several and values.get("window"):
        yield Issue("windows", "parameter-invalid", "Name one window, or several windows, and not both.")
    if len(several) > MAX_WINDOWS:
        yield Issue("windows", "too-many-windows", f"Name at most {MAX_WINDOWS} windows.")
    for name in sorted({name for name in several if several.count(name) > 1}):
        yield Issue("windows", "parameter-repeated", f"{name} appears more than once.")
    if pools and [find_word(pool, ("window",)) for pool in values["pool"]] != ["window"]:
        yield Issue("pool", "parameter-invalid", "pool is window.")
    elif pools and "window" in group_by:
        yield Issue("pool", "parameter-invalid", "Windows are pooled or grouped by, and not both.")
    elif pools and len(several) < 2:
        yield Issue("pool", "parameter-invalid", "Name the windows that are pooled, two or more: `windows`.")
    elif len(several) > 1 and not pools and "window" not in group_by:
        yield Issue("windows", "window-required", "Group by window too, or pool=window: pupils would be counted several times.")
    if values.get("changeFrom") and not values.get("window"):
        yield Issue("changeFrom", "window-required", "Name the one window that the change leads to: `window`.")


def _find_measure_issues(values: dict[str, list[str]], group_by: list[str], suggestions: Suggestions) -> Iterable[Issue]:
    """Yields what is wrong with what is included, compared and filtered by."""
    for name in dict.fromkeys(values.get("include", ())):
        if name not in INCLUDED:
            message = (
                f"There is nothing called {name} to include.{suggestions.suggest(name, INCLUDED)} There are: {', '.join(INCLUDED)}."
            )
            yield Issue("include", "parameter-invalid", message)
        elif values["include"].count(name) > 1:
            yield Issue("include", "parameter-repeated", f"{name} appears more than once.")
    for text in values.get("gap", ()):
        try:
            gap = parse_gap(text)
        except ValueError as problem:
            yield Issue("gap", "parameter-invalid", str(problem))
        else:
            if gap.dimension in group_by:
                yield Issue(
                    "gap",
                    "parameter-invalid",
                    f"The rows are of one {gap.dimension} each: a gap is within a row. Group by something else.",
                )
            if gap.dimension in values:
                yield Issue("gap", "parameter-invalid", f"Filtered by {gap.dimension}, one of the two groups would be empty.")
    for name in FILTERS:
        for text in dict.fromkeys(values.get(name, ())):
            if find_value(name, text) is None:
                yield Issue(name, "parameter-invalid", f"{name} is one of {', '.join(list_values(name))}.")
            elif values[name].count(text) > 1:
                yield Issue(name, "parameter-repeated", f"{text} appears more than once.")


def parse_gap(text: str) -> ComparedGroups:
    """Returns the two groups of a gap. Raises ValueError that says what is wrong."""
    named, *categories = text.split(":")
    dimension = find_word(named, tuple(COMPARED))
    if dimension is None:
        raise ValueError(f"A gap is of one of {', '.join(COMPARED)}, such as disadvantaged, or sen:E:N.")
    found = [find_value(dimension, category) for category in categories]
    if None in found or len(found) not in (0, 2) or len({*found}) == 1:
        raise ValueError(
            f"A gap of {dimension} is between two of {', '.join(list_values(dimension))}, such as {':'.join((dimension, *COMPARED[dimension]))}."
        )
    group, against = found or COMPARED[dimension]
    return ComparedGroups(dimension, str(group), str(against))


def find_parameter_issues(
    values: Mapping[str, Sequence[str]],
    parameters: Sequence[str],
    lists: Collection[str],
    suggestions: Suggestions,
    *,
    may_be_empty: bool = False,
) -> Iterable[Issue]:
    """Yields an issue for each name that is none of the parameters, appears more than once and is none of the lists, or has a text that no
    value holds. Names of staff have issues of their own (`find_staff_names`)."""
    for name, texts in values.items():
        if names_staff(name, divides=True):
            continue
        if name not in parameters:
            yield Issue(name, "parameter-unknown", f"There is no parameter {name} here.{suggestions.suggest(name, parameters)}")
        elif len(texts) > 1 and name not in lists:
            yield Issue(name, "parameter-repeated", f"{name} appears more than once.")
        elif any(not text.isprintable() or not (text or may_be_empty) for text in texts):
            holds = "holds a character that cannot be in it"
            yield Issue(name, "parameter-invalid", f"{name} {holds if may_be_empty else f'is empty, or {holds}'}.")


def find_day_issues(name: str, texts: Iterable[str]) -> Iterable[Issue]:
    """Yields an issue for each text that cannot be the day of a parameter."""
    for day in texts:
        try:
            is_future = ValueType.DATE.parse(day) > clock.read_today() and name == "asOf"
        except ValueError:
            yield Issue(name, "parameter-invalid", f"{name} is a date, such as 2026-10-31.")
        else:
            if is_future:
                yield Issue(name, "parameter-invalid", f"{name} lies after today: nobody knows yet what stands then.")


def find_number_issues(texts: Iterable[str], most: int) -> Iterable[Issue]:
    """Yields an issue for each text that cannot be the number of rows of a page."""
    for first in texts:
        if not (first.isascii() and first.isdigit() and len(first) < 6 and 1 <= int(first) <= most):
            yield Issue("first", "parameter-invalid", f"first is a whole number from 1 to {most}.")
