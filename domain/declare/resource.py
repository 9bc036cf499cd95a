"""How a readable thing is declared: Resource, Field, Link and the kinds of value. Everything that shows a field follows from here.

A column is invisible until a Field names it. Type and nullability come from the column, meaning, scope and filters from the declaration.
A link is declared once, on the side that holds the key; `link_up` makes the reverse.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import cached_property
from typing import Any, TypeAlias

from sqlalchemy import (
    Column,
    ColumnElement,
    MetaData,
    Table,
    select,
)
from sqlalchemy.types import TypeEngine

from domain.declare.ids import parse_id, type_number
from domain.declare.predicates import RowPredicate
from domain.declare.scopes import Scope
from domain.declare.value_types import TYPE_OF_COLUMN, ValueType, find_value_type


class Filter(Enum):
    """Where a field may be filtered on. What identifies a person is never in a URL."""

    ANYWHERE = "anywhere"
    BODY = "body"


class Comparison(StrEnum):
    """How a filter compares, where it is not by being one of several values: `dateOfBirth.gte=2015-09-01`."""

    GTE = "gte"
    GT = "gt"
    LTE = "lte"
    LT = "lt"


@dataclass(frozen=True, eq=False)
class LabelOf:
    """A value of a reference (a small table of a tenant, whose rows are meant by numbers): pairs of (my column, its column), the tenant first."""

    table: Table
    on: tuple[tuple[Any, Any], ...]
    column: str

    @property
    def expression(self) -> ColumnElement[Any]:
        t = self.table.alias()
        its = (t.c[theirs.key] == mine for mine, theirs in self.on)
        return select(t.c[self.column]).where(*its).correlate_except(t).scalar_subquery()


@dataclass(frozen=True, eq=False)
class Field:
    """A readable value: a column, a value looked up or an expression over the source's columns, and what it means.

    `scope` is needed beyond the resource's own, tested per row: where it is not held the value is null. A subquery in the expression
    must `correlate_except` its own tables. A `costly` field is left out unless it is named, or the link that leads to the row shows it.
    """

    source: ColumnElement[Any] | LabelOf
    doc: str
    scope: Scope | None = None
    filter: Filter = Filter.ANYWHERE
    nullable: bool | None = None
    costly: bool = False

    def __post_init__(self) -> None:
        if not any(isinstance(self.expression.type, type_) for type_, _ in TYPE_OF_COLUMN):
            raise TypeError(f"a field cannot be of type {self.expression.type!r}: {self.doc}")

    @cached_property
    def expression(self) -> ColumnElement[Any]:
        return self.source.expression if isinstance(self.source, LabelOf) else self.source

    @property
    def kind(self) -> ValueType:
        return find_value_type(self.expression.type)

    @property
    def sortable(self) -> bool:
        """Whether its values have an order: a list has none."""
        return self.kind is not ValueType.TEXTS

    @property
    def comparable(self) -> bool:
        """Whether it may be filtered by a range: numbers and dates may."""
        return self.kind in (ValueType.INTEGER, ValueType.NUMBER, ValueType.DATE, ValueType.INSTANT)

    @property
    def may_be_null(self) -> bool:
        if self.scope is not None or self.nullable is None:
            return self.scope is not None or not isinstance(self.expression, Column) or bool(self.expression.nullable)
        return self.nullable


@dataclass(frozen=True, eq=False)
class Argument:
    """What a to-many link may be told beside filters: a value of this type, null where it is left out, and what it asks of the linked rows."""

    type: TypeEngine[Any]
    doc: str
    condition: Callable[[Any, ColumnElement[Any]], ColumnElement[bool]]

    @property
    def kind(self) -> ValueType:
        return find_value_type(self.type)


@dataclass(frozen=True, eq=False)
class Link:
    """From a row to a row (or rows) of another resource: pairs of (my column, their column) that must be equal.

    `source` is a view with the target's columns from which the rows are taken instead of the target's own table, such as the latest of
    them; `also_shows` names costly fields that are worth their cost here. `target_in_reach`: who reaches the row at a place reaches there what it leads to,
    and `reverse_reached` the other way round.
    """

    target: str
    on: tuple[tuple[Column[Any], Column[Any]], ...]
    doc: str
    many: bool = False
    reverse: str | None = None
    reverse_doc: str = ""
    nullable: bool = True
    source: Table | None = None
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    also_shows: tuple[str, ...] = ()
    target_in_reach: bool = False
    source_in_reach: bool = False


def view(name: str, of: Table, *more: Column[Any]) -> Table:
    """A view of rows of a table, with columns of its own beside the table's; a migration makes it."""
    return Table(name, MetaData(), *(Column(c.key, c.type, nullable=bool(c.nullable)) for c in of.columns), *more)


KeyValues: TypeAlias = tuple[tuple[Column[Any], Any], ...]
"""Columns of a source and the values that pick one row."""


@dataclass(frozen=True, eq=False)
class Resource:
    """A readable noun. `order` names the source's columns that order a list when nothing else does, and make its cursors; `descending` turns
    it around.

    `links_from_others` are links that another resource gets: they lead here, so that they are declared here.
    """

    name: str
    plural: str
    doc: str
    source: Table
    scope: Scope
    order: tuple[str, ...]
    reach: RowPredicate
    fields: Mapping[str, Field]
    links: Mapping[str, Link] = field(default_factory=dict)
    links_from_others: Mapping[str, Mapping[str, Link]] = field(default_factory=dict)
    type_number: int | None = None
    parse_key: Callable[[str], KeyValues | None] | None = None
    descending: bool = False
    is_lookup_table: bool = False
    """Whether a tenant has a few rows, which seldom change."""
    versioned: bool = True
    """Whether every change of its rows is counted in the versions of the schools whose readers see it."""
    weight: int = 0
    """What a page of it costs beyond its values, where they are computed."""

    @property
    def type_name(self) -> str:
        return self.name[0].upper() + self.name[1:]

    @property
    def has_id(self) -> bool:
        """Whether a row can be asked for by its id."""
        return self.type_number is not None or self.parse_key is not None

    @property
    def has_lookup(self) -> bool:
        """Whether there is something to filter by that may not stand in a URL."""
        return any(field.filter is Filter.BODY for field in self.fields.values())

    def identify(self, given: str) -> KeyValues | None:
        """What picks the row with this id, or None where the text cannot be an id of this resource."""
        if self.parse_key is not None:
            return self.parse_key(given)
        parsed = parse_id(given)
        if parsed is None or type_number(parsed) != self.type_number:
            return None
        return ((self.source.c.id, parsed),)


DECLARED = (Resource, Field, Link, Argument, Column)
"""Of which the catalogue is made: requests refer to its instances and make none."""
