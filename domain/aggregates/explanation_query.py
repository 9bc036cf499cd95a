"""The query of an explanation: the one of an aggregate, with the values of the one group that is explained."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

from domain.aggregates.dimensions import FILTERS, find_value, list_values
from domain.aggregates.query import (
    AggregateQuery,
    find_day_issues,
    find_number_issues,
    find_parameter_issues,
    find_staff_names,
    read_query,
)
from domain.declare.errors import BadRequest, Issue, describe_unreadable
from domain.read.staff_names import is_staff_issue, refuse_comparison
from domain.support.suggestions import Suggestions
from domain.support.texts import clean_text

PARAMETERS = ("window", "subject", "trust", "school", *FILTERS, "crosswalksOn", "first", "after")
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
        raise BadRequest(describe_unreadable(len(issues)), code="parameter-invalid", issues=tuple(issues))
    picked = {name: find_value(name, values[name][0]) or "" for name in FILTERS if values[name]}
    named = [(name, text) for name in ("window", "subject", "trust", "school", "crosswalksOn") for text in values[name]]
    question = read_query([("groupBy", ",".join(picked) or "subject"), *named])
    first = int(values["first"][0]) if values["first"] else DEFAULT_PUPILS
    return ExplanationQuery(replace(question, first=None), picked, first, values["after"][0] if values["after"] else None)


def _find_issues(values: dict[str, list[str]]) -> Iterable[Issue]:
    if "groupBy" in values:
        message = f"One group is explained: give the values that pick it, of {', '.join(FILTERS)}."
        yield Issue("groupBy", "parameter-unknown", message)
    named = {name: texts for name, texts in values.items() if name != "groupBy"}
    issues = list(find_parameter_issues(named, PARAMETERS, ("school",), Suggestions()))
    yield from issues
    faulty = {issue.at for issue in issues}
    for name in [name for name in FILTERS if name in named and name not in faulty]:
        if find_value(name, named[name][0]) is None:
            yield Issue(name, "parameter-invalid", f"{name} is one of {', '.join(list_values(name))}.")
    for name in ("window", "subject"):
        if not values.get(name):
            yield Issue(name, f"{name}-required", f"Say which {name} the figure is of.")
    if sum(bool(values.get(name)) for name in FILTERS) > MAX_VALUES:
        yield Issue("subject", "dimensions-count", f"At most {MAX_VALUES} characteristics pick a group.")
    yield from find_day_issues("crosswalksOn", values.get("crosswalksOn", ()))
    yield from find_number_issues(values.get("first", ()), MAX_PUPILS)
