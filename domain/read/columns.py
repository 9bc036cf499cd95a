"""Finds and replaces the columns of a declared table in SQL expressions."""

from typing import Any

from sqlalchemy import ColumnClause, ColumnElement, FromClause, Table
from sqlalchemy.sql.visitors import iterate, replacement_traverse

from domain.read.tenants import bind_pair, compares_tenants, is_owned


def move_to_source(
    expression: ColumnElement[Any], table: Table, source: FromClause, tenant: ColumnElement[Any] | None = None
) -> ColumnElement[Any]:
    """Returns the expression with the table's columns taken from `source`.

    Its own subqueries on an alias of the table stay as they are. If the rows of `source` are known to be of one `tenant`, the
    relations of the subqueries are bound to it, each by itself.
    """

    def replace(element: Any, **_: Any) -> Any:
        if tenant is not None and compares_tenants(element):
            pair = bind_pair(element, tenant, table)
            return pair if is_owned(table) else move_to_source(pair, table, source)
        if getattr(element, "element", None) is table:
            return element
        if element is table:
            return source
        if isinstance(element, ColumnClause) and element.table is table:  # Grouping has the attributes of what it groups
            return source.c[element.key]
        return None

    moved: ColumnElement[Any] = replacement_traverse(expression, {}, replace)
    return moved


def bind_relations(expression: ColumnElement[Any], source: FromClause, tenant: ColumnElement[Any] | None) -> ColumnElement[Any]:
    """Returns the expression on `source` with each relation of its subqueries bound to a tenant; as it is without one."""

    def replace(element: Any, **_: Any) -> Any:
        return bind_pair(element, tenant, source) if tenant is not None and compares_tenants(element) else None

    bound: ColumnElement[Any] = expression if tenant is None else replacement_traverse(expression, {}, replace)
    return bound


def find_columns(expression: ColumnElement[Any], table: Table) -> set[str]:
    """Returns the names of the table's columns in an expression."""
    return {str(element.key) for element in iterate(expression) if isinstance(element, ColumnClause) and element.table is table}
