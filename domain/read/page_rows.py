"""Selects the rows of a page: reach, filters, keyset, order and limit."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    Subquery,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.sql.selectable import NamedFromClause

from domain.declare.arguments import Argument
from domain.declare.resource import LabelOf, Link
from domain.declare.value_types import ValueType
from domain.read.columns import bind_relations
from domain.read.conditions import order_descending, write_filter, write_keyset
from domain.read.query import ONE_VALUE, Condition, ListQuery
from domain.read.tenants import NAME, list_by_tenant, select_tenants, write_position_in_tenant
from domain.read.values import ValueWriter

On = Callable[[FromClause], list[ColumnElement[bool]]]
"""The conditions that join a relation to the row that it is linked from."""
Keys = list[tuple[ColumnElement[Any], bool]]
"""What rows are sorted by, and whether descending."""
ONE_MORE: ColumnElement[int] = literal_column("1", Integer)


class PageNames(NamedTuple):
    """A page of a query: its number, the link that leads to it, how it is joined, and the tenant of its rows, if one is known."""

    query: ListQuery
    number: int
    on: On
    link: Link | None = None
    tenant: ColumnElement[Any] | None = None

    def _find_as_of(self) -> tuple[str, Argument] | None:
        """Returns the argument that says as of which day the rows are read, with its name, if it is sent."""
        sent = dict(self.query.arguments)
        arguments = self.query.resource.list_arguments(self.link).items()
        return next(((name, argument) for name, argument in arguments if argument.source is not None and name in sent), None)

    @property
    def table(self) -> Table:
        if (as_of := self._find_as_of()) is not None and as_of[1].source is not None:
            return as_of[1].source
        return self.query.resource.source if self.link is None or self.link.source is None else self.link.source

    @property
    def day(self) -> ColumnElement[Any] | None:
        """The day as of which the rows are read, if they are."""
        if (as_of := self._find_as_of()) is None:
            return None
        return bindparam(f"argument_{self.number}_{as_of[0]}", type_=as_of[1].type)

    @property
    def first(self) -> ColumnElement[int]:
        return bindparam(f"first_{self.number}", type_=Integer)

    @property
    def after(self) -> tuple[str | None, ...] | None:
        after = self.query.after
        assert after is None or isinstance(after, tuple)
        return after


class SelectedRows(NamedTuple):
    """The rows of a page and one more, with their numbers, and what they are sorted by."""

    rows: Subquery
    keys: list[ColumnElement[Any]]
    ordering: list[ColumnElement[Any]]


class PageRowsWriter(ValueWriter):
    """Writes the SQL that selects the rows of pages."""

    def select_rows(self, page: PageNames) -> SelectedRows:
        """Selects one row more than the page has, to see whether there is a next page."""
        source = self._make_page_source(page)
        if self._asks_by_tenant(page):
            return self._select_by_tenant(page, source)
        sorts, columns = self._list_sorts(page.query, source), self._list_columns(page.query, source)
        keys = [(label.element, descending) for label, descending in sorts] + _list_order(page.query, source)
        where = self._list_conditions(page, source, page.tenant)
        if page.after is not None:
            without = None if self.tenant is None else find_tenant_key(page.query)
            where.append(write_keyset(keys, page.after, f"after_{page.number}", without))
        selected = select(*columns, *(label for label, _ in sorts), *_number(keys)).where(*where)
        return _take(page, source, selected.order_by(*_order(keys)).correlate_except(source), sorts, keys)

    def _make_page_source(self, page: PageNames) -> NamedFromClause[Any]:
        source = self.make_alias(page.table)
        if page.day is not None:
            self.days[source] = page.day
        return source

    def _asks_by_tenant(self, page: PageNames) -> bool:
        """Whether a page is read tenant by tenant: where several may be within reach, and nothing else says which rows they are."""
        return page.link is None and self.tenant is None and list_by_tenant(page.query.resource) and not _names_rows(page.query)

    def _select_by_tenant(self, page: PageNames, source: NamedFromClause[Any]) -> SelectedRows:
        """Selects the rows of one tenant after the other, until there are enough. In another order than by tenant, selects as many of each
        tenant as the page may need, and merges them."""
        resource, bind = page.query.resource, f"after_{page.number}"
        first_key, is_default = find_tenant_key(page.query), not page.query.order
        begins_at = f"{bind}_{first_key}" if page.after is not None and is_default else None
        tenants = select_tenants(begins_at, descending=resource.descending)
        tenant = tenants.c[NAME]
        sorts, order = self._list_sorts(page.query, source), _list_order(page.query, source, tenant)
        keys = [(label.element, descending) for label, descending in sorts] + order
        where = [source.c[NAME] == tenant, *self._list_conditions(page, source, tenant)]
        own_keys = [key for key in keys if key[0] is not tenant]
        if page.after is not None:
            columns = [key for key, _ in own_keys]
            in_tenant = write_position_in_tenant(tenant, columns, bind, first_key or 0, descending=resource.descending)
            where.append(in_tenant if is_default and in_tenant is not None else write_keyset(keys, page.after, bind))
        own = select(*self._list_columns(page.query, source), *(label for label, _ in sorts)).where(*where)
        taken = own.order_by(*_order(own_keys)).limit(page.first + ONE_MORE).correlate_except(source).lateral(f"{source.name}t")
        shown = [(taken.c[label.name], descending) for label, descending in sorts] + _list_order(page.query, taken, tenant)
        selected = select(tenant, *(c for c in taken.c if c.key != NAME), *_number(shown)).select_from(tenants.join(taken, true()))
        return _take(page, source, selected.order_by(*_order(shown)).correlate_except(tenants, taken), sorts, shown)

    def write_count(self, page: PageNames) -> ColumnElement[str]:
        """Returns the JSON text of the number of rows on all pages: those of the page's conditions, whatever its cursor."""
        every = self._make_page_source(page)
        if self._asks_by_tenant(page):
            tenants = select_tenants()
            of_tenants = tenants.join(every, every.c[NAME] == tenants.c[NAME])
            conditions = self._list_conditions(page, every, tenants.c[NAME])
            counted = select(func.count()).select_from(of_tenants).where(*conditions).correlate_except(tenants, every)
        else:
            conditions = self._list_conditions(page, every, page.tenant)
            counted = select(func.count()).select_from(every).where(*conditions).correlate_except(every)
        return cast(counted.scalar_subquery(), Text)

    def _list_sorts(self, query: ListQuery, source: FromClause) -> list[tuple[Any, bool]]:
        """Returns the values of the fields that a list is sorted by, labelled, and whether each is descending."""
        return [
            (
                self.write_value(query.resource, order.field, source, self.find_field(order.field, source).sort_expression).label(
                    f"key{i}"
                ),
                order.descending,
            )
            for i, order in enumerate(query.order)
        ]

    def _list_columns(self, query: ListQuery, source: FromClause) -> list[ColumnElement[Any]]:
        """Returns the columns that the page's text needs."""
        names = {NAME, *query.resource.order, *(query.resource.collected or ()), *self.list_columns(query.resource, query.fields)}
        return [c for c in source.c if c.key in names]

    def _list_conditions(self, page: PageNames, source: FromClause, tenant: ColumnElement[Any] | None) -> list[ColumnElement[bool]]:
        """Returns the conditions of the page's rows without its keyset. `tenant` is that of the rows, if one is known."""
        own = self.bind(source) if page.link is None else []
        return [
            *page.on(source),
            *own,
            *self.write_reach(page.query.resource, source, page.link),
            *self._write_filters(page, source, tenant),
        ]

    def _write_filters(self, page: PageNames, source: FromClause, tenant: ColumnElement[Any] | None) -> list[ColumnElement[bool]]:
        """Returns the conditions of the link, of its arguments, of the choices and of the filters."""
        query, link, resource = page.query, page.link, page.query.resource
        conditions = [] if link is None or link.condition is None else [link.condition(source.c)]
        sent = dict(query.arguments)
        conditions += [
            argument.condition(source.c, bindparam(f"argument_{page.number}_{name}", type_=argument.type))
            for name, argument in resource.list_arguments(link).items()
            if argument.same_as is None and (argument.source is None or name in sent)
        ]
        conditions = [bind_relations(condition, source, self.tenant) for condition in conditions]
        declared = resource.list_choices(link)
        chosen = [condition for name, value in query.choices if (condition := declared[name].conditions[value]) is not None]
        conditions += [self.move(condition, resource, source) for condition in chosen]
        for i, named in enumerate(query.where):
            bind, label = f"where_{page.number}_{i}", named.field.source
            write_value = partial(self.write_value, resource, named.field, source)
            if tenant is not None and named.field.find is not None:
                conditions.append(write_value(named.field.find(tenant, partial(_match_code, named, bind))))
            elif tenant is not None and isinstance(label, LabelOf) and label.has_unique_codes:
                conditions.append(write_value(find_by_code(label, named, bind, tenant)))
            else:
                conditions.append(write_filter(named, bind, write_value))
        return conditions


def find_by_code(label: LabelOf, condition: Condition, bind: str, tenant: ColumnElement[Any]) -> ColumnElement[bool]:
    """Returns the condition that a row has the number of the code that a filter names. The number is looked up once for the tenant,
    so that an index of the rows serves the filter."""
    found: ColumnElement[bool] = true()
    for row_column, lookup_column in (*label.on[1:], *label.implied):
        t = label.table.alias()
        is_named = _match_code(condition, bind, t.c[label.column])
        numbers = select(t.c[lookup_column.key]).where(t.c[NAME] == tenant, is_named).correlate_except(t).scalar_subquery()
        is_one = condition.values == ONE_VALUE
        found &= row_column == (numbers if is_one else any_(func.array(numbers, type_=ARRAY(row_column.type))))
    return found


def _match_code(condition: Condition, bind: str, code: ColumnElement[Any]) -> ColumnElement[bool]:
    """Returns the condition that a code is one of those that a filter names."""
    if condition.values == ONE_VALUE:
        return code == bindparam(bind, type_=Text)
    return code == any_(bindparam(bind, type_=ARRAY(Text)))


def find_tenant_key(query: ListQuery) -> int | None:
    """Returns the place of the tenant in the positions of a list, as cursors have them; None where the order does not name it."""
    return len(query.order) + query.resource.order.index(NAME) if NAME in query.resource.order else None


def _names_rows(query: ListQuery) -> bool:
    """Whether a filter names rows by ids, which are unique over all tenants and have indexes of their own."""
    return any(condition.field.kind is ValueType.ID and condition.comparison is None for condition in query.where)


def _list_order(query: ListQuery, source: FromClause, tenant: ColumnElement[Any] | None = None) -> Keys:
    """Returns the keys of the default order, those of `source` but for the tenant, if one is given."""
    resource = query.resource
    return [(tenant if tenant is not None and name == NAME else source.c[name], resource.descending) for name in resource.order]


def _order(keys: Keys) -> list[ColumnElement[Any]]:
    return [order_descending(key) if descending else key.asc() for key, descending in keys]


def _number(keys: Keys) -> list[ColumnElement[Any]]:
    """Returns the number of each row in the order, and whether it is the last one."""
    number = func.row_number().over(order_by=_order(keys)).label("row_no")
    return [number, func.lead(literal_column("1")).over(order_by=_order(keys)).is_(None).label("is_last")]


def _take(page: PageNames, source: NamedFromClause[Any], selected: Any, sorts: list[tuple[Any, bool]], keys: Keys) -> SelectedRows:
    rows = selected.limit(page.first + ONE_MORE).subquery(f"{source.name}p")
    shown = [rows.c[label.name] for label, _ in sorts] + [rows.c[name] for name in page.query.resource.order]
    # the same order once more: PostgreSQL sees that the rows have it already
    ordering = [order_descending(key) if down else key.asc() for key, (_, down) in zip(shown, keys, strict=True)]
    return SelectedRows(rows, shown, ordering)
