"""The query of an aggregate, and how it is read from named parameters, the same for REST and GraphQL."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import chain, islice

from domain.declare.errors import Issue, PartlyRead
from domain.declare.value_types import ValueType
from domain.declare.vocabulary import find_word
from domain.read.staff_names import is_staff_issue, make_class_issue, make_staff_issue, names_staff, refuse_comparison
from domain.support import clock
from domain.support.suggestions import Suggestions
from domain.support.texts import clean_text

CLASS = "class"
DIMENSIONS = ("school", "subject", "window", "yearGroup", CLASS, "sex", "disadvantaged", "eal", "sen")
PARAMETERS = ("groupBy", "window", "subject", "trust", "school", "view", "crosswalksOn", "asOf", "first", "after")
VIEWS = ("own", "public")
CROSSWALKS_ON = "The day whose common scales and crosswalks place the grades: the day of `asOf`, or today, unless said."
"""What crosswalksOn means, for whoever reads a contract."""
AS_OF = """The judgements as they stood at the end of this day, as it was known here; those of now, without it. Who is counted, and as what, \
is as it is known now. It needs aggregates:internal, and covers the schools where the client holds it."""
GROUP_BY = """One to three dimensions. class is the class or registration group on the census day; a pupil of two counts in both. It is for a client \
that reads aggregates of one school alone, by a grant on that school with aggregates:internal; and neither for view=public nor for CSV."""
DEFAULT_ROWS, MAX_ROWS = 100, 1000
"""Rows of a page: without `first`, and at most."""
MAX_DIMENSIONS, MAX_SCHOOLS = 3, 200
MAX_ISSUES = 100
"""Issues in one error response."""


@dataclass(frozen=True)
class AggregateQuery:
    """A checked query. `window` is a code or id, `trust` an id or GIAS group UID, each `school` an id, URN or LAESTAB.

    `view`: own, as the caller's grants allow, or public, as a reader with aggregates:read sees it. `crosswalks_on`: the day whose scales and
    crosswalks place the grades, None for that of `as_of` or today. `as_of`: the day as of which judgements are counted, None for now. `first` is
    None for all rows.
    """

    group_by: tuple[str, ...]
    window: str | None = None
    subject: str | None = None
    trust: str | None = None
    school: tuple[str, ...] = ()
    view: str = "own"
    crosswalks_on: date | None = None
    as_of: date | None = None
    first: int | None = DEFAULT_ROWS
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to, besides the client."""
        names = (self.group_by, self.window, self.subject, self.trust, sorted(self.school), self.view)
        return repr(("aggregates", *names, self.crosswalks_on, self.as_of))


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
    if "view" in values:
        values["view"] = [find_word(view, VIEWS) or view for view in values["view"]]
    staffed = find_staff_names(values, group_by, DIMENSIONS)
    issues = list(islice(chain(interface_issues, staffed, _find_issues(values, group_by)), MAX_ISSUES))
    if any(map(is_staff_issue, issues)):
        raise refuse_comparison(issues)
    if issues:
        noun, detail = "parameter" if len(issues) == 1 else "parameters", "{} {} cannot be read."
        readable = _read_names(values, {issue.at for issue in issues})
        raise PartlyRead(detail.format(len(issues), noun), code="parameter-invalid", issues=tuple(issues), readable=readable)
    single = {name: values[name][0] for name in ("window", "subject", "trust", "view", "after") if values[name]}
    first = int(values["first"][0]) if values["first"] else DEFAULT_ROWS
    days = {name: date.fromisoformat(values[name][0]) if values[name] else None for name in ("crosswalksOn", "asOf")}
    school, placed, stood = tuple(values["school"]), days["crosswalksOn"], days["asOf"]
    return AggregateQuery(tuple(group_by), school=school, crosswalks_on=placed, as_of=stood, first=first, **single)


def _read_names(values: dict[str, list[str]], faulty: set[str]) -> AggregateQuery:
    """Returns a query that names what the parameters name, less the faulty ones."""
    window, subject, trust = (
        values[name][0] if values.get(name) and name not in faulty else None for name in ("window", "subject", "trust")
    )
    schools = () if "school" in faulty else tuple(values.get("school", ()))
    return AggregateQuery(("subject", "window"), window, subject, trust, schools)


def find_staff_names(parameters: Iterable[str], group_by: list[str], allowed: tuple[str, ...] = ()) -> Iterable[Issue]:
    """Yields an issue for each dimension but the `allowed`, and each parameter, that would compare members of staff."""
    dimensions = ("groupBy" for name in dict.fromkeys(group_by) if names_staff(name, divides=True) and name not in allowed)
    return map(make_staff_issue, chain(dimensions, (name for name in parameters if names_staff(name, divides=True))))


def _find_issues(values: dict[str, list[str]], group_by: list[str]) -> Iterable[Issue]:
    suggestions = Suggestions()
    for name, texts in values.items():
        if names_staff(name, divides=True):
            continue
        if name not in PARAMETERS:
            yield Issue(name, "parameter-unknown", f"There is no parameter {name} here.{suggestions.suggest(name, PARAMETERS)}")
        elif len(texts) > 1 and name not in ("groupBy", "school"):
            yield Issue(name, "parameter-repeated", f"{name} appears more than once.")
        elif any(not text.isprintable() for text in texts):
            yield Issue(name, "parameter-invalid", f"{name} holds a character that cannot be in it.")
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
        if name not in group_by and not values.get(name):
            yield Issue(name, f"{name}-required", f"Group by {name} or give one: pupils would be counted several times.")
    if len(values.get("school", ())) > MAX_SCHOOLS:
        yield Issue("school", "too-many-schools", f"Name at most {MAX_SCHOOLS} schools, or a trust, or none.")
    if values.get("view", VIEWS)[0] not in VIEWS:
        yield Issue("view", "parameter-invalid", f"view is {' or '.join(VIEWS)}.")
    if "public" in values.get("view", ()):
        if CLASS in group_by:
            yield make_class_issue("groupBy", "What the public sees is never divided by class.")
        if values.get("asOf"):
            yield Issue("asOf", "parameter-invalid", "view=public is what a reader sees now: leave asOf out, or view.")
    for name in ("crosswalksOn", "asOf"):
        yield from find_day_issues(name, values.get(name, ()))
    yield from find_number_issues(values.get("first", ()), MAX_ROWS)


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
