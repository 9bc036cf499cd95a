"""Declares what can be read: Resource, Field and Link (arguments.py: Argument and Choice). REST, GraphQL and OpenAPI are derived from these
declarations.

A column is private until a Field names it. The column gives the type and nullability; the Field gives the meaning,
scope and filters. A link is declared once, on the side that has the foreign key; `catalogue.link_resources` adds the
reverse.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    Column,
    ColumnElement,
    FetchedValue,
    MetaData,
    Table,
    collate,
    func,
    select,
)

from domain.declare.arguments import Argument, Choice
from domain.declare.ids import get_type_number, parse_id
from domain.declare.predicates import RowPredicate, TenantRows
from domain.declare.ranges import Comparison, find_nearest
from domain.declare.scopes import Scope
from domain.declare.value_types import MAX_TEXT, TYPE_OF_COLUMN, ValueType, find_value_type
from domain.declare.vocabulary import ANY, Codes, Vocabulary
from domain.support.texts import find_unreadable, is_clean


class Filter(Enum):
    """Where a field may be used as a filter. A value that identifies a person never appears in a URL.

    By a field with NOWHERE, a list is neither filtered nor sorted.
    """

    ANYWHERE = "anywhere"
    BODY = "body"
    NOWHERE = "nowhere"


class TextRange(NamedTuple):
    """The texts from `low` to `high`, by code points. Where one text is meant, it is both."""

    low: str
    high: str


@dataclass(frozen=True, eq=False)
class TextMatch:
    """How a filter finds a text that can be written in several ways.

    `parse` makes the range to look for from the filter's value; it raises ValueError. `find_one` makes the SQL condition
    of one range from its bounds; `find_many` that of several from an array of the lower bounds and an array of those
    lower bounds that are the beginning of what is looked for.
    """

    parse: Callable[[object], TextRange]
    find_one: Callable[[ColumnElement[str], ColumnElement[str]], ColumnElement[bool]]
    find_many: Callable[[ColumnElement[Any], ColumnElement[Any]], ColumnElement[bool]]


@dataclass(frozen=True, eq=False)
class Narrowing:
    """That the values of another field say which values a field may have: the kind of a characteristic those of its value.

    `by` is the other field. `check` takes what a filter by the field was parsed to and the values of a filter by the other
    one; it raises ValueError if none of these goes with it.
    """

    by: str
    check: Callable[[Any, tuple[Any, ...]], None]


@dataclass(frozen=True, eq=False)
class LabelOf:
    """A value of a lookup table, found by its key: the code or name of a subject, aspect, window or grade.

    `on` are pairs of (column of the row, column of the lookup table); the first pair is the tenant. `column` is the
    value. `otherwise` is that of a row whose key is null; without it, null. `codes` are the codes that it is one of.
    `implied` are further pairs of columns, which are equal where those of `on` are.
    """

    table: Table
    on: tuple[tuple[Any, Any], ...]
    column: str
    otherwise: ColumnElement[Any] | None = None
    codes: Codes | None = None
    implied: tuple[tuple[Any, Any], ...] = ()

    @property
    def has_unique_codes(self) -> bool:
        """Whether the value is a code that one row of the tenant has, so that a code has one number."""
        return len(self.on) == len(("tenant", "number")) and self.column == "code" and self.otherwise is None

    @property
    def expression(self) -> ColumnElement[Any]:
        t = self.table.alias()
        matches = (t.c[lookup_column.key] == row_column for row_column, lookup_column in self.on)
        value = select(t.c[self.column]).where(*matches).correlate_except(t).scalar_subquery()
        return value if self.otherwise is None else func.coalesce(value, self.otherwise)


@dataclass(frozen=True, eq=False)
class Field:
    """A readable value: a column, a label of a lookup table, or an expression over the resource's columns.

    `scope` is needed beyond the resource's own and is tested per row: the value is null where the caller lacks it. A
    subquery in the expression must `correlate_except` its own tables. A `costly` field is left out unless the request
    names it or a link `also_shows` it. Lists are sorted by the `sort_expression`, for which the `sort_key` may be
    another expression, and filters use the `match`. `vocabulary` parses what writes and filters send for it; `codes` are
    looked up. A field of text without either holds any text that can be read, of at most `longest` characters; `is_prose`
    says that it may hold formatting characters too. `members` are the texts that the object of a JSONB column
    holds, by name, with what each means. `narrowing` is by another field. `find` makes the condition that a row has a value, from the
    tenant and the condition on the value, so that what is behind the value is looked up once. `reach` is where the scope is
    needed, if that is not at the row's school. `on_day` makes the source from a day, for rows that are read as of one.
    """

    source: ColumnElement[Any] | LabelOf
    doc: str
    scope: Scope | None = None
    filter: Filter = Filter.ANYWHERE
    nullable: bool | None = None
    costly: bool = False
    sort_key: ColumnElement[Any] | None = None
    match: TextMatch | None = None
    vocabulary: Vocabulary | None = None
    codes: Codes | None = None
    is_prose: bool = False
    longest: int = MAX_TEXT
    narrowing: Narrowing | None = None
    members: Mapping[str, str] = field(default_factory=dict)
    reach: RowPredicate | None = None
    find: Callable[[ColumnElement[Any], Callable[[ColumnElement[Any]], ColumnElement[bool]]], ColumnElement[bool]] | None = None
    on_day: Callable[[ColumnElement[Any]], ColumnElement[Any]] | None = None

    def __post_init__(self) -> None:
        if self.codes is None and isinstance(self.source, LabelOf):
            object.__setattr__(self, "codes", self.source.codes)
        if self.members and self.filterable:
            raise TypeError(f"an object is no filter: {self.doc}")
        if not any(isinstance(self.expression.type, type_) for type_, _ in TYPE_OF_COLUMN):
            raise TypeError(f"a field cannot be of type {self.expression.type!r}: {self.doc}")

    @cached_property
    def expression(self) -> ColumnElement[Any]:
        return self.source.expression if isinstance(self.source, LabelOf) else self.source

    @property
    def kind(self) -> ValueType:
        return find_value_type(self.expression.type)

    @property
    def sort_expression(self) -> ColumnElement[Any]:
        """What lists are sorted by: the same order on every PostgreSQL, whatever the collation of its database.

        A text without a `sort_key` is sorted by code points.
        """
        if self.sort_key is not None:
            return self.sort_key
        return collate(self.expression, "C") if self.kind is ValueType.TEXT else self.expression

    def parse_filter(self, raw: object) -> Any:
        """Returns the value that a filter sends for this field. Raises ValueError that says why it can be none."""
        value = self.kind.parse(raw)
        if value == "":
            raise ValueError("is empty")
        if isinstance(value, str) and len(value.removesuffix("*")) > self.longest:  # which stands for the rest of a name
            raise ValueError(f"is none that it can have. It is text of at most {self.longest:,} characters")
        if isinstance(value, str) and not is_clean(value):
            unreadable = find_unreadable(value, may_be_formatted=self.is_prose)
            if unreadable is not None:
                raise ValueError(f"is none that it can have. {unreadable.removesuffix('.')}")
        if self.vocabulary is not None:
            try:
                value = self.vocabulary.parse(value)
            except ValueError as problem:
                raise ValueError(f"is none that it can have. {str(problem).removesuffix('.')}") from None
        return value if self.match is None else self.match.parse(value)

    def find_nearest(self, comparison: Comparison, bound: Any) -> Any:
        """Returns the value nearest to a bound that a range filter leaves, if the field can have it. Raises OverflowError."""
        return find_nearest(comparison, bound, self.kind, 0 if self.vocabulary is None else self.vocabulary.decimals)

    def parse_bound(self, comparison: Comparison, raw: object) -> Any:
        """Returns the value that a range filter sends for this field. It may be any that leaves one which the field can have:
        otherwise ValueError says why.
        """
        bound = self.kind.parse(raw)
        vocabulary = self.vocabulary or ANY
        try:
            nearest = self.find_nearest(comparison, bound)
        except OverflowError:
            raise ValueError("leaves no value") from None
        limit = vocabulary.most if comparison.is_lower else vocabulary.least
        if limit is not None and (nearest > limit if comparison.is_lower else nearest < limit):
            raise ValueError(f"leaves no value that it can have. {vocabulary.sentence.removesuffix('.')}")
        return bound

    @property
    def sortable(self) -> bool:
        """Whether a list may be sorted by the field. Values that are lists have no order."""
        return self.filterable and self.kind is not ValueType.TEXTS

    @property
    def filterable(self) -> bool:
        """Whether a list may be filtered by the field, in a body at least."""
        return self.filter is not Filter.NOWHERE

    @property
    def comparable(self) -> bool:
        """Whether a range filter is allowed: on numbers, dates and instants."""
        return self.filterable and self.kind in (ValueType.INTEGER, ValueType.NUMBER, ValueType.DATE, ValueType.INSTANT)

    @property
    def may_be_null(self) -> bool:
        if self.scope is not None or self.nullable is None:
            return self.scope is not None or not isinstance(self.expression, Column) or bool(self.expression.nullable)
        return self.nullable


@dataclass(frozen=True, eq=False)
class Link:
    """A link from a row to one or many rows of another resource. `on` are pairs of (own column, target column) that
    must be equal.

    `source` replaces the target's table by a view with the same columns, such as the latest rows. `condition` makes a
    further condition on the columns of the linked rows. `also_shows` names costly fields that are shown by default
    through this link. `target_in_reach` declares that whoever reaches the row at a school also reaches the linked rows
    there; `source_in_reach` declares the same of the reverse link.
    """

    target: str
    on: tuple[tuple[Column[Any], Column[Any]], ...]
    doc: str
    many: bool = False
    reverse: str | None = None
    reverse_doc: str = ""
    nullable: bool = True
    source: Table | None = None
    condition: Callable[[Any], ColumnElement[bool]] | None = None
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    choices: Mapping[str, Choice] = field(default_factory=dict)
    also_shows: tuple[str, ...] = ()
    target_in_reach: bool = False
    source_in_reach: bool = False


def add_column(table: Table, name: str, type_: Any, *, nullable: bool = True) -> Column[Any]:
    """Adds a column to a declared table, and returns it. A field that no statement names needs no other declaration.

    Statements made of all columns of a table leave it to the database, as they do every column with a default of the server.
    """
    column: Column[Any] = Column(name, type_, nullable=nullable, server_default=FetchedValue())
    table.append_column(column)
    for view in table.info.get("views", ()):
        add_column(view, name, type_, nullable=nullable)
    return column


def declare_view(name: str, table: Table, *own_columns: Column[Any]) -> Table:
    """Returns a view with the columns of a table and further columns of its own. A migration creates the view."""
    view = Table(name, MetaData(), *(Column(c.key, c.type, nullable=bool(c.nullable)) for c in table.columns), *own_columns)
    table.info.setdefault("views", []).append(view)
    return view


KeyValues: TypeAlias = tuple[tuple[Column[Any], Any], ...]
"""Columns of a table and the values that select one row."""


@dataclass(frozen=True, eq=False)
class Resource:
    """A readable noun. `order` names the unique columns of the default order, which is reversed if `descending`;
    cursors hold them.

    `reach` is the condition for its rows; `condition` is a further one that is not about access. `links_from_others`
    are links of other resources (by name) that lead to this one. `parse_key` parses an id that is not a UUID with the
    `type_number`.
    """

    name: str
    plural: str
    doc: str
    source: Table
    scope: Scope
    order: tuple[str, ...]
    reach: RowPredicate
    fields: Mapping[str, Field]
    condition: ColumnElement[bool] | None = None
    also_needs: tuple[Scope, ...] = ()
    """The scopes that its `reach` asks for beside `scope`."""
    or_scopes: tuple[Scope, ...] = ()
    """Scopes of which one suffices in place of `scope`. Which rows each of them sees, `visibility` says."""
    visibility: Callable[[Callable[[Scope | None], bool]], ColumnElement[bool]] | None = None
    """Makes the condition that the caller sees a row, whichever link leads there; it asks whether a scope is held at every school."""
    links: Mapping[str, Link] = field(default_factory=dict)
    choices: Mapping[str, Choice] = field(default_factory=dict)
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """Of every list of it, but of links with a view or condition of their own."""
    links_from_others: Mapping[str, Mapping[str, Link]] = field(default_factory=dict)
    type_number: int | None = None
    parse_key: Callable[[str], KeyValues | None] | None = None
    descending: bool = False
    is_lookup_table: bool = False
    """Whether a tenant has few rows, which seldom change."""
    collected: tuple[str, str, str, str] | None = None
    """The columns with the school, window, subject and aspect of the group of collected values that a row is of. Who is given the
    row has read of the group."""
    versioned: bool = True
    """Whether every change of a row increments the data version of each school whose readers see the row."""
    slug: str | None = None
    """The name in URLs, where it is not the plural."""
    named_by: str | None = None
    """The column by which a URL may name a row in place of its id."""
    is_looked_up: bool = False
    """Whether lists have POST /lookup although no field needs it: for long filters."""
    is_register: bool = False
    """Whether its rows are of the public register, which the installation reaches as a whole."""
    may_be_of_installation: bool = False
    """Whether the installation itself may own a row, as a tenant does."""
    weight: int = 0
    """The cost of a page beyond the number of its values (`read.checks`), for values that are computed."""

    @property
    def is_of_schools(self) -> bool:
        """Whether every row is a school's, so that a client which reaches no school can reach none."""
        return not isinstance(self.reach, TenantRows)

    @property
    def type_name(self) -> str:
        return self.name[0].upper() + self.name[1:]

    @property
    def path(self) -> str:
        """The URL of the list, below the base of the API."""
        return self.slug or self.plural

    @property
    def has_id(self) -> bool:
        """Whether a row can be read by its id."""
        return self.type_number is not None or self.parse_key is not None

    @property
    def has_lookup(self) -> bool:
        """Whether a field may be a filter in a body only, so that lists need POST /lookup."""
        return self.is_looked_up or any(field.filter is Filter.BODY for field in self.fields.values())

    def list_choices(self, link: Link | None = None) -> Mapping[str, Choice]:
        """Returns the choices of a list of this resource, or of one that the link leads to."""
        return self.choices if link is None else {name: link.choices.get(name, choice) for name, choice in self.choices.items()}

    def list_arguments(self, link: Link | None = None) -> Mapping[str, Argument]:
        """Returns the arguments of a list, as `list_choices` does."""
        if link is None:
            return self.arguments
        return link.arguments if link.source is not None or link.condition is not None else {**self.arguments, **link.arguments}

    def choose(
        self, values: Mapping[str, str], filters: Iterable[str], link: Link | None = None, *, is_lookup: bool = False
    ) -> tuple[tuple[str, str], ...]:
        """Returns the value of every choice of a list with these filters; `values` are those that the request names."""
        names = {*filters}
        is_lookup = is_lookup or any(self.fields[name].filter is Filter.BODY for name in names)

        def find_default(choice: Choice) -> str:
            return choice.default if choice.widened_by.isdisjoint(names) and not is_lookup else choice.widest

        return tuple((name, values.get(name) or find_default(choice)) for name, choice in self.list_choices(link).items())

    def identify(self, text: str) -> KeyValues | None:
        """Returns the key values of the row with this id, or None for a text that cannot be an id of this resource."""
        if self.parse_key is not None:
            return self.parse_key(text)
        parsed = parse_id(text)
        if parsed is None or get_type_number(parsed) != self.type_number:
            return None
        return ((self.source.c.id, parsed),)


DECLARED = (Resource, Field, Link, Argument, Choice, Column)
"""The classes of the catalogue. Caches do not count their instances, since all requests share them."""
