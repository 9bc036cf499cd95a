"""From Selections to one SQL statement whose columns are JSON texts, one a root, ready for the socket.

Every level of nesting is a subquery that first picks its page of rows (reach, filters, keyset, order, limit) and then writes them as JSON text: text
concatenation costs a fifth of json_build_object. The statement sets the caller's row-level-security context itself, in a subquery that the rest
is joined to laterally, so that it runs first.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnClause,
    ColumnElement,
    Date,
    DateTime,
    FromClause,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    false,
    func,
    literal_column,
    or_,
    select,
    table,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.sql.elements import ExpressionClauseList
from sqlalchemy.sql.operators import concat_op
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.sql.visitors import iterate, replacement_traverse
from sqlalchemy.types import TypeEngine

from domain.access.reach import CALLER, Scope
from domain.declare.resource import DECLARED, Comparison, Field, LabelOf, Link, Resource, ValueType, find_value_type
from domain.read.query import (
    Condition,
    FieldValue,
    FixedText,
    HasNextPage,
    HasPreviousPage,
    ListQuery,
    NestedObject,
    OutputFields,
    PageRows,
    Query,
    QueryTemplate,
    RowCursor,
    RowQuery,
    ToMany,
    ToOne,
)
from domain.store.database import Database
from domain.support.lru import Lru

DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]
_numbers = count(1)


def concatenate(parts: Sequence[ColumnElement[str]]) -> ColumnElement[str]:
    """One text of several; those in a row that are fixed become one, since each costs PostgreSQL and the compiler a step."""
    flat: list[ColumnElement[str]] = []
    for part in parts:
        for inner in part.clauses if isinstance(part, ExpressionClauseList) and part.operator is concat_op else (part,):
            if flat and inner in _fixed and flat[-1] in _fixed:
                flat[-1] = quote(_fixed[flat[-1]] + _fixed[inner])
            else:
                flat.append(inner)
    return flat[0] if len(flat) == 1 else ExpressionClauseList(concat_op, *flat, type_=Text)


def quote(text: str) -> ColumnElement[str]:
    """A text in SQL. Only declared names, GraphQL names and punctuation come here, never a value."""
    quoted: ColumnElement[str] = literal_column("'" + text.replace("'", "''") + "'", Text)
    _fixed[quoted] = text
    return quoted


_fixed: WeakKeyDictionary[ColumnElement[str], str] = WeakKeyDictionary()
"""The texts that are fixed, of what has been made so far."""


@dataclass(frozen=True, eq=False)
class Statement:
    """A compiled statement: SQL, and its bind names by position with the values that never change. `fragments` read the texts of the references that
    its markers stand for; `is_uniform` says that it relies on Uniform, and answers in a column of its own whether that still holds; `has_state` that it
    tells in another what all that it answers depends on."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]
    fragments: "Statement | None" = None
    is_uniform: bool = False
    has_state: bool = False
    number: int = field(default_factory=_numbers.__next__)
    """Of this plan and no other: what is kept by it need not keep the plan."""

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """`values` are the caller and whatever else differs between requests of this shape."""
        return [values[name] if name in values else self.constants[name] for name in self.names]

    async def run(self, database: Database, values: Mapping[str, Any]) -> list[Any]:
        """The columns of the one row."""
        return list(await database.read(self.sql, *self.arguments(values)) or ())


statements: Lru[tuple[QueryTemplate, frozenset[str] | None], Statement] = Lru("statements", 12_000_000, beyond=DECLARED)


def compile_query(shape: QueryTemplate, scopes: frozenset[str] | None = None) -> Statement:
    """The plan of a shape, for a caller whose every place gives these scopes; compiled once, since writing the SQL costs tens of milliseconds and
    running it one."""
    key = shape, scopes
    return statements.get(key) or statements.put(key, _compile(shape.roots, scopes))


def _compile(shapes: tuple[Query, ...], scopes: frozenset[str] | None) -> Statement:
    if scopes is None:
        compiler = _SqlWriter()
        return make_statement([compiler.root(root) for root in shapes])
    narrow = bool(rows_versioned_by_school(shapes))
    compiler = _SqlWriter(scopes, narrow=narrow)
    columns = [compiler.root(root) for root in shapes]
    of_reach = _INSTALLATION_VERSION if narrow else concatenate([_INSTALLATION_VERSION, quote("."), _REACH_VERSION])
    state = of_reach if all(map(is_versioned, shapes)) else None
    return make_statement(columns, fragments=list(compiler.fragments.values()), snapshot=True, state=state)


def is_versioned(root: Query) -> bool:
    """Whether every change of what is asked for is counted in a version."""
    return root.resource.versioned and all(
        resource.versioned for _, resource in _walk_links(root.items if isinstance(root, ListQuery) else root.row)
    )


def rows_versioned_by_school(shapes: tuple[Query, ...]) -> tuple[RowQuery, ...]:
    """What tells the state by itself: the rows alone, where each root is one and all that is asked for is at its place; else nothing but the reach."""
    rows = [root for root in shapes if isinstance(root, RowQuery) and all(link.reached for link, _ in _walk_links(root.row))]
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


def make_statement(
    columns: Sequence[ColumnElement[Any]],
    *,
    fragments: Sequence[ColumnElement[Any]] = (),
    snapshot: bool = False,
    state: ColumnElement[Any] | None = None,
) -> Statement:
    """The statement that sets the caller's context, then computes these columns; for Uniform whether it holds, and for fragments their version."""
    context = select(func.set_config(literal_column("'markonce.caller'"), cast(CALLER, Text), literal_column("true")).label("s"))
    c = context.offset(literal_column("0")).subquery("c")
    named = [column.label(f"r{i}") for i, column in enumerate(columns)]
    if snapshot:
        named.append(_SNAPSHOT_HOLDS.label("snapshot"))
    if state is not None:
        named.append(state.label("state"))
    if fragments:
        named.append(_LABELS_VERSION.label("version"))
    body = select(*named).where(c.c.s.is_not(None)).offset(literal_column("0")).correlate(c).lateral("x")
    compiled = select(*body.c).select_from(c.join(body, true())).compile(dialect=DIALECT)
    names: list[str] = list(compiled.positiontup or ())
    texts = make_statement([*fragments, _LABELS_VERSION]) if fragments else None
    return Statement(compiled.string, tuple(names), compiled.params, texts, snapshot, state is not None)


_clients = table("clients", column("id", Uuid), column("reach_version", BigInteger))
_versions = table("data_versions", column("name", Text), column("version", BigInteger))
_school_versions = table("school_versions", column("tenant_id", Uuid), column("school_id", Uuid), column("version", BigInteger))
_UNTIL = bindparam("until", type_=DateTime(timezone=True))
_SNAPSHOT_HOLDS = (
    select((_clients.c.reach_version == bindparam("reach_version", type_=BigInteger)) & (_UNTIL.is_(None) | (func.now() < _UNTIL)))
    .where(_clients.c.id == CALLER)
    .scalar_subquery()
)
_INSTALLATION_VERSION = concatenate(
    [
        cast(select(func.sum(_versions.c.version)).scalar_subquery(), Text),
        literal_column("'.'", Text),
        cast(cast(func.timezone(literal_column("'Europe/London'"), func.now()), Date), Text),
    ]
)
"""What every answer depends on: the references, the register and the day."""
_REACH_VERSION = cast(func.reach_state(bindparam("tenants", type_=ARRAY(Uuid))), Text)
_LABELS_VERSION = select(_versions.c.version).where(_versions.c.name == literal_column("'references'")).scalar_subquery()


def move_to_source(expression: ColumnElement[Any], source: Table, target: FromClause) -> ColumnElement[Any]:
    """The expression with the source's columns taken from `target`. What it looks up by itself in the same table, by an alias, it still does."""

    def replace(element: Any, **_: Any) -> Any:
        if getattr(element, "element", None) is source:
            return element
        if element is source:
            return target
        if getattr(element, "table", None) is source:
            return target.c[element.key]
        return None

    adapted: ColumnElement[Any] = replacement_traverse(expression, {}, replace)
    return adapted


def find_columns(expression: ColumnElement[Any], source: Table) -> set[str]:
    """The source's columns that an expression holds."""
    return {str(element.key) for element in iterate(expression) if isinstance(element, ColumnClause) and element.table is source}


def write_json(field_kind: ValueType, expression: ColumnElement[Any]) -> ColumnElement[str]:
    """A value's JSON text."""
    if field_kind in (ValueType.INTEGER, ValueType.NUMBER, ValueType.BOOLEAN):
        return cast(expression, Text)
    if field_kind in (ValueType.ID, ValueType.DATE) and isinstance(expression.type, Uuid | Date):
        return concatenate([quote('"'), cast(expression, Text), quote('"')])  # nothing to escape, and a third of the time
    return cast(func.to_json(expression), Text)


class _SqlWriter:
    """Writes the SQL of shapes. Pages are numbered in the order Prepared meets them.

    With `scopes`, every place within the caller's reach gives these: then no row is asked for them, and what a link leads to is not looked for in
    reach again. The values of references are then written as markers, in the order in which `fragments` are.
    """

    def __init__(self, scopes: frozenset[str] | None = None, *, narrow: bool = False) -> None:
        self.narrow = narrow
        self.fragments: dict[Any, ColumnElement[Any]] = {}
        self._scopes = scopes
        self._pages = 0
        self._aliases = 0
        self._marked = False
        """Whether what is being written has markers whose tenant must be told."""

    def root(self, root: Query) -> ColumnElement[Any]:
        if isinstance(root, ListQuery):
            return self.page(root, lambda source: [])
        picked = [(column, f"picked_{no}_{i}") for i, (column, no) in enumerate(root.picked_by)]
        return self.single(
            root.resource,
            root.row,
            lambda source: [source.c[c.key] == bindparam(name, type_=c.type) for c, name in picked] or [false()],
        )

    def alias(self, table: Table) -> NamedFromClause[Any]:
        """Named as no alias without a name is (pupils_1): a field's expression may look into its own table."""
        self._aliases += 1
        return table.alias(f"{table.name}{self._aliases}")

    def has(self, scope: Scope | None) -> bool:
        """Whether every row within reach is reached with the scope."""
        return scope is None or (self._scopes is not None and scope in self._scopes)

    def within(self, resource: Resource, source: FromClause, link: Link | None) -> list[ColumnElement[bool]]:
        """The row is within the caller's reach."""
        if not self.has(resource.scope):
            return [move_to_source(resource.reach(resource.scope), resource.source, source)]
        return [] if link is not None and link.reached else [move_to_source(resource.reach(None), resource.source, source)]

    def value(self, resource: Resource, field: Field, source: FromClause) -> ColumnElement[Any]:
        """A field's value where the caller holds its scope at the row's school, else null."""
        expression = field.expression
        if field.scope != resource.scope and not self.has(field.scope):
            assert field.scope is not None
            expression = case((resource.reach(field.scope), expression), else_=None)
        return move_to_source(expression, resource.source, source)

    def single(
        self,
        resource: Resource,
        items: OutputFields,
        on: Callable[[FromClause], list[ColumnElement[bool]]],
        link: Link | None = None,
    ) -> ColumnElement[Any]:
        source = self.alias(resource.source)
        text = self.row(items, resource, source, None, link)
        if self.narrow and link is None:
            text = concatenate([_write_school_version(source), text])
        return (
            select(text)
            .select_from(source)
            .where(*on(source), *self.within(resource, source, link))
            .limit(literal_column("1"))
            .correlate_except(source)
            .scalar_subquery()
        )

    def page(
        self, selection: ListQuery, on: Callable[[FromClause], list[ColumnElement[bool]]], link: Link | None = None
    ) -> ColumnElement[Any]:
        resource, no = selection.resource, self._pages
        source = self.alias(resource.source if link is None or link.source is None else link.source)
        self._pages += 1
        first = bindparam(f"first_{no}", type_=Integer)
        asked = [
            (self.value(resource, order.field, source).label(f"key{i}"), order.descending)
            for i, order in enumerate(selection.order)
        ]
        keys = [(label.element, descending) for label, descending in asked]
        keys += [(source.c[name], resource.descending) for name in resource.order]
        where = [*on(source), *self.within(resource, source, link)]
        for name, argument in link.arguments.items() if link is not None else ():
            where.append(argument.condition(source.c, bindparam(f"given_{no}_{name}", type_=argument.type)))
        where += [
            write_condition(self.value(resource, c.field, source), c, f"where_{no}_{i}") for i, c in enumerate(selection.where)
        ]
        if selection.after is not None:
            assert isinstance(selection.after, tuple)
            where.append(write_keyset(keys, selection.after, f"after_{no}"))
        ordering = [_order_descending(key) if descending else key.asc() for key, descending in keys]
        number = func.row_number().over(order_by=ordering).label("n")
        is_last = func.lead(literal_column("1")).over(order_by=ordering).is_(None).label("is_last")
        needed = {"tenant_id", *resource.order, *self.list_columns(resource, selection.items)}
        picked = select(*(c for c in source.c if c.key in needed), *(label for label, _ in asked), number, is_last)
        page = (
            picked.where(*where)
            .order_by(*ordering)
            .limit(first + literal_column("1"))
            .correlate_except(source)
            .subquery(f"{source.name}p")
        )
        within = page.c.n <= first
        places = [page.c[label.name] for label, _ in asked] + [page.c[name] for name in resource.order]
        # the order of the page once more: PostgreSQL sees that the rows have it already
        again = [_order_descending(key) if down else key.asc() for key, (_, down) in zip(places, keys, strict=True)]

        def place() -> ColumnElement[str]:
            array = func.json_build_array(*(cast(key, Text) for key in places))
            return write_placeholder(
                f"~{no}:", func.encode(func.convert_to(cast(array, Text), literal_column("'UTF8'")), literal_column("'hex'"))
            )

        def page_item(item: Any) -> ColumnElement[str]:
            match item:
                case PageRows(row=row):
                    text = self.row(row, resource, page, place, link)
                    rows = func.string_agg(text, aggregate_order_by(literal_column("','"), *again)).filter(within)
                    return concatenate([quote("["), func.coalesce(rows, quote("")), quote("]")])
                case HasNextPage():
                    return case((func.count() > first, quote("true")), else_=quote("false"))
                case HasPreviousPage():
                    return quote("false" if selection.after is None else "true")
                case RowCursor(first=of_first):
                    its = page.c.n == literal_column("1") if of_first else or_(page.c.n == first, page.c.is_last)
                    return func.coalesce(func.max(place()).filter(within, its), quote("null"))
                case NestedObject(items=items):
                    return self.object(items, page_item)
                case FixedText(text=text):
                    return quote(f'"{text}"')
            raise TypeError(f"{item} does not stand in a page")

        answer = select(self.object(selection.items, page_item)).select_from(page)
        # one row, whatever is asked for: also a page of which only __typename is
        return answer.having(func.count() >= literal_column("0")).correlate_except(page).scalar_subquery()

    def list_columns(self, resource: Resource, items: OutputFields) -> set[str]:
        """The columns that a row of these items is written from and that its links start at. No other is read: a view has those that its table had
        when it was made."""
        names: set[str] = set()
        for _, item in items:
            match item:
                case FieldValue(field=field):
                    names |= find_columns(field.expression, resource.source)
                    if field.scope != resource.scope and not self.has(field.scope):
                        names |= find_columns(resource.reach(field.scope), resource.source)
                case ToOne(link=link) | ToMany(link=link):
                    names |= {here.key for here, _ in link.on}
                case PageRows(row=inner) | NestedObject(items=inner):
                    names |= self.list_columns(resource, inner)
        return names

    def row(
        self,
        items: OutputFields,
        resource: Resource,
        source: FromClause,
        place: Callable[[], ColumnElement[str]] | None,
        link: Link | None,
    ) -> ColumnElement[str]:
        """A row's text. Where it has markers of references, they stand between markers of its tenant and of its end, unless that is the tenant of the
        row it is nested in."""
        before, self._marked = self._marked, False
        text = self.object(items, lambda item: self.row_item(item, resource, source, place))
        if link is not None and any(here.key == there.key == "tenant_id" for here, there in link.on):
            self._marked = self._marked or before
            return text
        marked, self._marked = self._marked, before
        return concatenate([write_placeholder("@", cast(source.c.tenant_id, Text)), text, _END_OF_ROW]) if marked else text

    def object(self, items: OutputFields, write: Callable[[Any], ColumnElement[str]]) -> ColumnElement[str]:
        parts: list[ColumnElement[str]] = []
        for i, (key, item) in enumerate(items):
            parts += [quote(f'{"," if i else "{"}"{key}":'), write(item)]
        return concatenate([*parts, quote("}")]) if parts else quote("{}")

    def row_item(
        self, item: Any, resource: Resource, source: FromClause, place: Callable[[], ColumnElement[str]] | None
    ) -> ColumnElement[str]:
        match item:
            case FieldValue(field=field):
                if isinstance(field.shown, LabelOf) and (text := self.looked_up(field.shown, field, resource, source)) is not None:
                    return text
                text = write_json(field.kind, self.value(resource, field, source))
                return func.coalesce(text, quote("null")) if field.may_be_null else text
            case FixedText(text=literal_text):
                return quote(f'"{literal_text}"')
            case RowCursor() if place is not None:
                return place()
            case NestedObject(items=items):
                return self.object(items, lambda i: self.row_item(i, resource, source, place))
            case ToOne(link=link, resource=target, row=row):
                if (text := self.referred(link, target, row, source)) is not None:
                    return text
                return func.coalesce(self.single(target, row, _make_join(link, source), link), quote("null"))
            case ToMany(link=link, selection=selection):
                return self.page(selection, _make_join(link, source), link)
        raise TypeError(f"{item} does not stand in a row")

    def looked_up(self, lookup: LabelOf, field: Field, resource: Resource, source: FromClause) -> ColumnElement[str] | None:
        """The marker of a value of a reference, where the caller may see it without asking the row."""
        if self._scopes is None or (field.scope != resource.scope and not self.has(field.scope)):
            return None
        keys = [theirs.key for _, theirs in lookup.on[1:]]

        def text(t: FromClause) -> ColumnElement[str]:
            return func.coalesce(write_json(find_value_type(t.c[lookup.column].type), t.c[lookup.column]), quote("null"))

        return self.marked(
            (lookup.table, lookup.column),
            lookup.table,
            keys,
            text,
            [move_to_source(m, resource.source, source) for m, _ in lookup.on[1:]],
        )

    def referred(self, link: Link, target: Resource, items: OutputFields, source: FromClause) -> ColumnElement[str] | None:
        """The marker of a linked row of a reference, likewise."""
        if self._scopes is None or not (target.reference and link.reached and self.has(target.scope)):
            return None
        if not all(
            isinstance(item, FixedText) or (isinstance(item, FieldValue) and self.has(item.field.scope)) for _, item in items
        ):
            return None
        pairs = [(here, there) for here, there in link.on if there.key != "tenant_id"]

        def text(t: FromClause) -> ColumnElement[str]:
            return self.object(items, lambda item: self.row_item(item, target, t, None))

        return self.marked(
            (target.name, items), target.source, [t.key for _, t in pairs], text, [source.c[h.key] for h, _ in pairs]
        )

    def marked(
        self,
        what: Any,
        table: Table,
        keys: list[str],
        text: Callable[[FromClause], ColumnElement[str]],
        mine: list[ColumnElement[Any]],
    ) -> ColumnElement[str]:
        """The marker of a fragment, null without a number."""
        if what not in self.fragments:
            t = self.alias(table)
            number = concatenate([quote(f"{len(self.fragments)}:"), *_join_with_dots([t.c[key] for key in keys])])
            rows = select(func.json_build_array(number, text(t)).label("row")).where(
                t.c.tenant_id == bindparam("tenant", type_=Uuid)
            )
            every = rows.subquery("every")
            listed = select(func.coalesce(cast(func.json_agg(every.c.row), Text), quote("[]"))).scalar_subquery()
            self.fragments[what] = listed
        self._marked = True
        number = concatenate(_join_with_dots(mine))
        return func.coalesce(write_placeholder(f"{list(self.fragments).index(what)}:", number), quote("null"))


def _join_with_dots(numbers: list[ColumnElement[Any]]) -> list[ColumnElement[str]]:
    texts = [cast(number, Text) for number in numbers]
    return [part for i, text in enumerate(texts) for part in ([quote("."), text] if i else [text])]


def write_placeholder(kind: str, text: ColumnElement[Any]) -> ColumnElement[str]:
    """What is put in place once the bytes are there (Prepared, References): U+0001 stands in no JSON text that PostgreSQL writes."""
    return concatenate([literal_column(f"E'\\x01{kind}'", Text), text, literal_column("E'\\x01'", Text)])


_END_OF_ROW = literal_column(r"E'\x01/\x01'", Text)
"""Of a row that told its tenant."""


def _write_school_version(source: FromClause) -> ColumnElement[str]:
    """Tells the tenant and school of a row, and the school's version: of a guest, whose school is beyond the reach and not seen, that of the whole reach."""
    its = (_school_versions.c.tenant_id == source.c.tenant_id) & (_school_versions.c.school_id == source.c.school_id)
    version = select(cast(_school_versions.c.version, Text)).where(its).scalar_subquery()
    return write_placeholder(
        "=",
        concatenate(
            [*_join_with_dots([source.c.tenant_id, source.c.school_id]), quote("."), func.coalesce(version, _REACH_VERSION)]
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
    snapshot=True,
    state=_INSTALLATION_VERSION,
)
"""Tells the version of a school, as `_place_version` does, where it is known that a row was there. It still is there: what moves a row changes both places."""


_COMPARE = {Comparison.GTE: operator.ge, Comparison.GT: operator.gt, Comparison.LTE: operator.le, Comparison.LT: operator.lt}


def write_condition(expression: ColumnElement[Any], condition: Condition, bind: str) -> ColumnElement[bool]:
    """The expression equals the value bound, or one of them, or compares with it; a list holds one of them."""
    type_: TypeEngine[Any] = expression.type
    if isinstance(type_, ARRAY):
        return cast(expression, ARRAY(Text)).op("&&", is_comparison=True)(bindparam(bind, type_=ARRAY(Text)))
    if isinstance(type_, SmallInteger | Numeric):  # a filter may be any number, whatever the column holds
        type_ = Integer() if isinstance(type_, SmallInteger) else Numeric()
    if condition.comparison is not None:
        compared: ColumnElement[bool] = _COMPARE[condition.comparison](expression, bindparam(bind, type_=type_))
        return compared
    if condition.values == ("one",):
        return expression == bindparam(bind, type_=type_)
    return expression == any_(bindparam(bind, type_=ARRAY(type_)))


def write_keyset(keys: list[tuple[ColumnElement[Any], bool]], after: tuple[str | None, ...], bind: str) -> ColumnElement[bool]:
    """Rows that come after a place, whose values are bound as text. Nulls come last in either direction."""
    places = [
        None if value is None else cast(bindparam(f"{bind}_{i}", type_=Text), key.type)
        for i, ((key, _), value) in enumerate(zip(keys, after, strict=True))
    ]
    if None not in after and not any(descending for _, descending in keys) and all(_is_never_null(key) for key, _ in keys):
        return tuple_(*(key for key, _ in keys)) > tuple_(*(place for place in places if place is not None))
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (key, descending), place in zip(keys, places, strict=True):
        if place is not None:
            beyond = key < place if descending else key > place
            alternatives.append(and_(*equal, or_(beyond, key.is_(None))))
        equal.append(key.is_(None) if place is None else key == place)
    return or_(*alternatives)


def _order_descending(key: ColumnElement[Any]) -> ColumnElement[Any]:
    """Nulls last; where there are none it is not said, since an index read backwards would not serve it."""
    return key.desc() if _is_never_null(key) else key.desc().nulls_last()


def _is_never_null(key: ColumnElement[Any]) -> bool:
    return getattr(key, "nullable", True) is False


def _make_join(link: Link, source: FromClause) -> Callable[[FromClause], list[ColumnElement[bool]]]:
    return lambda target: [target.c[there.key] == source.c[here.key] for here, there in link.on]
