"""Finds and replaces the columns of a declared table in SQL expressions."""

from typing import Any

from sqlalchemy import ColumnClause, ColumnElement, FromClause, Table
from sqlalchemy.sql.visitors import iterate, replacement_traverse


def move_to_source(expression: ColumnElement[Any], table: Table, source: FromClause) -> ColumnElement[Any]:
    """Returns the expression with the table's columns taken from `source`.

    Its own subqueries on an alias of the table stay as they are.
    """

    def replace(element: Any, **_: Any) -> Any:
        if getattr(element, "element", None) is table:
            return element
        if element is table:
            return source
        if isinstance(element, ColumnClause) and element.table is table:  # Grouping has the attributes of what it groups
            return source.c[element.key]
        return None

    moved: ColumnElement[Any] = replacement_traverse(expression, {}, replace)
    return moved


def find_columns(expression: ColumnElement[Any], table: Table) -> set[str]:
    """Returns the names of the table's columns in an expression."""
    return {str(element.key) for element in iterate(expression) if isinstance(element, ColumnClause) and element.table is table}
