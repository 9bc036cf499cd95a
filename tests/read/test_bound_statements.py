"""Every relation of every statement that a client of one tenant may send names the tenant by a bound value, by itself.

The statements are walked as they are built: each query in them, also those within expressions, has its own relations and its own conditions.
"""

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import ColumnElement, Select
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList
from sqlalchemy.sql.operators import and_ as and_operator
from sqlalchemy.sql.selectable import FromClause, Join, SelectState
from sqlalchemy.sql.visitors import iterate

from domain import RESOURCES
from domain.access.reach import reach
from domain.declare.resource import Resource
from domain.declare.scopes import Scope
from domain.declare.value_types import ValueType
from domain.read import compile
from domain.read.prepared import PreparedQuery
from domain.read.query import (
    Condition,
    FieldValue,
    ListQuery,
    Order,
    OutputFields,
    PageRows,
    Parameter,
    Query,
    RowCursor,
    RowQuery,
    ToMany,
    ToOne,
    TotalCount,
)
from domain.read.tenants import NAME, is_owned
from tests.fixtures.sizes import choose_size

VALUES = {ValueType.BOOLEAN: True, ValueType.INTEGER: 1, ValueType.NUMBER: 1}


def _list_fields(resource: Resource, depth: int) -> OutputFields:
    """Every field of a resource and, so many links deep, all that it links to."""
    links: list[tuple[str, Any]] = []
    for name, link in resource.links.items() if depth else ():
        target = RESOURCES[link.target]
        fields = _list_fields(target, depth - 1)
        if link.many:
            page = ListQuery(
                target, (("data", PageRows(fields)), ("total", TotalCount())), path=name, choices=target.choose({}, (), link)
            )
            links.append((name, ToMany(link, page)))
        else:
            links.append((name, ToOne(link, target, fields)))
    return (*((name, FieldValue(field)) for name, field in resource.fields.items()), *links)


def _list_queries(resource: Resource) -> Iterator[Query]:
    """Pages with every field and link; filtered by every field, by one value and by several; in every order, from the beginning and after a row;
    and rows by their ids."""
    rows = PageRows(_list_fields(resource, 1))
    cursor = RowCursor()
    shown: OutputFields = (("data", PageRows((("cursor", cursor),))), ("total", TotalCount()), ("end", cursor))
    yield ListQuery(resource, (("data", rows), *shown[1:]), choices=resource.choose({}, ()))
    for name, value in ((name, value) for name, choice in resource.choices.items() for value in choice.conditions):
        yield ListQuery(resource, shown, choices=resource.choose({name: value}, ()))
    filters = {name: field for name, field in resource.fields.items() if field.filterable}
    for count in (1, 2):
        where = tuple(
            Condition(name, field, (Parameter(VALUES.get(field.kind, ""), 0, str),) * count) for name, field in filters.items()
        )
        yield ListQuery(resource, shown, where)
    order = tuple(Order(name, field, name > "n") for name, field in resource.fields.items() if field.sortable)
    yield ListQuery(resource, shown, order=order, after=("1",) * (len(order) + len(resource.order)))
    yield ListQuery(resource, shown, after=("1",) * len(resource.order))
    if resource.has_id:
        columns = [resource.source.c[name] for name in resource.order if name != NAME]
        yield RowQuery(resource, tuple((column, Parameter(None, 0, str)) for column in columns), rows.fields)
        yield RowQuery(resource, tuple((column, Parameter(None, 0, str)) for column in columns), ())


def _list_relations(source: FromClause) -> Iterator[FromClause]:
    if isinstance(source, Join):
        yield from _list_relations(source.left)
        yield from _list_relations(source.right)
    else:
        yield source


def _list_conditions(condition: ColumnElement[Any] | None) -> Iterator[ColumnElement[Any]]:
    if isinstance(condition, BooleanClauseList) and condition.operator is and_operator:
        for each in condition.clauses:
            yield from _list_conditions(each)
    elif condition is not None:
        yield condition


def _find_unbound(query: Select[Any], outer: frozenset[FromClause]) -> Iterator[str]:
    """The relations of a query, and of those within it, that do not name the tenant. `outer` are those of the queries around it."""
    # the public get_final_froms writes SQL, which takes a hundred times as long
    froms = SelectState(query, None)._get_display_froms([*outer], [*outer])
    own = [source for each in froms for source in _list_relations(each)]
    joined = [join.onclause for each in froms for join in iterate(each) if isinstance(join, Join)]
    conditions = [one for condition in (query.whereclause, *joined) for one in _list_conditions(condition)]
    named = {column.table.name for column in _list_columns(conditions, NAME, "tenant")}
    named |= {column.table.name for column in _list_columns(conditions, "client_id", "caller") if column.table.element is reach}
    for source in own:
        is_table = not isinstance(getattr(source, "element", source), Select)
        if is_table and is_owned(source) and source.name not in named:  # type: ignore[attr-defined]
            yield getattr(source, "element", source).name
    for each in _list_queries_within(query):
        yield from _find_unbound(each, outer | frozenset(own))


def _list_columns(conditions: list[ColumnElement[Any]], key: str, bind: str) -> Iterator[Any]:
    """The columns of this name that have to be equal to a value that is bound to this name."""
    for condition in conditions:
        column, value = getattr(condition, "left", None), getattr(condition, "right", None)
        is_equal = isinstance(condition, BinaryExpression) and condition.operator is operator.eq
        if is_equal and isinstance(value, BindParameter) and (getattr(column, "key", None), value.key) == (key, bind):
            yield column


def _list_queries_within(element: Any) -> Iterator[Select[Any]]:
    """The queries in an SQL element, but for those within them."""
    for child in element.get_children():
        if isinstance(child, Select):
            yield child
        else:
            yield from _list_queries_within(child)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[ColumnElement[Any]]:
    """The columns of each statement in place of its text."""
    found: list[ColumnElement[Any]] = []

    def note(columns: Sequence[ColumnElement[Any]], **options: Any) -> None:
        found.extend((*columns, *options.get("label_queries", ())))

    monkeypatch.setattr(compile, "make_statement", note)
    return found


SCOPES = {"scopes tested": frozenset[Scope](), "scopes known": frozenset(Scope)}
"""Statements that test the scopes have the relations of those that need not, and more: in the suite they stand for both."""


@pytest.mark.parametrize("scopes", list(SCOPES.values())[: choose_size(1, 2)], ids=list(SCOPES)[: choose_size(1, 2)])
def test_every_relation_names_the_only_tenant(scopes: frozenset[Scope], built: list[ColumnElement[Any]]) -> None:
    unbound: dict[str, set[str]] = {}
    for name, resource in RESOURCES.items():
        built.clear()
        for query in _list_queries(resource):
            compile._compile(PreparedQuery([query]).template.queries, scopes, compile.TENANT)
        assert built
        for select in (select for column in built for select in _list_queries_within(column)):
            unbound.setdefault(name, set()).update(_find_unbound(select, frozenset()))
    assert {name: relations for name, relations in unbound.items() if relations} == {}
