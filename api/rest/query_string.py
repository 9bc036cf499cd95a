"""Query strings: their parameters, the template they share with others, and the issues found in them."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias
from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict, QueryParams

from domain import RESOURCES
from domain.declare.errors import BadRequest, Issue, PartlyRead, describe_unreadable
from domain.declare.resource import Link, Resource
from domain.declare.vocabulary import find_word
from domain.read.query import MAX_VALUES, MAX_VALUES_PER_REQUEST, ListQuery, ParameterText
from domain.read.staff_names import is_staff_issue, make_staff_issue, refuse_comparison
from domain.support.lru import Lru
from domain.support.suggestions import Suggestions

OF_URLS = ("format", "bom")
"""Parameters that say how a list is written, which stand in URLs only."""
OF_CSV = "bom is for CSV only; ask for it with format=csv."
RESERVED = ("fields", "include", "sort", "first", "after", "totalCount", *OF_URLS)
"""Parameters of a list that are not filters."""
MAX_ISSUES = MAX_FILTERS = 100
MAX_PARAMETERS = MAX_VALUES_PER_REQUEST + MAX_FILTERS
"""Parameters of a query string."""

CHOICES = frozenset(name for resource in RESOURCES.values() for name in resource.choices)
"""Parameters that are choices of some resource's lists."""

Parameters: TypeAlias = ImmutableMultiDict[str, str]
_IN_TEMPLATE = frozenset(RESERVED) - {"after"}
"""Parameters whose values belong to the template of a query string."""
_OPTIONS_IN_TEMPLATE = CHOICES | {"first", "totalCount"}
"""The same of a list, nested or not. Of all others only the names belong to it."""

SplitQuery: TypeAlias = tuple[tuple[tuple[str, str | None], ...], list[tuple[str, str]]]
"""A template, and the parameters of a query string."""
_split_queries: Lru[str, SplitQuery] = Lru(
    "query strings", 3_000_000, weigh=lambda query, split: 3 * len(query) + 620 * len(split[1])
)


def split_template(query: str) -> SplitQuery:
    """The template of a query string, and its parameters. Query strings that differ only in values (filters, cursors) have the same template.

    The values that are not in the template are ParameterTexts, numbered in order. Raises BadRequest where there are too many parameters.
    """
    if query.count("&") >= MAX_PARAMETERS:
        message = f"A query string has at most {MAX_PARAMETERS:,} parameters."
        raise BadRequest(message, code="parameter-invalid", issues=(Issue("", "too-many-parameters", message),))
    return _split_queries.get(query) or _split_queries.put(query, _split(query))


def _split(query: str) -> SplitQuery:
    parameters: list[tuple[str, str]] = []
    template: list[tuple[str, str | None]] = []
    texts = 0
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _IN_TEMPLATE or name.rpartition(".")[2] in _OPTIONS_IN_TEMPLATE:
            parameters.append((name, value))
            template.append((name, value))
        else:
            parameters.append((name, ParameterText(value, texts)))
            template.append((name, None))
            texts += 1
    return tuple(template), parameters


def parse_flag(text: str) -> bool | None:
    """The value of a text that is true or false, in any case; None for another."""
    word = find_word(text, ("true", "false"))
    return None if word is None else word == "true"


class ParameterIssues:
    """Collects the issues of a request's parameters, so that one response lists them all."""

    def __init__(self, prefix: str = "") -> None:
        self.issues: list[Issue] = []
        self.prefix = prefix
        self.suggestions = Suggestions()

    def add(self, at: str, code: str, message: str) -> None:
        """Adds an issue, up to MAX_ISSUES."""
        if len(self.issues) < MAX_ISSUES:
            self.issues.append(Issue(self.prefix + at, code, message))

    def add_unknown(self, at: str, code: str, message: str, name: str, names: Sequence[str], listed: str = "") -> None:
        """Adds an issue about an unknown name, with the one of `names` that may have been meant, or `listed` where none is similar."""
        if len(self.issues) < MAX_ISSUES:
            self.add(at, code, message + (self.suggestions.suggest(name, names) or listed))

    def add_staff(self, at: str) -> None:
        """Adds the issue of a name that asks for members of staff."""
        issue = make_staff_issue(at)
        self.add(at, issue.code, issue.message)

    def limit_names(self, at: str, names: list[str]) -> list[str]:
        """The names, or [] and an issue where there are more than MAX_VALUES."""
        if len(names) <= MAX_VALUES:
            return names
        self.add(at, "list-too-long", f"{at} has more than {MAX_VALUES:,} names.")
        return []

    def raise_if_any(self, readable: Sequence[ListQuery] = ()) -> None:
        """Raises BadRequest with every issue, if there are any; Invalid where all that is wrong is that the request compares by teacher.
        `readable` are lists with the filters that can be read.
        """
        if self.issues and all(map(is_staff_issue, self.issues)):
            raise refuse_comparison(self.issues)
        if self.issues:
            issues = tuple(self.issues)
            raise PartlyRead(describe_unreadable(len(issues)), code="parameter-invalid", issues=issues, readable=readable)

    def read_choices(self, resource: Resource, link: Link | None, texts: Mapping[str, str], at: str = "") -> dict[str, str]:
        """The values of a list's choices that the texts name. `at` is the place of a nested list's only choice."""
        values: dict[str, str] = {}
        for name, text in texts.items():
            allowed = (*resource.list_choices(link)[name].conditions,)
            if (word := find_word(text, allowed)) is not None:
                values[name] = str(word)
            else:
                self.add(at or name, "parameter-invalid", f"{at or name} is {', '.join(allowed[:-1])} or {allowed[-1]}.")
        return values

    def read_flag(self, text: str | None, at: str) -> bool:
        """The value of a parameter that is true or false; false without one."""
        flag = False if text is None else parse_flag(text)
        if flag is None:
            self.add(at, "parameter-invalid", f"{at} is true or false.")
        return flag is True

    def read_number(self, text: str | None, at: str, default: int, most: int) -> int:
        """A number of rows from 1 to `most`. Without a text, and with an issue where the text is not such a number, the default."""
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= most):
            self.add(at, "parameter-invalid", f"{at} is a whole number from 1 to {most}.")
            return default
        return int(text)


def group_by_name(parameters: Parameters) -> dict[str, list[str]]:
    """The values of every parameter, in one pass: `getlist` looks through all of them for each name."""
    values_by_name: dict[str, list[str]] = {}
    for name, value in parameters.multi_items():
        values_by_name.setdefault(name, []).append(value)
    return values_by_name


def check_parameters(parameters: QueryParams, *names: str) -> dict[str, str]:
    """The values of a request's parameters, of which only these names are allowed, each once. Raises BadRequest with every issue."""
    issues = ParameterIssues()
    for name, values in group_by_name(parameters).items():
        if name not in names:
            issues.add_unknown(name, "parameter-unknown", f"There is no parameter {name} here.", name, names)
        elif len(values) > 1:
            issues.add(name, "parameter-repeated", f"{name} appears more than once.")
    issues.raise_if_any()
    return {name: parameters[name] for name in parameters if name in names}
