"""Turns the parameters of a request, or the body of a lookup, into the query of a list or a row."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from api.rest.field_tree import make_page_fields, make_row_fields, read_arguments, read_field_tree
from api.rest.query_string import MAX_FILTERS, MAX_ISSUES, OF_CSV, OF_URLS, RESERVED, ParameterIssues, Parameters, group_by_name
from domain import RESOURCES
from domain.access.caller import Caller
from domain.declare.errors import BadRequest, PartlyRead
from domain.declare.ranges import Comparison
from domain.declare.resource import Filter, Link, Resource
from domain.read.contradictions import find_contradictions, find_excluded
from domain.read.cursors import Cursors
from domain.read.query import (
    DEFAULT_FIRST,
    MAX_FIRST,
    MAX_VALUES,
    MAX_VALUES_PER_REQUEST,
    Condition,
    ListQuery,
    Order,
    OutputFields,
    Parameter,
    ParameterText,
    ToMany,
    decode_parameter,
    place_value,
)
from domain.read.staff_names import names_staff

LISTS = ("fields", "include", "sort")
"""Parameters that are lists of names."""


@dataclass
class ListParameters:
    """The parameters of a list, by what they are: lists of names, single values, options of links, filters."""

    lists: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in LISTS})
    single: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    filters: dict[str, list[Any]] = field(default_factory=dict)


def read_list(parameters: Parameters, resource: Resource, caller: Caller, cursors: Cursors, *, as_csv: bool = False) -> ListQuery:
    """The query of `GET /v1/{plural}`. Raises BadRequest with every issue."""
    issues = ParameterIssues()
    listing = _sort_parameters(issues, parameters, resource, resource.arguments)
    arguments = _read_arguments(issues, resource, None, listing)
    return _make_list(issues, resource, caller, cursors, listing, as_csv=as_csv, arguments=arguments)


def read_linked_list(
    parameters: Parameters, resource: Resource, name: str, caller: Caller, cursors: Cursors, *, as_csv: bool = False
) -> ToMany:
    """The query of `GET /v1/{plural}/{id}/{link}`: a list of the link's target, which the link's arguments may narrow.

    Its cursors are those of the same list when it is nested in a row. Raises BadRequest with every issue.
    """
    issues, link = ParameterIssues(), resource.links[name]
    target = RESOURCES[link.target]
    listing = _sort_parameters(issues, parameters, target, target.list_arguments(link))
    arguments = _read_arguments(issues, target, link, listing)
    path = f"{resource.name}.{name}"
    page = _make_list(issues, target, caller, cursors, listing, as_csv=as_csv, by=link, path=path, arguments=arguments)
    return ToMany(link, page)


def _read_arguments(
    issues: ParameterIssues, resource: Resource, link: Link | None, listing: ListParameters
) -> tuple[tuple[str, Any], ...]:
    """The arguments of a list. One that has two names is sent by one of them."""
    declared = resource.list_arguments(link)
    texts = {name: listing.single[name] for name in declared if name in listing.single}
    for name in [name for name in texts if declared[name].same_as in texts]:
        issues.add(name, "parameter-repeated", f"{name} is another name of {declared[name].same_as}. Send one of them.")
    return tuple(read_arguments(issues, resource, link, texts).items())


def read_row(parameters: Parameters, resource: Resource, caller: Caller) -> OutputFields:
    """The fields of the row of `GET /v1/{plural}/{id}`. Raises BadRequest with every issue."""
    issues = ParameterIssues()
    listing = _sort_parameters(issues, parameters, resource)
    for name in [*listing.single, *listing.filters, *(["sort"] if "sort" in parameters else [])]:
        issues.add_unknown(name, "parameter-unknown", f"There is no parameter {name} here.", name, ("fields", "include"))
    tree = read_field_tree(issues, resource, listing.lists["fields"], listing.lists["include"], listing.options)
    issues.raise_if_any()
    return make_row_fields(resource, tree, caller)


def read_lookup(body: object, resource: Resource, caller: Caller, cursors: Cursors) -> ListQuery:
    """The query of `POST /v1/{plural}/lookup`: the parameters of a list, with the filters in `where`. Raises BadRequest with every issue."""
    issues = ParameterIssues()
    members = body if isinstance(body, dict) else {}
    if not isinstance(body, dict):
        issues.add("", "wrong-type", "The body must be an object.")
    for name in list(members)[:MAX_ISSUES]:
        names = ("where", *(each for each in RESERVED if each not in OF_URLS), *resource.choices, *resource.arguments)
        if name not in names:
            issues.add_unknown(f"/{name}", "unknown-field", "There is no such field.", name, names)
    listing = ListParameters()
    for name in LISTS:
        value = members.get(name, [])
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            issues.add(f"/{name}", "wrong-type", f"{name} must be an array of texts.")
            value = []
        listing.lists[name] = value
    where = members.get("where", {})
    if not isinstance(where, dict):
        issues.add("/where", "wrong-type", "where must be an object.")
        where = {}
    if len(where) > MAX_FILTERS:
        issues.add("/where", "filter-too-long", f"where has more than {MAX_FILTERS} filters.")
        where = {}
    listing.filters = {name: value if isinstance(value, list) else [value] for name, value in where.items()}
    first, after = members.get("first"), members.get("after")
    if after is not None and not isinstance(after, str):
        issues.add("/after", "wrong-type", "after must be text.")
        after = None
    counted = members.get("totalCount")
    if counted is not None and not isinstance(counted, bool):
        issues.add("/totalCount", "wrong-type", "totalCount must be true or false.")
        counted = None
    single = {"first": first, "after": after, "totalCount": None if counted is None else str(counted).lower()} | {
        name: members.get(name) for name in (*resource.choices, *resource.arguments)
    }
    listing.single = {name: str(value) for name, value in single.items() if value is not None}
    issues.prefix = "/"
    arguments = _read_arguments(issues, resource, None, listing)
    return _make_list(issues, resource, caller, cursors, listing, in_body=True, arguments=arguments)


def _sort_parameters(
    issues: ParameterIssues, parameters: Parameters, resource: Resource, arguments: Collection[str] = ()
) -> ListParameters:
    """`arguments` are the names of the arguments of the list."""
    listing = ListParameters()
    for name, values in group_by_name(parameters).items():
        head, _, rest = name.partition(".")
        if name in LISTS:
            listing.lists[name] = [part for value in values for part in value.split(",") if part]
        elif name in RESERVED or name in resource.choices or name in arguments or (rest and head in resource.links):
            (listing.options if rest else listing.single)[name] = values[0]
            if len(values) > 1:
                issues.add(name, "parameter-repeated", f"{name} appears more than once.")
        else:
            listing.filters[name] = [*values]
    return listing


def _make_list(
    issues: ParameterIssues,
    resource: Resource,
    caller: Caller,
    cursors: Cursors,
    listing: ListParameters,
    *,
    in_body: bool = False,
    as_csv: bool = False,
    by: Link | None = None,
    path: str = "",
    arguments: tuple[tuple[str, Any], ...] = (),
) -> ListQuery:
    issues.prefix = "/" if in_body else ""
    tree = read_field_tree(issues, resource, listing.lists["fields"], listing.lists["include"], listing.options)
    issues.prefix = "/where/" if in_body else ""
    conditions = read_conditions(issues, resource, listing.filters, in_body=in_body)
    issues.prefix = "/" if in_body else ""
    order = read_order(issues, resource, listing.lists["sort"])
    default = MAX_FIRST if as_csv else DEFAULT_FIRST  # a spreadsheet is read as a whole
    first, after = issues.read_number(listing.single.get("first"), "first", default, MAX_FIRST), listing.single.get("after")
    chosen = issues.read_choices(resource, by, {name: listing.single[name] for name in resource.choices if name in listing.single})
    choices = resource.choose(chosen, [condition.name for condition in conditions], by, is_lookup=in_body)
    _add_contradictions(issues, find_excluded(resource, by, choices, conditions))
    counted = issues.read_flag(listing.single.get("totalCount"), "totalCount")
    if counted and as_csv:
        issues.add("totalCount", "parameter-invalid", "totalCount is a part of JSON; a spreadsheet has none.")
    if issues.read_flag(listing.single.get("bom"), "bom") and not as_csv:
        issues.add("bom", "parameter-invalid", OF_CSV)
    issues.raise_if_any([ListQuery(resource, (), conditions)])
    page = make_page_fields(make_row_fields(resource, tree, caller, by), counted=counted)
    query = ListQuery(resource, page, conditions, order, first, path=path, arguments=arguments, choices=choices)
    if after is None:
        return query
    try:
        position = cursors.decrypt_position(after, caller.client_id, query.fingerprint())
    except BadRequest as problem:
        readable = [ListQuery(resource, (), conditions)]
        raise PartlyRead(problem.detail, code=problem.code, issues=problem.issues, readable=readable) from None
    return replace(query, after=Parameter(position, after.text_index, str) if isinstance(after, ParameterText) else position)


def read_conditions(
    issues: ParameterIssues, resource: Resource, filters: dict[str, list[Any]], *, in_body: bool
) -> tuple[Condition, ...]:
    """The conditions of filters by field name, of which several values mean any of them, or by name and comparison (`mark.gte`), which takes one value.

    Filters by what identifies a person are accepted in a body only.
    """
    conditions, total = [], 0
    for at, values in filters.items():
        name, dot, comparison = at.partition(".")
        field = resource.fields.get(name)
        if names_staff(name) and (field is None or not field.filterable):
            issues.add_staff(at)
        elif field is None or not field.filterable:
            names = (*(n for n, f in resource.fields.items() if f.filterable), *resource.choices, *RESERVED)
            issues.add_unknown(at, "filter-unknown", f"{resource.plural} cannot be filtered by {name}.", name, names)
        elif field.filter is Filter.BODY and not in_body:
            advice = f"use POST /v1/{resource.path}/lookup"
            issues.add(at, "filter-in-body-only", f"{name} identifies a person and must not be in a URL; {advice}.")
        elif dot and (comparison not in list(Comparison) or not field.comparable):
            usable = [f"{name}.{each}" for each in Comparison] if field.comparable else [name]
            issues.add(at, "filter-unknown", f"{name} is filtered as {', '.join(usable)}; there is no {at}.")
        elif comparison and len(values) > 1:
            issues.add(at, "parameter-repeated", f"{at} takes one value.")
        elif not values:
            issues.add(at, "filter-value-invalid", f"{name} is given no value; leave the filter out.")
        elif len(values) > MAX_VALUES:
            issues.add(at, "filter-too-long", f"{at} is given more than {MAX_VALUES:,} values.")
        elif (total := total + len(values)) > MAX_VALUES_PER_REQUEST:
            message = f"The filters up to this one are given more than {MAX_VALUES_PER_REQUEST:,} values in all."
            issues.add(at, "filter-too-long", message)
        else:
            operator = Comparison(comparison) if comparison else None
            parse = field.parse_filter if operator is None else partial(field.parse_bound, operator)
            decoded = _decode_values(issues, at, parse, values)
            if decoded:
                conditions.append(Condition(name, field, decoded, operator, issues.prefix + at))
    _add_contradictions(issues, find_contradictions(conditions))
    return tuple(conditions)


def _add_contradictions(issues: ParameterIssues, found: Iterable[tuple[Condition, int, str]]) -> None:
    for condition, i, problem in found:
        at = place_value(condition.at, i, len(condition.values)).removeprefix(issues.prefix)
        issues.add(at, "filter-value-invalid", f"The value given for {condition.label} {problem}.")


def _decode_values(issues: ParameterIssues, name: str, parse: Callable[[Any], Any], values: list[Any]) -> tuple[Any, ...]:
    """The values of a filter; none of them where one cannot be read."""
    decoded = []
    for i, value in enumerate(values):
        try:
            decoded.append(decode_parameter(value, parse))
        except ValueError as problem:
            at = place_value(issues.prefix + name, i, len(values)).removeprefix(issues.prefix)
            issues.add(at, "filter-value-invalid", f"The value given for {name} {problem}.")
    return tuple(decoded) if len(decoded) == len(values) else ()


def read_order(issues: ParameterIssues, resource: Resource, sort: list[str]) -> tuple[Order, ...]:
    """The order that the terms of `sort` give, such as `surname` and `-dateOfBirth`."""
    order: dict[str, Order] = {}
    for term in issues.limit_names("sort", sort):
        name = term.removeprefix("-")
        field = resource.fields.get(name)
        if names_staff(name) and (field is None or not field.sortable):
            issues.add_staff("sort")
        elif field is None or not field.sortable:
            sortable = tuple(n for n, f in resource.fields.items() if f.sortable)
            issues.add_unknown("sort", "sort-unknown", f"{resource.plural} cannot be sorted by {name}.", name, sortable)
        else:
            order.setdefault(name, Order(name, field, term.startswith("-")))
    return tuple(order.values())
