"""From Selections to one SQL statement whose columns are JSON texts, one a root, ready for the socket.

Every level of nesting is a subquery that first picks its page of rows (reach, filters, keyset, order, limit) and then writes them as JSON text: text
concatenation costs a fifth of json_build_object. The statement sets the caller's row-level-security context itself, in a subquery that the rest
is joined to laterally, so that it runs first.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeEngine

from domain.engine.access import CALLER
from domain.engine.cursor import Cursors, new_nonce
from domain.engine.database import Database
from domain.engine.resource import Comparison, Field, Kind, Link, Resource
from domain.engine.selection import (
    Condition,
    Cursor,
    HasBefore,
    HasMore,
    Item,
    Items,
    Literal,
    Many,
    Nested,
    One,
    Root,
    Rows,
    Selection,
    Single,
    Value,
)

DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]
NONCE = bindparam("nonce", type_=Text)


@dataclass(frozen=True)
class Plan:
    """A compiled statement: SQL, its bind names by position with the values that never change, and what its cursors are bound to."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    async def run(self, database: Database, values: Mapping[str, Any]) -> list[Any]:
        """The columns of the one row. `values` are the caller and whatever else differs between requests of this shape."""
        row = await database.read(self.sql, *(values[name] if name in values else self.constants[name] for name in self.names))
        return list(row or ())


@lru_cache(maxsize=1000)
def plan(shapes: tuple[Root, ...]) -> Plan:
    """The plan of a shape; compiled once, since writing the SQL costs tens of milliseconds and running it one."""
    compiler = _Compiler()
    return finish([compiler.root(root) for root in shapes])


async def read(roots: Sequence[Root], database: Database, caller: UUID, cursors: Cursors) -> list[bytes | None]:
    """The JSON text of each root, or None for a single row that is not there. One data statement."""
    values: dict[str, Any] = {"caller": caller, "nonce": new_nonce()}
    fingerprints: list[str] = []
    shapes = tuple(_shape(root, values, fingerprints) for root in roots)
    texts = await plan(shapes).run(database, values)
    bodies = [None if text is None else text.encode() for text in texts]
    if any(body is not None and values["nonce"].encode() in body for body in bodies):
        return [body and cursors.seal_all(body, values["nonce"], caller, fingerprints) for body in bodies]
    return bodies


def _shape(root: Root, values: dict[str, Any], fingerprints: list[str]) -> Root:
    """The root without what differs between requests, which goes into `values` under the names the compiler gives its binds."""
    if isinstance(root, Single):
        no = len(values)
        values.update({f"picked_{no}_{i}": value for i, (_, value) in enumerate(root.picked_by)})
        return replace(
            root, picked_by=tuple((column, no) for column, _ in root.picked_by), row=_shape_items(root.row, values, fingerprints)
        )
    no = len(fingerprints)
    fingerprints.append(root.fingerprint)
    values[f"first_{no}"] = root.first
    where = []
    for i, condition in enumerate(root.where):
        one = len(condition.values) == 1 and condition.field.kind is not Kind.TEXTS
        values[f"where_{no}_{i}"] = condition.values[0] if one else list(condition.values)
        where.append(replace(condition, values=("one" if one else "many",)))
    after = None
    if root.after is not None:
        values.update({f"after_{no}_{i}": value for i, value in enumerate(root.after)})
        after = tuple(None if value is None else "" for value in root.after)
    items = _shape_items(root.items, values, fingerprints)
    return replace(root, items=items, where=tuple(where), first=0, after=after, given=())


def _shape_items(items: Items, values: dict[str, Any], fingerprints: list[str]) -> Items:
    def shape(item: Item) -> Item:
        match item:
            case Many(link=link, selection=selection):
                given = dict(selection.given)
                values.update({f"given_{len(fingerprints)}_{name}": given.get(name) for name in link.arguments})
                shaped = _shape(selection, values, fingerprints)
                assert isinstance(shaped, Selection)
                return Many(link, shaped)
            case One(link=link, resource=resource, row=row):
                return One(link, resource, _shape_items(row, values, fingerprints))
            case Rows(row=row):
                return Rows(_shape_items(row, values, fingerprints))
            case Nested(items=nested):
                return Nested(_shape_items(nested, values, fingerprints))
        return item

    return tuple((key, shape(item)) for key, item in items)


def finish(columns: Sequence[ColumnElement[Any]]) -> Plan:
    """The statement that sets the caller's context, then computes these columns."""
    context = select(func.set_config(literal_column("'markonce.caller'"), cast(CALLER, Text), literal_column("true")).label("s"))
    c = context.offset(literal_column("0")).subquery("c")
    named = [column.label(f"r{i}") for i, column in enumerate(columns)]
    body = select(*named).where(c.c.s.is_not(None)).offset(literal_column("0")).correlate(c).lateral("x")
    compiled = select(*body.c).select_from(c.join(body, true())).compile(dialect=DIALECT)
    names: list[str] = list(compiled.positiontup or ())
    return Plan(compiled.string, tuple(names), compiled.params)


def adapt(expression: ColumnElement[Any], source: Table, target: FromClause) -> ColumnElement[Any]:
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


def concatenate(parts: Sequence[ColumnElement[str]]) -> ColumnElement[str]:
    return reduce(lambda left, right: left.concat(right), parts)


def quote(text: str) -> ColumnElement[str]:
    """A text in SQL. Only declared names, GraphQL names and punctuation come here, never a value."""
    return literal_column("'" + text.replace("'", "''") + "'", Text)


def as_json(field_kind: Kind, expression: ColumnElement[Any]) -> ColumnElement[str]:
    """A value's JSON text."""
    if field_kind in (Kind.INTEGER, Kind.NUMBER, Kind.BOOLEAN):
        return cast(expression, Text)
    return cast(func.to_json(expression), Text)


class _Compiler:
    """Writes the SQL of shapes. Pages are numbered in the order _shape meets them."""

    def __init__(self) -> None:
        self._pages = 0
        self._aliases = 0

    def root(self, root: Root) -> ColumnElement[Any]:
        if isinstance(root, Selection):
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

    def single(self, resource: Resource, items: Items, on: Callable[[FromClause], list[ColumnElement[bool]]]) -> ColumnElement[Any]:
        source = self.alias(resource.source)
        text = self.object(items, lambda item: self.row_item(item, resource, source, None))
        reached = adapt(resource.reach(resource.scope), resource.source, source)
        return (
            select(text)
            .select_from(source)
            .where(*on(source), reached)
            .limit(literal_column("1"))
            .correlate_except(source)
            .scalar_subquery()
        )

    def page(
        self, selection: Selection, on: Callable[[FromClause], list[ColumnElement[bool]]], link: Link | None = None
    ) -> ColumnElement[Any]:
        resource, no = selection.resource, self._pages
        source = self.alias(resource.source if link is None or link.source is None else link.source)
        self._pages += 1
        first = bindparam(f"first_{no}", type_=Integer)
        keys = self.keys(selection, source)
        where = [*on(source), adapt(resource.reach(resource.scope), resource.source, source)]
        for name, argument in link.arguments.items() if link is not None else ():
            where.append(argument.condition(source.c, bindparam(f"given_{no}_{name}", type_=argument.type)))
        where += [matching(masked(resource, c.field, source), c, f"where_{no}_{i}") for i, c in enumerate(selection.where)]
        if selection.after is not None:
            where.append(following(keys, selection.after, f"after_{no}"))
        ordering = [_descending(key) if descending else key.asc() for key, descending in keys]
        picked = select(*source.c, func.row_number().over(order_by=ordering).label("n"), self.place(keys).label("place"))
        page = picked.where(*where).order_by(*ordering).limit(first + 1).correlate_except(source).subquery(f"{source.name}p")
        within = page.c.n <= first

        def place(cursor: ColumnElement[str]) -> ColumnElement[str]:
            return concatenate([quote('"~'), NONCE, quote(f".{no}:"), cursor, quote('~"')])

        def page_item(item: Any) -> ColumnElement[str]:
            match item:
                case Rows(row=row):
                    text = self.object(row, lambda i: self.row_item(i, resource, page, place))
                    rows = func.string_agg(text, aggregate_order_by(literal_column("','"), page.c.n)).filter(within)
                    return concatenate([quote("["), func.coalesce(rows, ""), quote("]")])
                case HasMore():
                    return case((func.count() > first, quote("true")), else_=quote("false"))
                case HasBefore():
                    return quote("false" if selection.after is None else "true")
                case Cursor(first=of_first):
                    order = page.c.n.asc() if of_first else page.c.n.desc()
                    places = func.array_agg(aggregate_order_by(page.c.place, order)).filter(within)
                    return func.coalesce(place(type_coerce(places, ARRAY(Text))[1]), "null")
                case Nested(items=items):
                    return self.object(items, page_item)
                case Literal(text=text):
                    return quote(f'"{text}"')
            raise TypeError(f"{item} does not stand in a page")

        answer = select(self.object(selection.items, page_item)).select_from(page)
        # one row, whatever is asked for: also a page of which only __typename is
        return answer.having(func.count() >= literal_column("0")).correlate_except(page).scalar_subquery()

    def object(self, items: Items, write: Callable[[Any], ColumnElement[str]]) -> ColumnElement[str]:
        parts: list[ColumnElement[str]] = []
        for i, (key, item) in enumerate(items):
            parts += [quote(f'{"," if i else "{"}"{key}":'), write(item)]
        return concatenate([*parts, quote("}")]) if parts else quote("{}")

    def row_item(
        self, item: Any, resource: Resource, source: FromClause, place: Callable[[Any], ColumnElement[str]] | None
    ) -> ColumnElement[str]:
        match item:
            case Value(field=field):
                text = as_json(field.kind, masked(resource, field, source))
                return func.coalesce(text, "null") if field.may_be_null else text
            case Literal(text=literal_text):
                return quote(f'"{literal_text}"')
            case Cursor() if place is not None:
                return place(source.c.place)
            case Nested(items=items):
                return self.object(items, lambda i: self.row_item(i, resource, source, place))
            case One(link=link, resource=target, row=row):
                return func.coalesce(self.single(target, row, _joined(link, source)), "null")
            case Many(link=link, selection=selection):
                return self.page(selection, _joined(link, source), link)
        raise TypeError(f"{item} does not stand in a row")

    def keys(self, selection: Selection, source: FromClause) -> list[tuple[ColumnElement[Any], bool]]:
        """What orders the page: the fields asked for, then the resource's own key, which makes the order total."""
        resource = selection.resource
        asked = [(masked(resource, order.field, source), order.descending) for order in selection.order]
        return asked + [(source.c[name], resource.descending) for name in resource.order]

    def place(self, keys: list[tuple[ColumnElement[Any], bool]]) -> ColumnElement[str]:
        array = func.json_build_array(*(cast(key, Text) for key, _ in keys))
        return func.encode(func.convert_to(cast(array, Text), literal_column("'UTF8'")), literal_column("'hex'"))


def masked(resource: Resource, field: Field, source: FromClause) -> ColumnElement[Any]:
    """A field's value where the caller holds its scope at the row's school, else null."""
    expression = field.expression
    if field.scope is not None and field.scope != resource.scope:
        expression = case((resource.reach(field.scope), expression), else_=None)
    return adapt(expression, resource.source, source)


_COMPARE = {Comparison.GTE: operator.ge, Comparison.GT: operator.gt, Comparison.LTE: operator.le, Comparison.LT: operator.lt}


def matching(expression: ColumnElement[Any], condition: Condition, bind: str) -> ColumnElement[bool]:
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


def following(keys: list[tuple[ColumnElement[Any], bool]], after: tuple[str | None, ...], bind: str) -> ColumnElement[bool]:
    """Rows that come after a place, whose values are bound as text. Nulls come last in either direction."""
    places = [
        None if value is None else cast(bindparam(f"{bind}_{i}", type_=Text), key.type)
        for i, ((key, _), value) in enumerate(zip(keys, after, strict=True))
    ]
    if None not in after and not any(descending for _, descending in keys) and all(_never_null(key) for key, _ in keys):
        return tuple_(*(key for key, _ in keys)) > tuple_(*(place for place in places if place is not None))
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (key, descending), place in zip(keys, places, strict=True):
        if place is not None:
            beyond = key < place if descending else key > place
            alternatives.append(and_(*equal, or_(beyond, key.is_(None))))
        equal.append(key.is_(None) if place is None else key == place)
    return or_(*alternatives)


def _descending(key: ColumnElement[Any]) -> ColumnElement[Any]:
    """Nulls last; where there are none it is not said, since an index read backwards would not serve it."""
    return key.desc() if _never_null(key) else key.desc().nulls_last()


def _never_null(key: ColumnElement[Any]) -> bool:
    return getattr(key, "nullable", True) is False


def _joined(link: Link, source: FromClause) -> Callable[[FromClause], list[ColumnElement[bool]]]:
    return lambda target: [target.c[there.key] == source.c[here.key] for here, there in link.on]
