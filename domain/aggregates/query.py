"""The question of an aggregate: what may be asked, and how it is read from named texts, the same for both doors."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

from domain.declare.errors import BadRequest, Invalid, Issue
from domain.support.suggestions import Suggestions

DIMENSIONS = ("school", "subject", "window", "yearGroup", "sex", "disadvantaged", "eal", "sen")
PARAMETERS = ("groupBy", "window", "subject", "trust", "school", "view", "first", "after")
VIEWS = ("own", "public")
MOST_DIMENSIONS, MOST_SCHOOLS, FIRST, MOST_FIRST = 3, 200, 100, 1000

MAX_ISSUES = 100

_PERSONAL = ("teacher", "teachers", "class", "classes", "group", "groups", "actor", "actors")


@dataclass(frozen=True)
class AggregateQuery:
    """What is asked, as checked: `window` is a code or id, `trust` an id or GIAS group UID, a `school` an id or URN.

    `view`: as the caller is entitled to (own), or as a reader with aggregates:read sees it (public). `first` None: all rows.
    """

    group_by: tuple[str, ...]
    window: str | None = None
    subject: str | None = None
    trust: str | None = None
    school: tuple[str, ...] = ()
    view: str = "own"
    first: int | None = FIRST
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to, beside the client."""
        return repr(("aggregates", self.group_by, self.window, self.subject, self.trust, sorted(self.school), self.view))


def read_query(pairs: Iterable[tuple[str, str]], wrong: Iterable[Issue] = ()) -> AggregateQuery:
    """The question of named texts, as in a query string; `groupBy` may hold several names, with commas, and repeat, `school` may repeat.
    `wrong` is what the door itself found wrong, to be told with the rest.

    Raises BadRequest with everything that is wrong, or Invalid where it groups by whoever taught the pupils.
    """
    given: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        given[name].append(value)
    group_by = [name for value in given["groupBy"] for name in value.split(",")]
    issues = list(islice(chain(wrong, _is_by_teacher(group_by), _find_issues(given, group_by)), MAX_ISSUES))
    if any(issue.code == "teacher-comparison-not-supported" for issue in issues):
        raise Invalid("Results are not compared by teacher.", code="teacher-comparison-not-supported", issues=tuple(issues))
    if issues:
        noun = "parameter" if len(issues) == 1 else "parameters"
        raise BadRequest(f"{len(issues)} {noun} cannot be read.", code="parameter-invalid", issues=tuple(issues))
    single = {name: given[name][0] for name in ("window", "subject", "trust", "view", "after") if given[name]}
    return AggregateQuery(
        tuple(group_by), school=tuple(given["school"]), first=int(given["first"][0]) if given["first"] else FIRST, **single
    )


def _is_by_teacher(group_by: list[str]) -> Iterable[Issue]:
    reason = "Results are not compared by teacher: pay and appraisal must not hang on them."
    return (
        Issue("groupBy", "teacher-comparison-not-supported", reason)
        for name in dict.fromkeys(group_by)
        if name.lower() in _PERSONAL
    )


def _find_issues(given: dict[str, list[str]], group_by: list[str]) -> Iterable[Issue]:
    suggestions = Suggestions()
    for name, values in given.items():
        if name not in PARAMETERS:
            yield Issue(name, "parameter-unknown", f"There is no parameter {name} here.{suggestions.suggest(name, PARAMETERS)}")
        elif len(values) > 1 and name not in ("groupBy", "school"):
            yield Issue(name, "parameter-repeated", f"{name} stands more than once.")
        elif any(not value.isprintable() for value in values):
            yield Issue(name, "parameter-invalid", f"{name} holds a character that cannot be in it.")
    for name in dict.fromkeys(group_by):
        if name.lower() in _PERSONAL:
            continue
        if name not in DIMENSIONS:
            message = f"There is no dimension {name}.{suggestions.suggest(name, DIMENSIONS)} There are: {', '.join(DIMENSIONS)}."
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
    if given.get("view", VIEWS)[0] not in VIEWS:
        yield Issue("view", "parameter-invalid", f"view is {' or '.join(VIEWS)}.")
    for first in given.get("first", ()):
        if not (first.isascii() and first.isdigit() and len(first) < 6 and 1 <= int(first) <= MOST_FIRST):
            yield Issue("first", "parameter-invalid", f"first is a whole number from 1 to {MOST_FIRST}.")
