"""Query strings, headers and bodies as the domain takes them: a query string becomes a Selection, a body a command's input. No rules, no SQL."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.requests import Request

from api.http.problems import HttpProblem
from domain import RESOURCES
from domain.access.caller import Caller
from domain.declare.errors import BadRequest, Issue
from domain.declare.resource import Comparison, Field, Filter, Link, Resource
from domain.read.checks import list_default_fields
from domain.read.cursors import Cursors
from domain.read.query import (
    DEFAULT_FIRST,
    MAX_FIRST,
    MAX_NESTED_FIRST,
    MAX_VALUES,
    MAX_VALUES_PER_REQUEST,
    Condition,
    FieldValue,
    HasNextPage,
    ListQuery,
    NestedObject,
    Order,
    OutputFields,
    PageRows,
    Parameter,
    ParameterText,
    RowCursor,
    ToMany,
    ToOne,
    decode_parameter,
)
from domain.support.lru import Lru
from domain.support.suggestions import Suggestions

RESERVED = ("fields", "include", "sort", "first", "after", "format")
MAX_DEPTH = 4
MAX_ISSUES = MAX_FILTERS = 100
MAX_PARAMETERS = MAX_VALUES_PER_REQUEST + MAX_FILTERS
"""Parameters of a query string."""

Parameters: TypeAlias = ImmutableMultiDict[str, str]
_FORM = frozenset(RESERVED) - {"after"}
"""Parameters whose values are a part of a request's form; of the others, but for `….first`, only the names are."""


Parsed: TypeAlias = tuple[tuple[tuple[str, str | None], ...], list[tuple[str, str]]]
_parsed_queries: Lru[str, Parsed] = Lru(
    "query strings", 3_000_000, weigh=lambda query, parsed: 3 * len(query) + 620 * len(parsed[1])
)


def split_template(query: str) -> Parsed:
    """A query string's form, equal for all that differ in values alone, and its parameters, with those values lifted."""
    if query.count("&") >= MAX_PARAMETERS:
        message = f"A query string has at most {MAX_PARAMETERS:,} parameters."
        raise BadRequest(message, code="parameter-invalid", issues=(Issue("", "too-many-parameters", message),))
    return _parsed_queries.get(query) or _parsed_queries.put(query, _lifted(query))


def _lifted(query: str) -> Parsed:
    parameters: list[tuple[str, str]] = []
    form: list[tuple[str, str | None]] = []
    lifted = 0
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _FORM or name.endswith(".first"):
            parameters.append((name, value))
            form.append((name, value))
        else:
            parameters.append((name, ParameterText(value, lifted)))
            form.append((name, None))
            lifted += 1
    return tuple(form), parameters


class ParameterIssues:
    """What a request asks for, read parameter by parameter; every problem is noted and raised at once by `done`."""

    def __init__(self, prefix: str = "") -> None:
        self.issues: list[Issue] = []
        self.prefix = prefix
        self.suggestions = Suggestions()

    def wrong(self, at: str, code: str, message: str) -> None:
        if len(self.issues) < MAX_ISSUES:
            self.issues.append(Issue(self.prefix + at, code, message))

    def unknown(self, at: str, code: str, message: str, name: str, among: Sequence[str]) -> None:
        """Notes that there is no such name, and which of the names there are may have been meant."""
        if len(self.issues) < MAX_ISSUES:
            self.wrong(at, code, message + self.suggestions.suggest(name, among))

    def few(self, at: str, names: list[str]) -> list[str]:
        """The names, or none where there are too many to look at."""
        if len(names) <= MAX_VALUES:
            return names
        self.wrong(at, "list-too-long", f"{at} has more than {MAX_VALUES:,} names.")
        return []

    def done(self) -> None:
        if self.issues:
            noun = "parameter" if len(self.issues) == 1 else "parameters"
            raise BadRequest(f"{len(self.issues)} {noun} cannot be read.", code="parameter-invalid", issues=tuple(self.issues))

    def number(self, given: str | None, at: str, default: int, most: int) -> int:
        if given is None:
            return default
        if not (given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= most):
            self.wrong(at, "parameter-invalid", f"{at} is a whole number from 1 to {most}.")
            return default
        return int(given)


@dataclass
class FieldTree:
    """The fields and links asked for at one level of a selection, how many rows, and what a link is told (by argument)."""

    fields: list[str] = field(default_factory=list)
    links: "dict[str, FieldTree]" = field(default_factory=dict)
    first: int = DEFAULT_FIRST
    given: dict[str, Any] = field(default_factory=dict)


def _by_name(given: Parameters) -> dict[str, list[str]]:
    """The values of every parameter: `getlist` looks through all of them for each."""
    found: dict[str, list[str]] = {}
    for name, value in given.multi_items():
        found.setdefault(name, []).append(value)
    return found


def read_single_values(asked: ParameterIssues, given: QueryParams, known: tuple[str, ...]) -> dict[str, str]:
    """The parameters that stand once; noting those that stand twice or are unknown."""
    for name, values in _by_name(given).items():
        if name not in known:
            asked.unknown(name, "parameter-unknown", f"There is no parameter {name} here.", name, known)
        elif len(values) > 1:
            asked.wrong(name, "parameter-repeated", f"{name} stands more than once.")
    return {name: given[name] for name in given if name in known}


def read_tree(
    asked: ParameterIssues, resource: Resource, fields: list[str], include: list[str], options: dict[str, str]
) -> FieldTree:
    """The tree of dotted paths: `include=judgements.window` brings two levels, `fields=judgements.grade` narrows one, and an option such as
    `judgements.first` says how many or tells a link something."""
    tree = FieldTree()
    for path in asked.few("include", include):
        level, at = tree, resource
        for depth, name in enumerate(path.split(".")):
            if name not in at.links:
                asked.unknown("include", "link-unknown", f"{at.name} has no link {name}.", name, tuple(at.links))
                break
            if depth >= MAX_DEPTH:
                asked.wrong("include", "include-too-deep", f"Links nest at most {MAX_DEPTH} deep.")
                break
            at = RESOURCES[at.links[name].target]
            level = level.links.setdefault(name, FieldTree())
    for path in asked.few("fields", fields):
        *links, name = path.split(".")
        found = _level(tree, resource, links)
        if found is None:
            asked.wrong("fields", "link-not-included", f"fields names {path}, but include does not bring {'.'.join(links)}.")
        elif name not in found[1].fields:
            message = f"{found[1].name} has no field {name}."
            asked.unknown("fields", "field-unknown", message, name, tuple(found[1].fields))
        elif name not in found[0].fields:
            found[0].fields.append(name)
    for path, given in options.items():
        *links, last, option = path.split(".")
        above, found = _level(tree, resource, links), _level(tree, resource, [*links, last])
        if above is None or found is None:
            asked.wrong(path, "link-not-included", f"include does not bring {path.rsplit('.', 1)[0]}.")
            continue
        link = above[1].links[last]
        if not link.many:
            asked.wrong(path, "link-to-one", f"{last} leads to one row; {option} is for lists.")
        elif option == "first":
            found[0].first = asked.number(given, path, DEFAULT_FIRST, MAX_NESTED_FIRST)
        else:
            found[0].given |= read_arguments(asked, link, {option: given}, path)
    return tree


def read_arguments(asked: ParameterIssues, link: Link, given: dict[str, str], at: str = "") -> dict[str, Any]:
    """What a link is told, by argument."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in link.arguments:
            known = (*link.arguments, "first")
            asked.unknown(at or name, "parameter-unknown", f"There is no parameter {name} here.", name, known)
            continue
        try:
            found[name] = decode_parameter(value, link.arguments[name].kind.parse)
        except ValueError as problem:
            asked.wrong(at or name, "parameter-invalid", f"The value given for {name} {problem}.")
    return found


def _level(tree: FieldTree, resource: Resource, links: list[str]) -> tuple[FieldTree, Resource] | None:
    for name in links:
        if name not in tree.links:
            return None
        tree, resource = tree.links[name], RESOURCES[resource.links[name].target]
    return tree, resource


def make_row_fields(resource: Resource, tree: FieldTree, caller: Caller, by: Link | None = None) -> OutputFields:
    """The items of a row reached by a link or none: the fields named, or all that are shown; then the links, each under its own name."""
    names = tree.fields or list(list_default_fields(resource, caller, by))
    items: list[tuple[str, Any]] = [(name, FieldValue(resource.fields[name])) for name in names]
    for name, below in tree.links.items():
        link, target = resource.links[name], RESOURCES[resource.links[name].target]
        row = make_row_fields(target, below, caller, link)
        if link.many:
            page = ListQuery(
                target,
                make_page_fields(row),
                first=below.first,
                path=f"{resource.name}.{name}",
                arguments=tuple(below.given.items()),
            )
            items.append((name, ToMany(link, page)))
        else:
            items.append((name, ToOne(link, target, row)))
    return tuple(items)


def make_page_fields(row: OutputFields) -> OutputFields:
    return (("data", PageRows(row)), ("page", NestedObject((("hasMore", HasNextPage()), ("endCursor", RowCursor())))))


def read_conditions(
    asked: ParameterIssues, resource: Resource, given: dict[str, list[Any]], *, in_body: bool
) -> tuple[Condition, ...]:
    """Filters by field name, of which several values mean any of them, or by name and comparison (`mark.gte`), which takes one value.

    What identifies a person is taken in a body only.
    """
    found, in_all = [], 0
    for at, values in given.items():
        name, dot, compared = at.partition(".")
        field = resource.fields.get(name)
        if field is None:
            known = (*resource.fields, *RESERVED)
            asked.unknown(at, "filter-unknown", f"{resource.plural} cannot be filtered by {name}.", name, known)
        elif field.filter is Filter.BODY and not in_body:
            where = f"use POST /v1/{resource.plural}/lookup"
            asked.wrong(at, "filter-in-body-only", f"{name} identifies a person and cannot stand in a URL; {where}.")
        elif dot and (compared not in list(Comparison) or not field.comparable):
            ways = [f"{name}.{comparison}" for comparison in Comparison] if field.comparable else [name]
            asked.wrong(at, "filter-unknown", f"{name} is filtered as {', '.join(ways)}; there is no {at}.")
        elif compared and len(values) > 1:
            asked.wrong(at, "parameter-repeated", f"{at} takes one value.")
        elif len(values) > MAX_VALUES:
            asked.wrong(at, "filter-too-long", f"{at} is given more than {MAX_VALUES:,} values.")
        elif (in_all := in_all + len(values)) > MAX_VALUES_PER_REQUEST:
            asked.wrong(
                at, "filter-too-long", f"The filters up to this one are given more than {MAX_VALUES_PER_REQUEST:,} values in all."
            )
        else:
            parsed = _parsed(asked, at, field, values)
            found.append(Condition(name, field, parsed, Comparison(compared) if compared and parsed else None))
    return tuple(found)


def _parsed(asked: ParameterIssues, name: str, field: Field, values: list[Any]) -> tuple[Any, ...]:
    parsed, parse = [], field.kind.parse
    for value in values:
        try:
            parsed.append(decode_parameter(value, parse))
        except ValueError as problem:
            asked.wrong(name, "filter-value-invalid", f"The value given for {name} {problem}.")
    return tuple(dict.fromkeys(parsed))


def read_order(asked: ParameterIssues, resource: Resource, sort: list[str]) -> tuple[Order, ...]:
    """`sort=surname,-dateOfBirth`."""
    found: dict[str, Order] = {}
    for term in asked.few("sort", sort):
        name = term.removeprefix("-")
        field = resource.fields.get(name)
        if field is None or not field.sortable:
            usable = tuple(n for n, f in resource.fields.items() if f.sortable)
            asked.unknown("sort", "sort-unknown", f"{resource.plural} cannot be sorted by {name}.", name, usable)
        else:
            found.setdefault(name, Order(name, field, term.startswith("-")))
    return tuple(found.values())


LISTS = ("fields", "include", "sort")


@dataclass
class ListParameters:
    """The parameters of a list, sorted by what they are: lists of names, single values, options of links, filters."""

    lists: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in LISTS})
    single: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    filters: dict[str, list[Any]] = field(default_factory=dict)


def _listing(asked: ParameterIssues, given: Parameters, resource: Resource, told: Collection[str] = ()) -> ListParameters:
    """`told` are the arguments of the link that leads to the list."""
    listing = ListParameters()
    for name, values in _by_name(given).items():
        head, _, rest = name.partition(".")
        if name in LISTS:
            listing.lists[name] = [part for value in values for part in value.split(",") if part]
        elif name in RESERVED or name in told or (rest and head in resource.links):
            (listing.options if rest else listing.single)[name] = values[0]
            if len(values) > 1:
                asked.wrong(name, "parameter-repeated", f"{name} stands more than once.")
        else:
            listing.filters[name] = [*values]
    return listing


def read_list(given: Parameters, resource: Resource, caller: Caller, cursors: Cursors, *, sheet: bool = False) -> ListQuery:
    """The Selection of `GET /v1/{plural}`; BadRequest with every problem at once."""
    asked = ParameterIssues()
    return _selection(asked, resource, caller, cursors, _listing(asked, given, resource), sheet=sheet)


def read_linked(
    given: Parameters, resource: Resource, name: str, caller: Caller, cursors: Cursors, *, sheet: bool = False
) -> ToMany:
    """The page of `GET /v1/{plural}/{id}/{link}`: a list of what the link leads to, which the link's arguments may narrow.

    Its cursors are those of the same page when it is nested in a row.
    """
    asked, link = ParameterIssues(), resource.links[name]
    target = RESOURCES[link.target]
    listing = _listing(asked, given, target, link.arguments)
    told = {argument: listing.single[argument] for argument in link.arguments if argument in listing.single}
    heard = tuple(read_arguments(asked, link, told).items())
    within = f"{resource.name}.{name}"
    return ToMany(link, _selection(asked, target, caller, cursors, listing, sheet=sheet, by=link, within=within, given=heard))


def read_lookup(body: object, resource: Resource, caller: Caller, cursors: Cursors) -> ListQuery:
    """The Selection of `POST /v1/{plural}/lookup`: the same, with `where` in the body."""
    asked = ParameterIssues()
    given = body if isinstance(body, dict) else {}
    if not isinstance(body, dict):
        asked.wrong("", "wrong-type", "The body must be an object.")
    for name in list(given)[:MAX_ISSUES]:
        if name not in ("where", "fields", "include", "sort", "first", "after"):
            asked.unknown(f"/{name}", "unknown-field", "There is no such field.", name, ("where", *RESERVED[:-1]))
    listing = ListParameters()
    for name in LISTS:
        value = given.get(name, [])
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            asked.wrong(f"/{name}", "wrong-type", f"{name} must be an array of texts.")
            value = []
        listing.lists[name] = value
    where = given.get("where", {})
    if not isinstance(where, dict):
        asked.wrong("/where", "wrong-type", "where must be an object.")
        where = {}
    if len(where) > MAX_FILTERS:
        asked.wrong("/where", "filter-too-long", f"where has more than {MAX_FILTERS} filters.")
        where = {}
    listing.filters = {name: value if isinstance(value, list) else [value] for name, value in where.items()}
    first, after = given.get("first"), given.get("after")
    if after is not None and not isinstance(after, str):
        asked.wrong("/after", "wrong-type", "after must be text.")
        after = None
    listing.single = {name: str(value) for name, value in (("first", first), ("after", after)) if value is not None}
    return _selection(asked, resource, caller, cursors, listing, in_body=True)


def _selection(
    asked: ParameterIssues,
    resource: Resource,
    caller: Caller,
    cursors: Cursors,
    listing: ListParameters,
    *,
    in_body: bool = False,
    sheet: bool = False,
    by: Link | None = None,
    within: str = "",
    given: tuple[tuple[str, Any], ...] = (),
) -> ListQuery:
    asked.prefix = "/" if in_body else ""
    tree = read_tree(asked, resource, listing.lists["fields"], listing.lists["include"], listing.options)
    asked.prefix = "/where/" if in_body else ""
    where = read_conditions(asked, resource, listing.filters, in_body=in_body)
    asked.prefix = "/" if in_body else ""
    order = read_order(asked, resource, listing.lists["sort"])
    usual = MAX_FIRST if sheet else DEFAULT_FIRST  # a spreadsheet is for reading whole
    first, after = asked.number(listing.single.get("first"), "first", usual, MAX_FIRST), listing.single.get("after")
    asked.done()
    items = make_page_fields(make_row_fields(resource, tree, caller, by))
    selection = ListQuery(resource, items, where, order, first, path=within, arguments=given)
    if after is None:
        return selection
    place = cursors.decrypt_position(after, caller.client_id, selection.fingerprint())
    return replace(selection, after=Parameter(place, after.text_index, str) if isinstance(after, ParameterText) else place)


def read_item(given: Parameters, resource: Resource, caller: Caller) -> OutputFields:
    """The row of `GET /v1/{plural}/{id}`."""
    asked = ParameterIssues()
    listing = _listing(asked, given, resource)
    for name in [*listing.single, *listing.filters, *(["sort"] if "sort" in given else [])]:
        asked.unknown(name, "parameter-unknown", f"There is no parameter {name} here.", name, ("fields", "include"))
    tree = read_tree(asked, resource, listing.lists["fields"], listing.lists["include"], listing.options)
    asked.done()
    return make_row_fields(resource, tree, caller)


_TAG = re.compile(r'(W/)?"([!#-~\x80-\xff]*)"')
_VERSION = re.compile(r"([1-9][0-9]{0,9})(?:\.[0-9a-f]+)?(?:-gzip)?")


def read_tag(version: object) -> str:
    """The entity tag of a row with this version, as a change tells it. What a GET adds to it, after a dot, tells answers apart and versions not."""
    return f'"{version}"'


def read_versions(request: Request) -> frozenset[int] | None:
    """The versions that If-Match names by their tags, or None for `*` (RFC 9110, 13.1.1). A weak tag, or one that is no version's, matches no row."""
    if "if-match" not in request.headers:
        detail = 'If-Match says which version of the row this is for: the ETag of its GET, or its version in quotes, such as "3".'
        raise HttpProblem(428, "precondition-required", "The version is missing", detail)
    given = ",".join(request.headers.getlist("if-match"))
    if given.strip() == "*":
        return None
    tags = _TAG.findall(given)
    if not tags or _TAG.sub("", given).strip(" \t,"):
        message = 'If-Match holds entity tags in double quotes, such as "3", or a * alone.'
        raise BadRequest(message, code="if-match-malformed", issues=(Issue("If-Match", "if-match-malformed", message),))
    named = [_VERSION.fullmatch(opaque) for weak, opaque in tags if not weak]
    return frozenset(int(version[1]) for version in named if version)


@dataclass(frozen=True)
class Preferences:
    """The preferences of a write that are known here (RFC 7240); others are ignored, as the RFC says."""

    lenient: bool = False
    with_results: bool = False
    applied: str = ""


def read_preferences(request: Request) -> Preferences:
    given = {
        name.strip().lower(): value.strip().strip('"').lower()
        for header in request.headers.getlist("prefer")
        for part in header.split(",")
        for name, _, value in [part.split(";")[0].partition("=")]
    }
    applied = [
        f"{n}={given[n]}"
        for n, known in (("handling", ("strict", "lenient")), ("return", ("minimal", "representation")))
        if given.get(n) in known
    ]
    return Preferences(given.get("handling") == "lenient", given.get("return") == "representation", ", ".join(applied))
