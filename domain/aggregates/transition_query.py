"""The query of transitions, and how it is read from named parameters, the same for REST and GraphQL."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import chain, islice
from typing import get_args

from domain.aggregates.query import (
    DEFAULT_ROWS,
    MAX_ISSUES,
    MAX_ROWS,
    MAX_SCHOOLS,
    find_day_issues,
    find_number_issues,
    find_parameter_issues,
    find_staff_names,
)
from domain.aggregates.transition_rows import ChangeOf
from domain.declare.errors import BadRequest, Issue, describe_unreadable
from domain.declare.vocabulary import find_word
from domain.read.staff_names import is_staff_issue, names_staff, refuse_comparison
from domain.support.suggestions import Suggestions
from domain.support.texts import clean_text

PARAMETERS = ("from", "to", "subject", "aspect", "trust", "school", "groupBy", "change", "crosswalksOn", "asOf", "first", "after")
CHANGES: tuple[ChangeOf, ...] = get_args(ChangeOf)
CHANGE = """points: also the mean difference of points, where the scheme has declared that it is progress; standardised: of standardised scores. 422 \
where no scheme of the schools has the method."""
AS_OF = "The judgements as they stood at the end of this day, as it was known here; those of now, without it."
CROSSWALKS_ON = "The day whose common scale and crosswalks place the grades: the day of `asOf`, or today, unless said."


@dataclass(frozen=True)
class TransitionQuery:
    """A checked query. `from_window` and `to_window` are codes or ids, `trust` an id or GIAS group UID, each `school` an id, URN or LAESTAB."""

    from_window: str
    to_window: str
    subject: str
    aspect: str = "main"
    trust: str | None = None
    school: tuple[str, ...] = ()
    by_school: bool = False
    change: str | None = None
    crosswalks_on: date | None = None
    as_of: date | None = None
    first: int = DEFAULT_ROWS
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to, besides the client."""
        names = (self.from_window, self.to_window, self.subject, self.aspect, self.trust, sorted(self.school), self.by_school)
        return repr(("transitions", *names, self.change, self.crosswalks_on, self.as_of))


def read_transition_query(pairs: Iterable[tuple[str, str]], interface_issues: Iterable[Issue] = ()) -> TransitionQuery:
    """Reads a query from names and values, as in a query string. `school` may repeat. Words are in any case.

    Raises BadRequest with every issue, also those that the interface found, or Invalid where the query groups by staff.
    """
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(clean_text(value))
    group_by = [name.strip() for value in values["groupBy"] for name in value.split(",")]
    issues = list(islice(chain(interface_issues, find_staff_names(values, group_by), _find_issues(values, group_by)), MAX_ISSUES))
    if any(map(is_staff_issue, issues)):
        raise refuse_comparison(issues)
    if issues:
        raise BadRequest(describe_unreadable(len(issues)), code="parameter-invalid", issues=tuple(issues))
    named = {name: values[name][0] for name in PARAMETERS if values[name]}
    days = {name: date.fromisoformat(named[name]) if name in named else None for name in ("crosswalksOn", "asOf")}
    return TransitionQuery(
        from_window=named["from"],
        to_window=named["to"],
        subject=named["subject"],
        aspect=named.get("aspect", "main"),
        trust=named.get("trust"),
        school=tuple(values["school"]),
        by_school=bool(group_by),
        change=find_word(named["change"], CHANGES) if "change" in named else None,
        crosswalks_on=days["crosswalksOn"],
        as_of=days["asOf"],
        first=int(named.get("first", DEFAULT_ROWS)),
        after=named.get("after"),
    )


def _find_issues(values: dict[str, list[str]], group_by: list[str]) -> Iterable[Issue]:
    yield from find_parameter_issues(values, PARAMETERS, ("school",), Suggestions())
    for name, meaning in (("from", "the earlier window"), ("to", "the later window"), ("subject", "the subject")):
        if not values.get(name):
            yield Issue(name, "required", f"Say {meaning}.")
    if any(find_word(name, ("school",)) is None and not names_staff(name, divides=True) for name in group_by):
        yield Issue("groupBy", "dimension-unknown", "Transitions are grouped by school, or not at all.")
    if len(values.get("school", ())) > MAX_SCHOOLS:
        yield Issue("school", "too-many-schools", f"Name at most {MAX_SCHOOLS} schools, or a trust, or none.")
    for change in values.get("change", ()):
        if find_word(change, CHANGES) is None:
            yield Issue("change", "parameter-invalid", f"change is {' or '.join(CHANGES)}.")
    for name in ("crosswalksOn", "asOf"):
        yield from find_day_issues(name, values.get(name, ()))
    yield from find_number_issues(values.get("first", ()), MAX_ROWS)
