"""Data versions: SQL that shows whether a response may have changed since it was made."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    FromClause,
    Text,
    Uuid,
    bindparam,
    cast,
    column,
    func,
    select,
    table,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from domain.declare.resource import Link, Resource
from domain.read import placeholders
from domain.read.json_sql import concatenate, join_with_dots, quote
from domain.read.query import NestedObject, OutputFields, PageRows, Query, RowQuery, ToMany, ToOne
from domain.read.statement import INSTALLATION_VERSION, make_statement


def is_versioned(query: Query) -> bool:
    """Whether every change of what the query returns increments a data version."""
    return query.resource.versioned and all(resource.versioned for _, resource in _iterate_links(query.fields))


def list_rows_versioned_by_school(queries: tuple[Query, ...]) -> tuple[RowQuery, ...]:
    """Returns the rows whose own schools' versions decide whether the response has changed.

    Returns none if the data version of the whole reach is needed: for lists, rows without a school and links that leave
    the school.
    """
    rows = [
        query
        for query in queries
        if isinstance(query, RowQuery) and all(link.target_in_reach for link, _ in _iterate_links(query.fields))
    ]
    at_school = [query for query in rows if _has_school(query.resource.source.c)]
    return tuple(replace(query, fields=()) for query in at_school) if len(at_school) == len(queries) else ()


def _has_school(c: ReadOnlyColumnCollection[str, Any]) -> bool:
    """Whether each row belongs to a school of a tenant."""
    return "tenant_id" in c and "school_id" in c and not c.school_id.nullable


def _iterate_links(fields: OutputFields) -> Iterator[tuple[Link, Resource]]:
    """Yields every link that the fields follow, with its target."""
    for _, field in fields:
        match field:
            case ToOne(link=link, resource=resource, fields=inner):
                yield link, resource
                yield from _iterate_links(inner)
            case ToMany(link=link, query=query):
                yield link, query.resource
                yield from _iterate_links(query.fields)
            case PageRows(fields=inner) | NestedObject(fields=inner):
                yield from _iterate_links(inner)


_school_versions = table("school_versions", column("tenant_id", Uuid), column("school_id", Uuid), column("version", BigInteger))


REACH_DATA_VERSION = cast(func.reach_state(bindparam("tenants", type_=ARRAY(Uuid))), Text)
"""The version of all data within the caller's reach."""


def write_school_version(source: FromClause, tenant: ColumnElement[Any] | None) -> ColumnElement[str]:
    """Returns the placeholder with the tenant, school and data version of a row's school.

    The version of the whole reach replaces that of a school beyond the reach, whose version the caller cannot read:
    the main school of a dual-registered pupil. `tenant` is that of every row, if it is known.
    """
    of_tenant = source.c.tenant_id if tenant is None else tenant
    matches = (_school_versions.c.tenant_id == of_tenant) & (_school_versions.c.school_id == source.c.school_id)
    version = select(cast(_school_versions.c.version, Text)).where(matches).scalar_subquery()
    return placeholders.write_placeholder(
        placeholders.SCHOOL,
        concatenate(
            [*join_with_dots([source.c.tenant_id, source.c.school_id]), quote("."), func.coalesce(version, REACH_DATA_VERSION)]
        ),
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
    checks_snapshot=True,
    data_version=INSTALLATION_VERSION,
    name="read the version of a school",
)
"""Reads the data version of a school, to compare it with the version in a cached response about a row there.

The row is still there: a change that moves a row to another school increments the versions of both schools.
"""
