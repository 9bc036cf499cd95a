"""Compiles queries to one SQL statement whose columns are JSON texts, one for each query.

Each page or row is a subquery, which selects its rows (reach, filters, keyset, order, limit) and then writes them as
JSON by text concatenation. Links are nested subqueries.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Table,
    Text,
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

from domain.declare.resource import DECLARED, Field, LabelOf, Link, Resource
from domain.declare.value_types import find_value_type
from domain.read import placeholders
from domain.read.conditions import make_join
from domain.read.groups_read import write_groups
from domain.read.json_sql import concatenate, join_with_dots, quote, write_json, write_members
from domain.read.known_codes import write_checks
from domain.read.page_rows import On, PageNames, PageRowsWriter
from domain.read.placeholders import write_placeholder
from domain.read.query import (
    FieldValue,
    FixedText,
    HasNextPage,
    HasPreviousPage,
    ListQuery,
    NestedObject,
    ObjectMembers,
    OutputField,
    OutputFields,
    PageRows,
    Query,
    QueryTemplate,
    RowCursor,
    ToMany,
    ToOne,
    TotalCount,
)
from domain.read.statement import INSTALLATION_VERSION, Statement, make_statement
from domain.read.tenants import NAME, TENANT
from domain.read.versions import (
    REACH_DATA_VERSION,
    is_versioned,
    list_rows_versioned_by_school,
    write_school_version,
)
from domain.support.lru import Lru

statements: Lru[tuple[QueryTemplate, frozenset[str] | None, bool, bool], Statement] = Lru("statements", 12_000_000, beyond=DECLARED)


def compile_query(
    template: QueryTemplate,
    scopes: frozenset[str] | None = None,
    *,
    of_one_tenant: bool = False,
    on_installation: bool = False,
) -> Statement:
    """Returns the statement of a template, cached because compiling takes tens of milliseconds and running about one.

    `scopes` are those that the caller's ReachSnapshot has at every school within reach; None compiles without a
    snapshot. `of_one_tenant` says that by the snapshot there is one tenant within reach, whose id is bound;
    `on_installation` that a grant is on the installation, which reaches the register.
    """
    key = template, scopes, of_one_tenant, on_installation
    tenant = TENANT if of_one_tenant else None
    return statements.get(key) or statements.put(key, _compile(template.queries, scopes, tenant, on_installation=on_installation))


def _compile(
    queries: tuple[Query, ...],
    scopes: frozenset[str] | None,
    tenant: ColumnElement[Any] | None,
    *,
    on_installation: bool = False,
) -> Statement:
    name = f"read {' '.join(query.resource.plural for query in queries)}" if queries else "read the version"
    if scopes is None:
        return make_statement([*map(_SqlWriter().write_query, queries), *write_checks(queries, None)], name=name)
    is_versioned_by_school = bool(list_rows_versioned_by_school(queries))
    writer = _SqlWriter(scopes, tenant, is_versioned_by_school=is_versioned_by_school, on_installation=on_installation)
    columns = [*map(writer.write_query, queries), *write_checks(queries, tenant)]
    of_reach = concatenate([INSTALLATION_VERSION, quote("."), REACH_DATA_VERSION])
    data_version = INSTALLATION_VERSION if is_versioned_by_school else of_reach
    return make_statement(
        columns,
        label_queries=list(writer.label_queries.values()),
        checks_snapshot=True,
        data_version=data_version if all(map(is_versioned, queries)) else None,
        name=name,
    )


class _SqlWriter(PageRowsWriter):
    """Writes the SQL of query templates. Pages are numbered in the order of the tree, as PreparedQuery numbers them.

    `scopes` are those that the caller has at every school within reach. Then no row is tested for these scopes, linked
    rows that are within reach by declaration are not tested again, and labels become placeholders, whose texts the
    `label_queries` read.
    """

    def __init__(
        self,
        scopes: frozenset[str] | None = None,
        tenant: ColumnElement[Any] | None = None,
        *,
        is_versioned_by_school: bool = False,
        on_installation: bool = True,
    ) -> None:
        super().__init__(scopes, tenant, on_installation=on_installation)
        self.label_queries: dict[Any, ColumnElement[Any]] = {}
        self._is_versioned_by_school = is_versioned_by_school
        self._pages = 0
        self._has_labels = False
        """Whether the row being written has labels, whose tenant must be known."""

    def write_query(self, query: Query) -> ColumnElement[Any]:
        """Returns the JSON text of a query."""
        if isinstance(query, ListQuery):
            return self.write_page(query, lambda source: [])
        keys = [(column, f"key_{n}_{i}") for i, (column, n) in enumerate(query.key_values)]

        def select_row(source: FromClause) -> list[ColumnElement[bool]]:
            named = [source.c[c.key] == bindparam(name, type_=c.type) for c, name in keys] or [false()]
            return [*self.bind(source), *named]

        return self.write_row(query.resource, query.fields, select_row)

    def write_row(
        self,
        resource: Resource,
        fields: OutputFields,
        on: Callable[[FromClause], list[ColumnElement[bool]]],
        link: Link | None = None,
    ) -> ColumnElement[Any]:
        """Returns the JSON text of the row that the conditions `on` select; NULL if there is none within reach."""
        source = self.make_alias(resource.source)
        text = self.write_row_object(fields, resource, source, None, link)
        if self._is_versioned_by_school and link is None:
            text = concatenate([write_school_version(source, self.tenant), text])
        if resource.collected is not None and fields:  # without any, it is the version alone that is read
            text = concatenate([text, write_groups(resource, source, self.tenant)])
        return (
            select(text)
            .select_from(source)
            .where(*on(source), *self.write_reach(resource, source, link))
            .limit(literal_column("1"))
            .correlate_except(source)
            .scalar_subquery()
        )

    def write_page(
        self, query: ListQuery, on: On, link: Link | None = None, source: FromClause | None = None
    ) -> ColumnElement[Any]:
        """Returns the JSON text of a page; of one that a link leads to, from the row in `source`."""
        resource, page_number = query.resource, self._pages
        tenant = self.tenant
        if tenant is None and link is not None and source is not None:
            tenant = next((source.c[own.key] for own, there in link.on if own.key == there.key == NAME), None)
        names = PageNames(query, page_number, on, link, tenant)
        self._pages += 1
        page, page_keys, page_ordering = self.select_rows(names)
        if names.day is not None:
            self.days[page] = names.day
        on_page = page.c.row_no <= names.first

        def write_cursor() -> ColumnElement[str]:
            array = func.json_build_array(*(cast(key, Text) for key in page_keys))
            position = func.encode(func.convert_to(cast(array, Text), literal_column("'UTF8'")), literal_column("'hex'"))
            return write_placeholder(placeholders.CURSOR + b"%d:" % page_number, position)

        def write_page_field(field: OutputField) -> ColumnElement[str]:
            match field:
                case PageRows(fields=fields):
                    text = self.write_row_object(fields, resource, page, write_cursor, link)
                    rows = func.string_agg(text, aggregate_order_by(literal_column("','"), *page_ordering)).filter(on_page)
                    groups = [] if resource.collected is None else [write_groups(resource, page, self.tenant, on_page)]
                    return concatenate([quote("["), func.coalesce(rows, quote("")), quote("]"), *groups])
                case HasNextPage():
                    return case((func.count() > names.first, quote("true")), else_=quote("false"))
                case HasPreviousPage():
                    return quote("false" if query.after is None else "true")
                case TotalCount():
                    return self.write_count(names)
                case RowCursor(first=of_first):
                    is_row = page.c.row_no == literal_column("1") if of_first else or_(page.c.row_no == names.first, page.c.is_last)
                    return func.coalesce(func.max(write_cursor()).filter(on_page, is_row), quote("null"))
                case NestedObject(fields=fields):
                    return self.write_object(fields, write_page_field)
                case FixedText(text=text):
                    return quote(f'"{text}"')
            raise TypeError(f"{field} is not a field of a page")

        text = select(self.write_object(query.fields, write_page_field)).select_from(page)
        # an aggregate, so that there is one row also for a page of which only __typename is requested
        return text.having(func.count() >= literal_column("0")).correlate_except(page).scalar_subquery()

    def write_row_object(
        self,
        fields: OutputFields,
        resource: Resource,
        source: FromClause,
        write_cursor: Callable[[], ColumnElement[str]] | None,
        link: Link | None,
    ) -> ColumnElement[str]:
        """Returns the JSON object of a row.

        If it has labels, it is enclosed in placeholders of its tenant and its end, unless the row it is nested in has
        the same tenant.
        """
        outer_has_labels, self._has_labels = self._has_labels, False
        text = self.write_object(fields, lambda field: self.write_row_field(field, resource, source, write_cursor))
        if link is not None and any(own.key == target.key == "tenant_id" for own, target in link.on):
            self._has_labels = self._has_labels or outer_has_labels
            return text
        has_labels, self._has_labels = self._has_labels, outer_has_labels
        if not has_labels:
            return text
        return concatenate(
            [write_placeholder(placeholders.TENANT, cast(source.c.tenant_id, Text)), text, placeholders.END_OF_ROW_SQL]
        )

    def write_object(self, fields: OutputFields, write: Callable[[OutputField], ColumnElement[str]]) -> ColumnElement[str]:
        """Returns a JSON object of the fields, each written by `write`."""
        parts: list[ColumnElement[str]] = []
        for i, (key, field) in enumerate(fields):
            parts += [quote(f'{"," if i else "{"}"{key}":'), write(field)]
        return concatenate([*parts, quote("}")]) if parts else quote("{}")

    def write_row_field(
        self,
        field: OutputField,
        resource: Resource,
        source: FromClause,
        write_cursor: Callable[[], ColumnElement[str]] | None,
    ) -> ColumnElement[str]:
        """Returns the JSON text of a field of a row."""
        match field:
            case FieldValue(field=declared):
                if (
                    isinstance(declared.source, LabelOf)
                    and (label := self.write_label(declared.source, declared, resource, source)) is not None
                ):
                    return label
                text = write_json(declared.kind, self.write_value(resource, declared, source))
                return func.coalesce(text, quote("null")) if declared.may_be_null else text
            case ObjectMembers(field=declared, members=members):
                return write_members(self.write_value(resource, declared, source), members)
            case FixedText(text=fixed):
                return quote(f'"{fixed}"')
            case RowCursor() if write_cursor is not None:
                return write_cursor()
            case NestedObject(fields=fields):
                return self.write_object(fields, lambda inner: self.write_row_field(inner, resource, source, write_cursor))
            case ToOne(link=link, resource=target, fields=fields):
                if (label := self.write_linked_label(link, target, fields, source)) is not None:
                    return label
                return func.coalesce(self.write_row(target, fields, make_join(link, source, self.tenant), link), quote("null"))
            case ToMany(link=link, query=query):
                return self.write_page(query, make_join(link, source, self.tenant), link, source)
        raise TypeError(f"{field} is not a field of a row")

    def write_label(self, label: LabelOf, field: Field, resource: Resource, source: FromClause) -> ColumnElement[str] | None:
        """Returns the placeholder of a label; None if the row must be tested for the field's scope."""
        if self._scopes is None or (field.scope != resource.scope and not self.has_everywhere(field.scope)):
            return None

        def write_text(table: FromClause) -> ColumnElement[str]:
            column = table.c[label.column]
            return func.coalesce(write_json(find_value_type(column.type), column), quote("null"))

        otherwise = None
        if label.otherwise is not None:
            otherwise = write_json(field.kind, self.move(label.otherwise, resource, source))
        return self.write_label_placeholder(
            (label.table, label.column),
            label.table,
            [lookup_column.key for _, lookup_column in label.on[1:]],
            write_text,
            [self.move(row_column, resource, source) for row_column, _ in label.on[1:]],
            otherwise,
        )

    def write_linked_label(
        self, link: Link, target: Resource, fields: OutputFields, source: FromClause
    ) -> ColumnElement[str] | None:
        """Returns the placeholder of a linked row of a lookup table, such as a subject; None if it must be read with
        the row.
        """
        if self._scopes is None or not (target.is_lookup_table and link.target_in_reach and self.has_everywhere(target.scope)):
            return None
        if not all(
            isinstance(field, FixedText) or (isinstance(field, FieldValue) and self.has_everywhere(field.field.scope))
            for _, field in fields
        ):
            return None
        pairs = [(own, there) for own, there in link.on if there.key != "tenant_id"]

        def write_text(table: FromClause) -> ColumnElement[str]:
            return self.write_object(fields, lambda field: self.write_row_field(field, target, table, None))

        return self.write_label_placeholder(
            (target.name, fields), target.source, [t.key for _, t in pairs], write_text, [source.c[own.key] for own, _ in pairs]
        )

    def write_label_placeholder(
        self,
        identity: Any,
        table: Table,
        keys: list[str],
        write_text: Callable[[FromClause], ColumnElement[str]],
        numbers: list[ColumnElement[Any]],
        otherwise: ColumnElement[str] | None = None,
    ) -> ColumnElement[str]:
        """Returns the placeholder of a label, or `otherwise` (null) where the row has no number. Adds the label query of this
        identity, if it is new.

        The label query returns the tenant's rows of the lookup table: pairs of the placeholder and the text. `keys` are
        the columns of the lookup table that the row's `numbers` refer to.
        """
        if identity not in self.label_queries:
            t = self.make_alias(table)
            placeholder = concatenate([quote(f"{len(self.label_queries)}:"), *join_with_dots([t.c[key] for key in keys])])
            rows = select(func.json_build_array(placeholder, write_text(t)).label("row")).where(t.c.tenant_id == TENANT)
            every = rows.subquery("every")
            all_rows = select(func.coalesce(cast(func.json_agg(every.c.row), Text), quote("[]"))).scalar_subquery()
            self.label_queries[identity] = all_rows
        self._has_labels = True
        prefix = f"{list(self.label_queries).index(identity)}:".encode()
        return func.coalesce(
            write_placeholder(prefix, concatenate(join_with_dots(numbers))), quote("null") if otherwise is None else otherwise
        )
