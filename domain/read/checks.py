"""What a query is checked for before it runs: scopes, and how many values it may answer."""

from collections.abc import Sequence
from contextvars import ContextVar

from domain.access.caller import Caller, make_scope_error
from domain.declare.errors import BadRequest, Issue
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.read.query import (
    FieldValue,
    ListQuery,
    NestedObject,
    OutputField,
    OutputFields,
    PageRows,
    Query,
    RowQuery,
    ToMany,
    ToOne,
)

observed_queries: ContextVar[list[Query] | None] = ContextVar("permitted", default=None)
"""Whoever wants to know what a request was read as sets a list before it asks."""


MAX_COST = 200_000
"""How many values an answer may hold, if every page in it were full."""


def check_scopes(roots: Sequence[Query], caller: Caller) -> None:
    """Raises Forbidden, naming each field and scope, when something asked for needs a scope the caller's token does not carry.

    A field's scope is tested again per row, and the reach of every row, by the statement itself.
    """
    missing: dict[str, str] = {}

    def need(scope: Scope | None, what: str) -> None:
        if scope is not None and scope not in caller.scopes:
            missing.setdefault(what, scope)

    def resource(of: Resource, items: OutputFields) -> None:
        need(of.scope, of.plural)
        for _, item in items:
            walk(of, item)

    def selection(chosen: ListQuery) -> None:
        resource(chosen.resource, chosen.items)
        filters = sorted(chosen.where, key=lambda condition: condition.name)  # the doors meet them in different orders
        for name, field in [(w.name, w.field) for w in filters] + [(o.name, o.field) for o in chosen.order]:
            need(field.scope, f"{chosen.resource.name}.{name}")

    def walk(of: Resource, item: OutputField) -> None:
        match item:
            case FieldValue(field=field):
                need(field.scope, f"{of.name}.{next(name for name, f in of.fields.items() if f is field)}")
            case ToOne(resource=target, row=row):
                resource(target, row)
            case ToMany(selection=chosen):
                selection(chosen)
            case PageRows(row=items) | NestedObject(items=items):
                for _, nested in items:
                    walk(of, nested)

    for root in roots:
        selection(root) if isinstance(root, ListQuery) else resource(root.resource, root.row)
    if missing:
        raise make_scope_error(missing)
    if (noted := observed_queries.get()) is not None:
        noted[:] = roots


def default_fields(resource: Resource, caller: Caller, link: Link | None = None) -> dict[str, Field]:
    """The fields shown when none are named: all whose scope the caller holds somewhere, less the costly ones that the link does not show."""
    return {
        name: field
        for name, field in resource.fields.items()
        if (field.scope is None or field.scope in caller.scopes)
        and (not field.costly or (link is not None and name in link.also_shows))
    }


def count_values(root: Query) -> int:
    """How many values the answer holds if every page in it is full, and what the pages cost beside."""

    def items(chosen: OutputFields) -> int:
        return sum(item(one) for _, one in chosen)

    def item(one: OutputField) -> int:
        match one:
            case ToOne(row=row) | NestedObject(items=row):
                return 1 + items(row)
            case ToMany(selection=chosen):
                return count_values(chosen)
            case PageRows(row=row):
                return 1 + items(row)
        return 1

    if isinstance(root, RowQuery):
        return items(root.row)
    return root.resource.weight + max(root.first, 1) * max(items(root.items), 1)


def check_cost(roots: Sequence[Query], beside: int = 0) -> int:
    """The cost of the roots and of what is asked beside them; raises BadRequest when it is beyond what one request may ask."""
    total = beside + sum(count_values(root) for root in roots)
    if total > MAX_COST:
        message = (
            f"This could answer {total:,} values; one request may ask for {MAX_COST:,}. Ask for fewer rows (first) or fewer links."
        )
        raise BadRequest(message, code="too-costly", issues=(Issue("", "too-costly", message),))
    return total
