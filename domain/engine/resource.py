"""How a readable thing is declared: Resource, Field, Link and the kinds of value. Everything that shows a field follows from here.

A column is invisible until a Field names it. Type and nullability come from the column, meaning, scope and filters from the declaration.
A link is declared once, on the side that holds the key; `link_up` makes the reverse.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
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
    Numeric,
    SmallInteger,
    String,
    Table,
    Uuid,
)
from sqlalchemy.types import TypeEngine

from domain.engine.access import Reach, Scope
from domain.engine.ids import parse_id, type_number

MAX_TEXT = 2000
"""Characters of the longest text that is written or compared with."""


class Kind(Enum):
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
    instant = datetime.fromisoformat(given)
    return instant.astimezone(UTC) if instant.tzinfo else None


_PARSE: dict[Kind, Callable[[object], Any]] = {
    Kind.ID: lambda given: parse_id(str(given)),
    Kind.TEXT: _parse_text,
    Kind.TEXTS: _parse_text,
    Kind.INTEGER: _parse_integer,
    Kind.NUMBER: _parse_number,
    Kind.BOOLEAN: lambda given: {"true": True, "false": False}.get(json.dumps(given) if isinstance(given, bool) else str(given)),
    Kind.DATE: _parse_date,
    Kind.INSTANT: _parse_instant,
}

_KIND_OF_COLUMN: list[tuple[type[TypeEngine[Any]], Kind]] = [
    (Uuid, Kind.ID),
    (Boolean, Kind.BOOLEAN),
    (BigInteger, Kind.INTEGER),
    (SmallInteger, Kind.INTEGER),
    (Integer, Kind.INTEGER),
    (Numeric, Kind.NUMBER),
    (DateTime, Kind.INSTANT),
    (Date, Kind.DATE),
    (ARRAY, Kind.TEXTS),
    (String, Kind.TEXT),
]


class Filter(Enum):
    """Where a field may be filtered on. What identifies a pupil is never in a URL."""

    ANYWHERE = "anywhere"
    BODY = "body"
    NOWHERE = "nowhere"


@dataclass(frozen=True, eq=False)
class Field:
    """A readable value: a column or an expression over the source's columns, and what it means.

    `scope` is needed beyond the resource's own, tested per row: where it is not held the value is null. A subquery in the expression
    must `correlate_except` its own tables.
    """

    expression: ColumnElement[Any]
    doc: str
    scope: Scope | None = None
    filter: Filter = Filter.ANYWHERE
    sortable: bool = True
    nullable: bool | None = None

    def __post_init__(self) -> None:
        if not any(isinstance(self.expression.type, type_) for type_, _ in _KIND_OF_COLUMN):
            raise TypeError(f"a field cannot be of type {self.expression.type!r}: {self.doc}")

    @property
    def kind(self) -> Kind:
        return next(kind for type_, kind in _KIND_OF_COLUMN if isinstance(self.expression.type, type_))

    @property
    def may_be_null(self) -> bool:
        if self.scope is not None or self.nullable is None:
            return self.scope is not None or not isinstance(self.expression, Column) or bool(self.expression.nullable)
        return self.nullable


@dataclass(frozen=True, eq=False)
class Link:
    """From a row to a row (or rows) of another resource: pairs of (my column, their column) that must be equal."""

    target: str
    on: tuple[tuple[Column[Any], Column[Any]], ...]
    doc: str
    many: bool = False
    reverse: str | None = None
    reverse_doc: str = ""
    nullable: bool = True


Picked: TypeAlias = tuple[tuple[Column[Any], Any], ...]
"""Columns of a source and the values that pick one row."""


@dataclass(frozen=True, eq=False)
class Resource:
    """A readable noun. `order` names the source's columns that order a list when nothing else does, and make its cursors."""

    name: str
    plural: str
    doc: str
    source: Table
    scope: Scope
    order: tuple[str, ...]
    reach: Reach
    fields: Mapping[str, Field]
    links: Mapping[str, Link] = field(default_factory=dict)
    type_number: int | None = None
    identified_by: Callable[[str], Picked | None] | None = None

    @property
    def type_name(self) -> str:
        return self.name[0].upper() + self.name[1:]

    @property
    def has_id(self) -> bool:
        """Whether a row can be asked for by its id."""
        return self.type_number is not None or self.identified_by is not None

    def identify(self, given: str) -> Picked | None:
        """What picks the row with this id, or None where the text cannot be an id of this resource."""
        if self.identified_by is not None:
            return self.identified_by(given)
        parsed = parse_id(given)
        if parsed is None or type_number(parsed) != self.type_number:
            return None
        return ((self.source.c.id, parsed),)


def link_up(resources: Iterable[Resource]) -> dict[str, Resource]:
    """The catalogue by name, with the reverse of every link; raises ValueError where a link leads nowhere or a name is taken."""
    catalogue = {resource.name: resource for resource in resources}
    links: dict[str, dict[str, Link]] = {name: dict(resource.links) for name, resource in catalogue.items()}
    for resource in catalogue.values():
        for name, link in resource.links.items():
            if link.target not in catalogue:
                raise ValueError(f"{resource.name}.{name} links to {link.target}, which is not declared")
            if link.reverse is not None:
                if link.reverse in links[link.target] or link.reverse in catalogue[link.target].fields:
                    raise ValueError(f"{link.target}.{link.reverse} is declared twice")
                swapped = tuple((theirs, mine) for mine, theirs in link.on)
                links[link.target][link.reverse] = Link(resource.name, swapped, link.reverse_doc, many=True)
    return {name: replace(resource, links=links[name]) for name, resource in catalogue.items()}


def closest(name: str, among: Sequence[str]) -> str:
    """' Did you mean X?' where one of the names is near, else nothing."""
    import difflib

    near = difflib.get_close_matches(name[:100], among, n=1)  # a name of megabytes would take seconds
    return f" Did you mean {near[0]}?" if near else ""
