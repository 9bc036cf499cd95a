"""Which codes that filters name nobody within reach has: an unknown subject, window or scheme is an error, not an empty
list.

The statement that filters looks them up in a further column, so that a good request needs no second statement.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import array

from domain.access.reach import is_on_installation
from domain.declare.errors import Invalid, Issue, make_invalid
from domain.declare.resource import Resource
from domain.read.columns import bind_relations
from domain.read.conditions import write_condition
from domain.read.query import (
    ONE_VALUE,
    Condition,
    ListQuery,
    NestedObject,
    OutputFields,
    PageRows,
    Query,
    ToMany,
    ToOne,
    place_value,
)
from domain.read.tenants import NAME, is_owned
from domain.support.suggestions import list_first

MAX_ISSUES = 100
"""Issues in one error."""
MAX_LISTED = 30
"""Codes that an issue lists."""


def iterate_pages(queries: Sequence[Query]) -> Iterator[ListQuery]:
    """Yields the pages of the queries in the order of the tree, in which they are numbered."""
    for query in queries:
        if isinstance(query, ListQuery):
            yield query
        yield from _iterate_nested(query.fields)


def _iterate_nested(fields: OutputFields) -> Iterator[ListQuery]:
    for _, field in fields:
        match field:
            case ToMany(query=query):
                yield from iterate_pages([query])
            case ToOne(fields=inner) | PageRows(fields=inner) | NestedObject(fields=inner):
                yield from _iterate_nested(inner)


class CodedFilter(NamedTuple):
    """A filter by a code that is looked up, with the name of its bind parameter, and the filters that narrow it with theirs."""

    bind: str
    resource: Resource
    condition: Condition
    narrowing: tuple[tuple[str, Condition], ...]


def list_coded(pages: Sequence[ListQuery]) -> list[CodedFilter]:
    """Returns the filters by a code that is looked up."""
    return [
        CodedFilter(
            f"where_{number}_{i}",
            page.resource,
            condition,
            tuple((f"where_{number}_{n}", other) for n, other in enumerate(page.where) if other.name in codes.narrowed_by),
        )
        for number, page in enumerate(pages)
        for i, condition in enumerate(page.where)
        if (codes := condition.field.codes) is not None
    ]


def write_checks(queries: Sequence[Query], tenant: ColumnElement[Any] | None) -> list[ColumnElement[Any]]:
    """Returns in SQL what is unknown, as one column: a JSON array with, for each filter by code, null or the positions of
    the unknown values (from 1) and the codes that there are. No column where no filter is by code. `tenant` is the only one within reach.
    """
    pairs = [_write_pair(coded, tenant) for coded in list_coded([*iterate_pages(queries)])]
    return [cast(func.json_build_array(*pairs), Text)] if pairs else []


def _write_pair(coded: CodedFilter, tenant: ColumnElement[Any] | None) -> ColumnElement[Any]:
    bind, resource, condition, narrowing = coded
    codes = condition.field.codes
    assert codes is not None
    value: ColumnElement[Any] = bindparam(bind, type_=ARRAY(Text))
    if condition.values == ONE_VALUE:
        value = array([cast(bindparam(bind, type_=Text), Text)])
    named = func.unnest(value).table_valued("value", with_ordinality="n").render_derived()
    among = [write_condition(codes.narrowed_by[by.name], by, by_bind) for by_bind, by in narrowing]
    scope = condition.field.scope or (None if resource.or_scopes else resource.scope)
    is_open = [is_on_installation(resource.scope)] if resource.is_register and tenant is None else []
    reaches = [(column, _bind(column.table, and_(or_(reach(scope), *is_open), *among), tenant)) for column, reach in codes.sources]
    # each NOT EXISTS by itself is an anti-join, which reads the codes once for all values
    nowhere = [
        ~exists(select(literal_column("1")).where(column == named.c.value, reach).correlate_except(column.table))
        for column, reach in reaches
    ]
    unknown = select(func.json_agg(named.c.n)).select_from(named).where(*nowhere).scalar_subquery()
    there = select(reaches[0][0].distinct().label("code")).where(reaches[0][1], reaches[0][0].is_not(None))
    listed = there.order_by(literal_column("code")).limit(MAX_LISTED + 1).correlate(None).subquery("there")
    all_codes = select(func.json_agg(listed.c.code)).scalar_subquery()
    pair = func.json_build_array(unknown, all_codes)
    return case((unknown.is_not(None), pair))


def _bind(table: FromClause, reach: ColumnElement[bool], tenant: ColumnElement[Any] | None) -> ColumnElement[bool]:
    """Returns the condition that a code is within reach, with its relations bound to the tenant."""
    if tenant is None or not is_owned(table):
        return reach
    return and_(table.c[NAME] == tenant, bind_relations(reach, table, tenant))


def make_unknown(check: str, pages: Sequence[ListQuery]) -> Invalid | None:
    """Returns the error of the codes that are unknown by the column of `write_checks`; None where all are known."""
    issues: list[Issue] = []
    for pair, (_, _, condition, narrowing) in zip(json.loads(check), list_coded(pages), strict=True):
        codes = condition.field.codes
        if pair is None or codes is None:
            continue
        positions, there_are = pair
        beside = "".join(f" together with this {by.name}" for _, by in narrowing)
        message = f"Nothing within the reach of this client has this {codes.noun}{beside}.{_list_codes(there_are or [])}"
        places = (place_value(condition.at, position - 1, len(condition.values)) for position in positions)
        issues += (Issue(place, codes.issue_code, message) for place in places)
    return make_invalid(issues[:MAX_ISSUES]) if issues else None


def _list_codes(codes: list[str]) -> str:
    return f" There are: {list_first(codes, MAX_LISTED)}." if codes else ""
