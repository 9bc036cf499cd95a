"""Checks a query before it runs: the scopes it needs, and how many values its response may hold."""

from collections.abc import Sequence
from contextvars import ContextVar

from domain.access.caller import Caller, Need
from domain.declare.errors import BadRequest, Issue
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.read.query import (
    FieldValue,
    ListQuery,
    NestedObject,
    ObjectMembers,
    OutputField,
    OutputFields,
    PageRows,
    Query,
    RowQuery,
    ToMany,
    ToOne,
    TotalCount,
)

observed_queries: ContextVar[list[Query] | None] = ContextVar("observed_queries", default=None)
"""Set to a list, it receives the queries of the request whose scopes are checked next (used by `python -m api
explain`).
"""

COUNT_COST = 1_000
"""The cost of counting all rows of a list, in values."""
MAX_COST = 200_000
"""How many values a response may hold if every page in it were full."""
FUNCTION_VALUES = {
    "aggregates": 20_000,
    "aggregateExplanation": 40_000,
    "job": 2_000,
    "me": 2_000,
    "publicationPreview": 20_000,
    "readiness": 20_000,
    "receipt": 2_000,
    "transitions": 20_000,
}
"""What is not a page of rows counts as so many values, in both interfaces. Aggregates are read from many cells."""


def check_scopes(queries: Sequence[Query], caller: Caller) -> None:
    """Raises Forbidden, which names each field and scope, if the caller lacks a scope that the queries need.

    The statement itself tests each field's scope and the reach per row.
    """
    caller.require(list_needs(queries))
    if (observed := observed_queries.get()) is not None:
        observed[:] = queries


def list_needs(queries: Sequence[Query]) -> dict[str, Need]:
    """Returns the scope that each resource and field of the queries needs, by name."""
    needs: dict[str, Need] = {}

    def require(resource: Resource, scope: Scope | None, what: str, others: tuple[Scope, ...] = ()) -> None:
        if scope is not None:
            on_installation = resource.is_register or resource.may_be_of_installation
            needs.setdefault(what, Need(scope, resource.is_of_schools, others, on_installation))

    def visit_resource(resource: Resource, fields: OutputFields) -> None:
        require(resource, resource.scope, resource.plural, resource.or_scopes)
        for scope in resource.also_needs:
            require(resource, scope, f"{resource.plural} of {scope.partition(':')[0]}")
        for _, field in fields:
            visit_field(resource, field)

    def visit_list(query: ListQuery) -> None:
        visit_resource(query.resource, query.fields)
        # REST and GraphQL parse filters in different orders
        filters = sorted(query.where, key=lambda condition: condition.name)
        for name, field in [(w.name, w.field) for w in filters] + [(o.name, o.field) for o in query.order]:
            require(query.resource, field.scope, f"{query.resource.name}.{name}")

    def visit_field(resource: Resource, output: OutputField) -> None:
        match output:
            case FieldValue(field=field) | ObjectMembers(field=field):
                require(resource, field.scope, f"{resource.name}.{next(name for name, f in resource.fields.items() if f is field)}")
            case ToOne(resource=target, fields=fields):
                visit_resource(target, fields)
            case ToMany(query=query):
                visit_list(query)
            case PageRows(fields=fields) | NestedObject(fields=fields):
                for _, inner in fields:
                    visit_field(resource, inner)

    for query in queries:
        visit_list(query) if isinstance(query, ListQuery) else visit_resource(query.resource, query.fields)
    return needs


def list_default_fields(resource: Resource, caller: Caller, link: Link | None = None) -> dict[str, Field]:
    """Returns the fields that are shown if the request names none: those whose scope the token has.

    Costly fields are left out, unless the link `also_shows` them.
    """
    return {
        name: field
        for name, field in resource.fields.items()
        if (field.scope is None or field.scope in caller.scopes)
        and (not field.costly or (link is not None and name in link.also_shows))
    }


def count_values(query: Query) -> int:
    """Returns how many values the response holds if every page is full, and adds the weights of the resources."""
    if isinstance(query, RowQuery):
        return _count_fields(query.fields)
    counting = COUNT_COST if _counts_all(query.fields) else 0
    of_row = sum(_count_fields(field.fields) for _, field in query.fields if isinstance(field, PageRows))
    of_page = sum(_count_field(field) for _, field in query.fields if not isinstance(field, PageRows))
    return query.resource.weight + counting + of_page + max(query.first, 1) * max(of_row, 1)


def _count_fields(fields: OutputFields) -> int:
    return sum(_count_field(field) for _, field in fields)


def _count_field(field: OutputField) -> int:
    match field:
        case ToOne(fields=fields) | NestedObject(fields=fields) | PageRows(fields=fields):
            return 1 + _count_fields(fields)
        case ToMany(query=query):
            return count_values(query)
    return 1


def _counts_all(fields: OutputFields) -> bool:
    """Whether a page tells how many rows the list has."""
    return any(isinstance(f, TotalCount) or (isinstance(f, NestedObject) and _counts_all(f.fields)) for _, f in fields)


def check_cost(queries: Sequence[Query], other_cost: int = 0) -> int:
    """Returns the cost of the queries and of the rest of the request, `other_cost`. Raises BadRequest above MAX_COST."""
    total = other_cost + sum(count_values(query) for query in queries)
    if total > MAX_COST:
        message = (
            f"This could answer {total:,} values; one request may ask for {MAX_COST:,}. Ask for fewer rows (first) or fewer links."
        )
        raise BadRequest(message, code="too-costly", issues=(Issue("", "too-costly", message),))
    return total
