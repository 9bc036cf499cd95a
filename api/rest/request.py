"""Query strings and bodies as the domain takes them: a query string becomes a Selection, a body a command's input. No rules, no SQL."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request

from domain import RESOURCES
from domain.engine.access import Caller
from domain.engine.cursor import Cursors
from domain.engine.errors import BadRequest, Issue
from domain.engine.resource import Field, Filter, Resource, closest
from domain.engine.selection import Condition, Cursor, HasMore, Items, Many, Nested, One, Order, Rows, Selection, Value, visible

RESERVED = ("fields", "include", "sort", "first", "after", "format")
FIRST, MAX_FIRST, MAX_NESTED_FIRST, MAX_DEPTH = 50, 1000, 100, 4
MAX_VALUES = 1000
"""Names in a list, and values of a filter."""
MAX_ISSUES = 100


class Asked:
    """What a request asks for, read parameter by parameter; every problem is noted and raised at once by `done`."""

    def __init__(self, prefix: str = "") -> None:
        self.issues: list[Issue] = []
        self.prefix = prefix

    def wrong(self, at: str, code: str, message: str) -> None:
        if len(self.issues) < MAX_ISSUES:
            self.issues.append(Issue(self.prefix + at, code, message))

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
class Tree:
    """The fields and links asked for at one level of a selection."""

    fields: list[str]
    links: "dict[str, Tree]"
    first: int = FIRST


def single_values(asked: Asked, given: QueryParams, known: tuple[str, ...]) -> dict[str, str]:
    """The parameters that stand once; noting those that stand twice or are unknown."""
    for name in given:
        if name not in known:
            asked.wrong(name, "parameter-unknown", f"There is no parameter {name} here.{closest(name, known)}")
        elif len(given.getlist(name)) > 1:
            asked.wrong(name, "parameter-repeated", f"{name} stands more than once.")
    return {name: given[name] for name in given if name in known}


def read_tree(asked: Asked, resource: Resource, fields: list[str], include: list[str], firsts: dict[str, str]) -> Tree:
    """The tree of dotted paths: `include=judgements.window` brings two levels, `fields=judgements.grade` narrows one."""
    tree = Tree([], {})
    for path in asked.few("include", include):
        level, at = tree, resource
        for depth, name in enumerate(path.split(".")):
            if name not in at.links:
                asked.wrong("include", "link-unknown", f"{at.name} has no link {name}.{closest(name, list(at.links))}")
                break
            if depth >= MAX_DEPTH:
                asked.wrong("include", "include-too-deep", f"Links nest at most {MAX_DEPTH} deep.")
                break
            at = RESOURCES[at.links[name].target]
            level = level.links.setdefault(name, Tree([], {}))
    for path in asked.few("fields", fields):
        *links, name = path.split(".")
        found = _level(tree, resource, links)
        if found is None:
            asked.wrong("fields", "link-not-included", f"fields names {path}, but include does not bring {'.'.join(links)}.")
        elif name not in found[1].fields:
            asked.wrong("fields", "field-unknown", f"{found[1].name} has no field {name}.{closest(name, list(found[1].fields))}")
        elif name not in found[0].fields:
            found[0].fields.append(name)
    for path, given in firsts.items():
        *links, last = path.split(".")[:-1]
        above, found = _level(tree, resource, links), _level(tree, resource, [*links, last])
        if above is None or found is None:
            asked.wrong(path, "link-not-included", f"include does not bring {path.rsplit('.', 1)[0]}.")
        elif not above[1].links[last].many:
            asked.wrong(path, "link-to-one", f"{last} leads to one row; first is for lists.")
        else:
            found[0].first = asked.number(given, path, FIRST, MAX_NESTED_FIRST)
    return tree


def _level(tree: Tree, resource: Resource, links: list[str]) -> tuple[Tree, Resource] | None:
    for name in links:
        if name not in tree.links:
            return None
        tree, resource = tree.links[name], RESOURCES[resource.links[name].target]
    return tree, resource


def row_items(resource: Resource, tree: Tree, caller: Caller) -> Items:
    """The items of a row: the fields named, or all that the caller may see; then the links, each under its own name."""
    names = tree.fields or list(visible(resource, caller))
    items: list[tuple[str, Any]] = [(name, Value(resource.fields[name])) for name in names]
    for name, below in tree.links.items():
        link, target = resource.links[name], RESOURCES[resource.links[name].target]
        row = row_items(target, below, caller)
        items.append(
            (
                name,
                Many(link, Selection(target, page_items(row), first=below.first, within=f"{resource.name}.{name}"))
                if link.many
                else One(link, target, row),
            )
        )
    return tuple(items)


def page_items(row: Items) -> Items:
    return (("data", Rows(row)), ("page", Nested((("hasMore", HasMore()), ("endCursor", Cursor())))))


def conditions(asked: Asked, resource: Resource, given: dict[str, list[Any]], *, in_body: bool) -> tuple[Condition, ...]:
    """Filters by field name; several values mean any of them. What identifies a pupil is taken in a body only."""
    found = []
    for name, values in given.items():
        field = resource.fields.get(name)
        if field is None or field.filter is Filter.NOWHERE:
            usable = [n for n, f in resource.fields.items() if f.filter is not Filter.NOWHERE]
            asked.wrong(
                name, "filter-unknown", f"{resource.plural} cannot be filtered by {name}.{closest(name, [*usable, *RESERVED])}"
            )
        elif field.filter is Filter.BODY and not in_body:
            asked.wrong(
                name,
                "filter-in-body-only",
                f"{name} identifies a pupil and cannot stand in a URL; use POST /v1/{resource.plural}/lookup.",
            )
        else:
            found.append(Condition(name, field, _parsed(asked, name, field, values)))
    return tuple(found)


def _parsed(asked: Asked, name: str, field: Field, values: list[Any]) -> tuple[Any, ...]:
    if len(values) > MAX_VALUES:
        asked.wrong(name, "filter-too-long", f"{name} is given more than {MAX_VALUES:,} values.")
        return ()
    parsed = []
    for value in values:
        try:
            parsed.append(field.kind.parse(value))
        except ValueError as problem:
            asked.wrong(name, "filter-value-invalid", f"The value given for {name} {problem}.")
    return tuple(dict.fromkeys(parsed))


def ordering(asked: Asked, resource: Resource, sort: list[str]) -> tuple[Order, ...]:
    """`sort=surname,-dateOfBirth`."""
    found: dict[str, Order] = {}
    for term in asked.few("sort", sort):
        name = term.removeprefix("-")
        field = resource.fields.get(name)
        if field is None or not field.sortable:
            usable = [n for n, f in resource.fields.items() if f.sortable]
            asked.wrong("sort", "sort-unknown", f"{resource.plural} cannot be sorted by {name}.{closest(name, usable)}")
        else:
            found.setdefault(name, Order(name, field, term.startswith("-")))
    return tuple(found.values())


def read_list(request: Request, resource: Resource, caller: Caller, cursors: Cursors) -> Selection:
    """The Selection of `GET /v1/{plural}`; BadRequest with every problem at once."""
    asked, given = Asked(), request.query_params
    filters: dict[str, list[Any]] = {}
    single: dict[str, str] = {}
    firsts: dict[str, str] = {}
    for name in given:
        values = given.getlist(name)
        if name.endswith(".first"):
            firsts[name] = values[-1]
        elif name in RESERVED:
            single[name] = values[0]
            if len(values) > 1 and name not in ("fields", "include", "sort"):
                asked.wrong(name, "parameter-repeated", f"{name} stands more than once.")
        else:
            filters[name] = list(values)
    lists = {
        name: [part for value in given.getlist(name) for part in value.split(",") if part] for name in ("fields", "include", "sort")
    }
    return _selection(
        asked, resource, caller, cursors, lists, firsts, filters, single.get("first"), single.get("after"), in_body=False
    )


def read_lookup(body: object, resource: Resource, caller: Caller, cursors: Cursors) -> Selection:
    """The Selection of `POST /v1/{plural}/lookup`: the same, with `where` in the body."""
    asked = Asked()
    given = body if isinstance(body, dict) else {}
    if not isinstance(body, dict):
        asked.wrong("", "wrong-type", "The body must be an object.")
    for name in list(given)[:MAX_ISSUES]:
        if name not in ("where", "fields", "include", "sort", "first", "after"):
            asked.wrong(f"/{name}", "unknown-field", "There is no such field." + closest(name, ["where", *RESERVED[:-1]]))
    lists: dict[str, list[str]] = {}
    for name in ("fields", "include", "sort"):
        value = given.get(name, [])
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            asked.wrong(f"/{name}", "wrong-type", f"{name} must be an array of texts.")
            value = []
        lists[name] = value
    where = given.get("where", {})
    if not isinstance(where, dict):
        asked.wrong("/where", "wrong-type", "where must be an object.")
        where = {}
    if len(where) > len(resource.fields):
        asked.wrong("/where", "filter-too-long", f"where has more fields than {resource.plural} have.")
        where = {}
    filters = {name: value if isinstance(value, list) else [value] for name, value in where.items()}
    first, after = given.get("first"), given.get("after")
    if after is not None and not isinstance(after, str):
        asked.wrong("/after", "wrong-type", "after must be text.")
        after = None
    return _selection(
        asked, resource, caller, cursors, lists, {}, filters, None if first is None else str(first), after, in_body=True
    )


def _selection(
    asked: Asked,
    resource: Resource,
    caller: Caller,
    cursors: Cursors,
    lists: dict[str, list[str]],
    firsts: dict[str, str],
    filters: dict[str, list[Any]],
    first: str | None,
    after: str | None,
    *,
    in_body: bool,
) -> Selection:
    asked.prefix = "/" if in_body else ""
    tree = read_tree(asked, resource, lists["fields"], lists["include"], firsts)
    asked.prefix = "/where/" if in_body else ""
    where = conditions(asked, resource, filters, in_body=in_body)
    asked.prefix = "/" if in_body else ""
    order = ordering(asked, resource, lists["sort"])
    number = asked.number(first, "first", FIRST, MAX_FIRST)
    asked.done()
    selection = Selection(resource, page_items(row_items(resource, tree, caller)), where, order, number)
    if after is None:
        return selection
    return Selection(resource, selection.items, where, order, number, cursors.open(after, caller.client_id, selection.fingerprint))


def read_item(request: Request, resource: Resource, caller: Caller) -> Items:
    """The row of `GET /v1/{plural}/{id}`."""
    asked, given = Asked(), request.query_params
    lists: dict[str, list[str]] = defaultdict(list)
    firsts: dict[str, str] = {}
    for name in given:
        if name.endswith(".first"):
            firsts[name] = given[name]
        elif name in ("fields", "include"):
            lists[name] = [part for value in given.getlist(name) for part in value.split(",") if part]
        else:
            asked.wrong(name, "parameter-unknown", f"There is no parameter {name} here.{closest(name, ('fields', 'include'))}")
    tree = read_tree(asked, resource, lists["fields"], lists["include"], firsts)
    asked.done()
    return row_items(resource, tree, caller)


@dataclass(frozen=True)
class Preferences:
    """The preferences of a write that are known here (RFC 7240); others are ignored, as the RFC says."""

    lenient: bool = False
    represent: bool = False
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
