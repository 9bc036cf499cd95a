"""From Selections to one SQL statement whose columns are JSON texts, one a root, ready for the socket.

Every level of nesting is a subquery that first picks its page of rows (reach, filters, keyset, order, limit) and then writes them as JSON text: text
concatenation costs a fifth of json_build_object. The statement sets the caller's row-level-security context itself, in a subquery that the rest
is joined to laterally, so that it runs first.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    FromClause,
    Integer,
    Table,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.sql.visitors import iterate, replacement_traverse

from domain.declare.resource import DECLARED, Field, LabelOf, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.value_types import find_value_type
from domain.read.conditions import make_join, order_descending, write_condition, write_keyset
from domain.read.json_sql import concatenate, join_with_dots, quote, write_json, write_placeholder
from domain.read.query import (
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
    ToMany,
    ToOne,
)
from domain.read.statement import Statement, make_statement
from domain.read.versions import INSTALLATION_VERSION, REACH_STATE, is_versioned, rows_versioned_by_school, write_school_version
from domain.support.lru import Lru

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
    of_reach = INSTALLATION_VERSION if narrow else concatenate([INSTALLATION_VERSION, quote("."), REACH_STATE])
    state = of_reach if all(map(is_versioned, shapes)) else None
    return make_statement(columns, label_queries=list(compiler.label_queries.values()), snapshot=True, state=state)


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


class _SqlWriter:
    """Writes the SQL of shapes. Pages are numbered in the order Prepared meets them.

    With `scopes`, every place within the caller's reach gives these: then no row is asked for them, and what a link leads to is not looked for in
    reach again. The values of references are then written as markers, in the order in which `label_queries` are.
    """

    def __init__(self, scopes: frozenset[str] | None = None, *, narrow: bool = False) -> None:
        self.narrow = narrow
        self.label_queries: dict[Any, ColumnElement[Any]] = {}
        self._scopes = scopes
        self._pages = 0
        self._aliases = 0
        self._marked = False
        """Whether what is being written has markers whose tenant must be told."""

    def root(self, root: Query) -> ColumnElement[Any]:
        if isinstance(root, ListQuery):
            return self.page(root, lambda source: [])
        picked = [(column, f"picked_{no}_{i}") for i, (column, no) in enumerate(root.key_values)]
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
        return [] if link is not None and link.target_in_reach else [move_to_source(resource.reach(None), resource.source, source)]

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
            text = concatenate([write_school_version(source), text])
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
        ordering = [order_descending(key) if descending else key.asc() for key, descending in keys]
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
        again = [order_descending(key) if down else key.asc() for key, (_, down) in zip(places, keys, strict=True)]

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
                if (
                    isinstance(field.source, LabelOf)
                    and (text := self.looked_up(field.source, field, resource, source)) is not None
                ):
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
                return func.coalesce(self.single(target, row, make_join(link, source), link), quote("null"))
            case ToMany(link=link, selection=selection):
                return self.page(selection, make_join(link, source), link)
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
        if self._scopes is None or not (target.is_lookup_table and link.target_in_reach and self.has(target.scope)):
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
        if what not in self.label_queries:
            t = self.alias(table)
            number = concatenate([quote(f"{len(self.label_queries)}:"), *join_with_dots([t.c[key] for key in keys])])
            rows = select(func.json_build_array(number, text(t)).label("row")).where(
                t.c.tenant_id == bindparam("tenant", type_=Uuid)
            )
            every = rows.subquery("every")
            listed = select(func.coalesce(cast(func.json_agg(every.c.row), Text), quote("[]"))).scalar_subquery()
            self.label_queries[what] = listed
        self._marked = True
        number = concatenate(join_with_dots(mine))
        return func.coalesce(write_placeholder(f"{list(self.label_queries).index(what)}:", number), quote("null"))


_END_OF_ROW = literal_column(r"E'\x01/\x01'", Text)
"""Of a row that told its tenant."""
