"""How a readable thing is declared: Resource, Field, Link and the kinds of value. Everything that shows a field follows from here.

A column is invisible until a Field names it. Type and nullability come from the column, meaning, scope and filters from the declaration.
A link is declared once, on the side that holds the key; `link_up` makes the reverse.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum, StrEnum
from functools import cached_property
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Uuid,
    select,
)
from sqlalchemy.types import TypeEngine

from domain.access.reach import RowPredicate, Scope
from domain.declare.ids import parse_id, type_number

MAX_TEXT = 2000
"""Characters of the longest text that is written or compared with."""


class ValueType(Enum):
    """What a value is: its name in GraphQL, and how it is told in words when a value is not one."""

    ID = ("ID", "an id")
    TEXT = ("String", f"text of at most {MAX_TEXT:,} characters")
    TEXTS = ("[String!]", "a list of texts")
    INTEGER = ("Int", "a whole number of at most 32 bits")
    NUMBER = ("Float", "a number")
    BOOLEAN = ("Boolean", "true or false")
    DATE = ("Date", "a date such as 2026-09-01")
    INSTANT = ("DateTime", "an instant with its offset, such as 2026-09-01T08:30:00Z")

    @property
    def graphql(self) -> str:
        return str(self.value[0])

    @property
    def words(self) -> str:
        return str(self.value[1])

    def parse(self, given: object) -> Any:
        """The Python value of a text (or of a JSON value, from GraphQL); ValueError in words for anything else."""
        try:
            parsed = _PARSE[self](given)
        except (ValueError, InvalidOperation, OverflowError, TypeError):
            parsed = None
        if parsed is None:
            raise ValueError(f"is not {self.words}")
        return parsed


def _parse_text(given: object) -> str | None:
    if not isinstance(given, str) or len(given) > MAX_TEXT or re.search("[\0\ud800-\udfff]", given):
        return None
    return given


def _parse_integer(given: object) -> int | None:
    if isinstance(given, bool) or not re.fullmatch(r"-?[0-9]{1,10}", str(given), re.ASCII):
        return None
    number = int(str(given))
    return number if -(2**31) <= number < 2**31 else None


def _parse_number(given: object) -> Decimal | None:
    if isinstance(given, bool) or not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", str(given), re.ASCII):
        return None
    return Decimal(str(given))


def _parse_date(given: object) -> date | None:
    return date.fromisoformat(given) if isinstance(given, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", given, re.ASCII) else None


def _parse_instant(given: object) -> datetime | None:
    if not isinstance(given, str) or not re.match(r"\d{4}-\d\d-\d\dT", given, re.ASCII):
        return None
    instant = datetime.fromisoformat(given.replace(" ", "+"))  # in a URL, an offset's + that was not escaped arrives as a space
    return instant.astimezone(UTC) if instant.tzinfo else None


_PARSE: dict[ValueType, Callable[[object], Any]] = {
    ValueType.ID: lambda given: parse_id(str(given)),
    ValueType.TEXT: _parse_text,
    ValueType.TEXTS: _parse_text,
    ValueType.INTEGER: _parse_integer,
    ValueType.NUMBER: _parse_number,
    ValueType.BOOLEAN: lambda given: {"true": True, "false": False}.get(
        json.dumps(given) if isinstance(given, bool) else str(given)
    ),
    ValueType.DATE: _parse_date,
    ValueType.INSTANT: _parse_instant,
}

_TYPE_OF_COLUMN: list[tuple[type[TypeEngine[Any]], ValueType]] = [
    (Uuid, ValueType.ID),
    (Boolean, ValueType.BOOLEAN),
    (BigInteger, ValueType.INTEGER),
    (SmallInteger, ValueType.INTEGER),
    (Integer, ValueType.INTEGER),
    (Numeric, ValueType.NUMBER),
    (DateTime, ValueType.INSTANT),
    (Date, ValueType.DATE),
    (ARRAY, ValueType.TEXTS),
    (String, ValueType.TEXT),
]


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


def find_value_type(type_: TypeEngine[Any]) -> ValueType:
    return next(kind for known, kind in _TYPE_OF_COLUMN if isinstance(type_, known))


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

    shown: ColumnElement[Any] | LabelOf
    doc: str
    scope: Scope | None = None
    filter: Filter = Filter.ANYWHERE
    nullable: bool | None = None
    costly: bool = False

    def __post_init__(self) -> None:
        if not any(isinstance(self.expression.type, type_) for type_, _ in _TYPE_OF_COLUMN):
            raise TypeError(f"a field cannot be of type {self.expression.type!r}: {self.doc}")

    @cached_property
    def expression(self) -> ColumnElement[Any]:
        return self.shown.expression if isinstance(self.shown, LabelOf) else self.shown

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
    them; `shows` names costly fields that are worth their cost here. `reached`: who reaches the row at a place reaches there what it leads to,
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
    shows: tuple[str, ...] = ()
    reached: bool = False
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

    `gives` are links that another resource gets: they lead here, so that they are declared here.
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
    gives: Mapping[str, Mapping[str, Link]] = field(default_factory=dict)
    type_number: int | None = None
    parse_key: Callable[[str], KeyValues | None] | None = None
    descending: bool = False
    reference: bool = False
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


def link_resources(resources: Iterable[Resource]) -> dict[str, Resource]:
    """The catalogue by name, with the reverse of every link; raises ValueError where a link leads nowhere or a name is taken."""
    catalogue = {resource.name: resource for resource in resources}
    links: dict[str, dict[str, Link]] = {name: {} for name in catalogue}

    def add(of: str, name: str, link: Link) -> None:
        if not {of, link.target} <= catalogue.keys():
            raise ValueError(f"{of}.{name} links to {link.target}, and one of them is not declared")
        if name in links[of] or name in catalogue[of].fields:
            raise ValueError(f"{of}.{name} is declared twice")
        if not {*link.arguments}.isdisjoint(catalogue[link.target].fields):
            raise ValueError(f"{of}.{name} has an argument with the name of a field of {link.target}")
        links[of][name] = link

    for resource in catalogue.values():
        for name, link in resource.links.items():
            add(resource.name, name, link)
    for resource in catalogue.values():
        for of, given in resource.gives.items():
            for name, link in given.items():
                add(of, name, link)
        for link in resource.links.values():
            if link.reverse is not None:
                swapped = tuple((theirs, mine) for mine, theirs in link.on)
                add(
                    link.target,
                    link.reverse,
                    Link(resource.name, swapped, link.reverse_doc, many=True, reached=link.source_in_reach),
                )
    return {name: replace(resource, links=links[name]) for name, resource in catalogue.items()}
