"""Which rows and which values a caller may read, in SQL: the reach of a resource's rows and the scopes of its fields."""

from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, case, or_
from sqlalchemy.sql.selectable import NamedFromClause

from domain.access.reach import is_on_installation
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.read.columns import find_columns, move_to_source
from domain.read.query import FieldValue, NestedObject, ObjectMembers, OutputFields, PageRows, ToMany, ToOne
from domain.read.tenants import NAME, is_owned


class ValueWriter:
    """Writes the SQL of reach and of single values.

    `scopes` are those that the caller has at every school within reach; then no row is tested for them. None: every row
    is tested for every scope. `tenant` is the only one within reach, by which every relation is bound; None where there may be several.
    `on_installation` says that the caller may have a grant on the installation.
    """

    def __init__(
        self, scopes: frozenset[str] | None, tenant: ColumnElement[Any] | None = None, *, on_installation: bool = True
    ) -> None:
        self._scopes = scopes
        self._on_installation = on_installation
        self.tenant = tenant
        self._aliases = 0
        self.days: dict[FromClause, ColumnElement[Any]] = {}
        """By relation, the day as of which its rows are read."""

    def make_alias(self, table: Table) -> NamedFromClause[Any]:
        """Returns an alias that differs from SQLAlchemy's anonymous ones (pupils_1), which a field's own subqueries may
        use.
        """
        self._aliases += 1
        return table.alias(f"{table.name}{self._aliases}")

    def has_everywhere(self, scope: Scope | None) -> bool:
        """Whether the caller is known to have the scope for every row within reach."""
        return scope is None or (self._scopes is not None and scope in self._scopes)

    def write_reach(self, resource: Resource, source: FromClause, link: Link | None) -> list[ColumnElement[bool]]:
        """Returns the resource's own condition, and the one that a row is within the caller's reach."""
        conditions = [] if resource.condition is None else [resource.condition]
        if resource.visibility is not None:
            conditions.append(resource.visibility(self.has_everywhere))
        if resource.visibility is None and not self.has_everywhere(resource.scope):
            conditions.append(self.write_register_reach(resource, resource.reach(resource.scope)))
        elif link is None or not link.target_in_reach:
            conditions.append(self.write_register_reach(resource, resource.reach(None)))
        return [self.move(condition, resource, source) for condition in conditions]

    def write_register_reach(self, resource: Resource, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        """Returns the condition that a row is within reach, of the register also by a grant on the installation, if the caller
        may have one."""
        if not resource.is_register or not self._on_installation or self.tenant is not None:
            return condition
        return or_(condition, is_on_installation(resource.scope))

    def move(self, expression: ColumnElement[Any], resource: Resource, source: FromClause) -> ColumnElement[Any]:
        """Returns an expression on the resource's table with its columns taken from `source`."""
        return move_to_source(expression, resource.source, source, self.tenant)

    def bind(self, source: FromClause) -> list[ColumnElement[bool]]:
        """Returns the condition that names the tenant of a relation; none where several tenants are within reach, or the relation is public."""
        return [source.c[NAME] == self.tenant] if self.tenant is not None and is_owned(source) else []

    def find_field(self, field: Field, source: FromClause) -> Field:
        """Returns the field as it is of the rows of a relation: those that are read as of a day may have another source."""
        day = self.days.get(source)
        return field if day is None or field.on_day is None else replace(field, source=field.on_day(day), on_day=None)

    def write_value(self, resource: Resource, field: Field, source: FromClause, sql: Any = None) -> ColumnElement[Any]:
        """Returns the value of a field, or other SQL that tells of it; NULL where the caller lacks its scope."""
        expression: ColumnElement[Any] = self.find_field(field, source).expression if sql is None else sql
        if (needed := self.write_need(resource, field)) is not None:
            expression = case((needed, expression), else_=None)
        return self.move(expression, resource, source)

    def write_need(self, resource: Resource, field: Field) -> ColumnElement[bool] | None:
        """Returns the condition that the caller has the field's scope; None where it has it for every row.

        A scope that is needed elsewhere than at the row's school is always tested: that school may be out of reach.
        """
        if field.reach is not None:
            return field.reach(field.scope)
        if field.scope == resource.scope or self.has_everywhere(field.scope):
            return None
        return resource.reach(field.scope)

    def list_columns(self, resource: Resource, fields: OutputFields) -> set[str]:
        """Returns the columns that these fields and their links need.

        No others are selected: a view has only the columns that its table had when the view was created.
        """
        names: set[str] = set()
        for _, field in fields:
            match field:
                case FieldValue(field=declared) | ObjectMembers(field=declared):
                    names |= find_columns(declared.expression, resource.source)
                    if (needed := self.write_need(resource, declared)) is not None:
                        names |= find_columns(needed, resource.source)
                case ToOne(link=link) | ToMany(link=link):
                    names |= {own.key for own, _ in link.on}
                case PageRows(fields=inner) | NestedObject(fields=inner):
                    names |= self.list_columns(resource, inner)
        return names
