"""Versions: what tells whether an answer has changed since it was made."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Date,
    FromClause,
    Text,
    Uuid,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from domain.declare.resource import Link, Resource
from domain.read.json_sql import concatenate, join_with_dots, quote, write_placeholder
from domain.read.query import ListQuery, NestedObject, OutputFields, PageRows, Query, RowQuery, ToMany, ToOne
from domain.read.statement import data_versions, make_statement


def is_versioned(root: Query) -> bool:
    """Whether every change of what is asked for is counted in a version."""
    return root.resource.versioned and all(
        resource.versioned for _, resource in _walk_links(root.items if isinstance(root, ListQuery) else root.row)
    )


def rows_versioned_by_school(shapes: tuple[Query, ...]) -> tuple[RowQuery, ...]:
    """What tells the state by itself: the rows alone, where each root is one and all that is asked for is at its place; else nothing but the reach."""
    rows = [
        root for root in shapes if isinstance(root, RowQuery) and all(link.target_in_reach for link, _ in _walk_links(root.row))
    ]
    placed = [root for root in rows if _is_at_school(root.resource.source.c)]
    return tuple(replace(root, row=()) for root in placed) if len(placed) == len(shapes) else ()


def _is_at_school(c: ReadOnlyColumnCollection[str, Any]) -> bool:
    """Whether each row is at a school of a tenant."""
    return "tenant_id" in c and "school_id" in c and not c.school_id.nullable


def _walk_links(items: OutputFields) -> Iterator[tuple[Link, Resource]]:
    for _, item in items:
        match item:
            case ToOne(link=link, resource=resource, row=row):
                yield link, resource
                yield from _walk_links(row)
            case ToMany(link=link, selection=selection):
                yield link, selection.resource
                yield from _walk_links(selection.items)
            case PageRows(row=inner) | NestedObject(items=inner):
                yield from _walk_links(inner)


_school_versions = table("school_versions", column("tenant_id", Uuid), column("school_id", Uuid), column("version", BigInteger))


INSTALLATION_VERSION = concatenate(
    [
        cast(select(func.sum(data_versions.c.version)).scalar_subquery(), Text),
        literal_column("'.'", Text),
        cast(cast(func.timezone(literal_column("'Europe/London'"), func.now()), Date), Text),
    ]
)
"""What every answer depends on: the references, the register and the day."""


REACH_STATE = cast(func.reach_state(bindparam("tenants", type_=ARRAY(Uuid))), Text)


def write_school_version(source: FromClause) -> ColumnElement[str]:
    """Tells the tenant and school of a row, and the school's version: of a guest, whose school is beyond the reach and not seen, that of the whole reach."""
    its = (_school_versions.c.tenant_id == source.c.tenant_id) & (_school_versions.c.school_id == source.c.school_id)
    version = select(cast(_school_versions.c.version, Text)).where(its).scalar_subquery()
    return write_placeholder(
        "=",
        concatenate([*join_with_dots([source.c.tenant_id, source.c.school_id]), quote("."), func.coalesce(version, REACH_STATE)]),
    )


SCHOOL_VERSION = make_statement(
    [
        select(cast(_school_versions.c.version, Text))
        .where(
            _school_versions.c.tenant_id == bindparam("tenant", type_=Uuid),
            _school_versions.c.school_id == bindparam("school", type_=Uuid),
        )
        .scalar_subquery()
    ],
    snapshot=True,
    state=INSTALLATION_VERSION,
)
"""Tells the version of a school, as `_place_version` does, where it is known that a row was there. It still is there: what moves a row changes both places."""
