"""The query of an explanation: the one of an aggregate, with the values of the one group that is explained."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

from domain.aggregates.query import AggregateQuery, find_day_issues, find_number_issues, find_staff_names, read_query
from domain.declare.errors import BadRequest, Issue
from domain.read.staff_names import is_staff_issue, names_staff, refuse_comparison
from domain.roster.years import YEARS
from domain.support.suggestions import Suggestions
from domain.support.texts import clean_text

VALUES = {
    "yearGroup": tuple(YEARS),
    "sex": ("F", "M"),
    "disadvantaged": ("true", "false", "unknown"),
    "eal": ("1", "2", "3", "unknown"),
    "sen": ("N", "K", "E", "S", "A", "P", "unknown"),
}
"""The characteristics that pick a group, with their values."""
PARAMETERS = ("window", "subject", "trust", "school", *VALUES, "crosswalksOn", "first", "after")
DEFAULT_PUPILS, MAX_PUPILS, MAX_VALUES = 100, 1000, 2
"""Pupils of a page: without `first`, and at most; characteristics that pick one group."""


@dataclass(frozen=True)
class ExplanationQuery:
    """A checked query: the question of the aggregate, the values of the group by dimension, and the page of pupils."""

    question: AggregateQuery
    values: dict[str, str]
    first: int = DEFAULT_PUPILS
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to, besides the client."""
        return repr(("explain", self.question.fingerprint, sorted(self.values.items())))


def read_explanation_query(pairs: Iterable[tuple[str, str]]) -> ExplanationQuery:
    """Reads a query from names and values, as in a query string. Raises BadRequest with every issue, or Invalid where it names staff."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(clean_text(value))
    group_by = [name.strip() for value in values.get("groupBy", ()) for name in value.split(",")]
    issues = list(chain(find_staff_names(values, group_by), _find_issues(values)))
    if any(map(is_staff_issue, issues)):
        raise refuse_comparison(issues)
    if issues:
        noun = "parameter" if len(issues) == 1 else "parameters"
        raise BadRequest(f"{len(issues)} {noun} cannot be read.", code="parameter-invalid", issues=tuple(issues))
    picked = {name: find_value(name, values[name][0]) or "" for name in VALUES if values[name]}
    named = [(name, text) for name in ("window", "subject", "trust", "school", "crosswalksOn") for text in values[name]]
    question = read_query([("groupBy", ",".join(picked) or "subject"), *named])
    first = int(values["first"][0]) if values["first"] else DEFAULT_PUPILS
    return ExplanationQuery(replace(question, first=None), picked, first, values["after"][0] if values["after"] else None)


def find_value(name: str, text: str) -> str | None:
    """Returns a value of a characteristic, in whatever case it is written."""
    written = text.strip().casefold().removeprefix("year ") if name == "yearGroup" else text.strip().casefold()
    return next((value for value in VALUES[name] if value.casefold() == written), None)


def _find_issues(values: dict[str, list[str]]) -> Iterable[Issue]:
    suggestions = Suggestions()
    for name, texts in values.items():
        if names_staff(name, divides=True):
            continue
        if name == "groupBy":
            message = f"One group is explained: give the values that pick it, of {', '.join(VALUES)}."
            yield Issue(name, "parameter-unknown", message)
        elif name not in PARAMETERS:
            yield Issue(name, "parameter-unknown", f"There is no parameter {name} here.{suggestions.suggest(name, PARAMETERS)}")
        elif len(texts) > 1 and name != "school":
            yield Issue(name, "parameter-repeated", f"{name} appears more than once.")
        elif any(not text.isprintable() or not text for text in texts):
            yield Issue(name, "parameter-invalid", f"{name} is empty, or holds a character that cannot be in it.")
        elif name in VALUES and find_value(name, texts[0]) is None:
            yield Issue(name, "parameter-invalid", f"{name} is one of {', '.join(VALUES[name])}.")
    for name in ("window", "subject"):
        if not values.get(name):
            yield Issue(name, f"{name}-required", f"Say which {name} the figure is of.")
    if sum(bool(values.get(name)) for name in VALUES) > MAX_VALUES:
        yield Issue("subject", "dimensions-count", f"At most {MAX_VALUES} characteristics pick a group.")
    yield from find_day_issues("crosswalksOn", values.get("crosswalksOn", ()))
    yield from find_number_issues(values.get("first", ()), MAX_PUPILS)
