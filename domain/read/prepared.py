"""PreparedQuery: a compiled read.

Binds a request's values to the SQL statement, runs it, and replaces the placeholders in the JSON that PostgreSQL
returns (labels, cursors, data versions).
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from domain.access.caller import ReachSnapshot
from domain.access.reach import TOKEN_SCOPES
from domain.access.standing import check_standing
from domain.declare.errors import Invalid
from domain.declare.resource import Link, TextRange
from domain.declare.value_types import ValueType
from domain.read.checks import list_needs
from domain.read.compile import compile_query
from domain.read.contradictions import find_contradictions, find_excluded, list_related
from domain.read.cursors import Cursors
from domain.read.groups_read import GroupsRead, holds_groups, make_groups_read
from domain.read.known_codes import list_coded, make_unknown
from domain.read.labels import SnapshotOutdated, get_label_cache
from domain.read.page_rows import find_tenant_key
from domain.read.placeholders import CURSOR, GROUPS, MARK, SCHOOL
from domain.read.query import (
    MANY_VALUES,
    ONE_VALUE,
    Condition,
    ListQuery,
    NestedObject,
    OutputField,
    OutputFields,
    PageRows,
    Parameter,
    Query,
    QueryTemplate,
    RowQuery,
    ToMany,
    ToOne,
    unwrap_parameter,
)
from domain.read.versions import SCHOOL_VERSION, is_versioned, list_rows_versioned_by_school
from domain.store.database import Database


class ReadResult(NamedTuple):
    """The JSON text of each query, None for a row that does not exist; the data version: while it is the same, so
    are the texts; and the groups of collected values that the texts hold rows of, if they hold any.
    """

    bodies: list[bytes | None]
    version: bytes | None
    groups: GroupsRead | None


class PreparedQuery:
    """Queries of a template and its parameters. Serves every request that differs only in the texts of its parameters.

    It holds no values of parameters. The names of bind parameters are those that read/compile.py writes: first_{page},
    after_{page}_{i}, where_{page}_{i}, where_{page}_{i}_high, argument_{page}_{name} and key_{n}_{i}, where pages are
    numbered in the order of the tree. `scopes` are those of the token of everyone whom it serves.
    """

    def __init__(self, queries: Sequence[Query], scopes: Iterable[str] = ()) -> None:
        self._values: dict[str, Any] = {}
        """By bind name, the values; Parameters among them have none."""
        self._pages: list[ListQuery] = []
        self._cursor_parameters: dict[int, tuple[int, tuple[str | None, ...]]] = {}
        """By page, the index of the text that is its cursor, and which values of the cursor's position are null
        (`_mask_values`).
        """
        self._tenant_keys: list[str] = []
        """The bind names of the tenants in positions that pages follow."""
        self._ranges: list[str] = []
        """The bind names of filters by text ranges."""
        self._excluded: dict[int, tuple[Link | None, list[tuple[str, Condition]]]] = {}
        """By page with choices, the link that leads to it and its filters with their bind names."""
        self._related: list[list[tuple[str, Condition]]] = []
        """Filters that may contradict one another, each with its bind name (contradictions.py)."""
        self.template = QueryTemplate.intern(tuple(self._make_template(query) for query in queries))
        self.holds_groups = holds_groups(self.template.queries)
        """Whether a body may hold rows of groups of collected values."""
        self._is_versioned = all(map(is_versioned, self.template.queries))
        self._version_template = QueryTemplate.intern(list_rows_versioned_by_school(self.template.queries))
        """Reads the data version alone."""
        self._values[TOKEN_SCOPES.key] = sorted(scopes)
        self._is_coded = bool(list_coded(self._pages))
        self._parameters = {name: value for name, value in self._values.items() if _has_parameter(value)}
        self._fixed_fingerprints = [
            None if any(map(_has_parameter, _list_filter_values(page))) else page.fingerprint() for page in self._pages
        ]

    async def read(
        self,
        database: Database,
        caller: UUID,
        cursors: Cursors,
        snapshot: ReachSnapshot | None = None,
        texts: Sequence[str] = (),
    ) -> ReadResult:
        """Runs the queries as one statement, and a second one if the snapshot is out of date.

        `texts` are the texts of the request's parameters. Raises ValueError or BadRequest if one of them cannot be
        decoded; ClientRevoked and Forbidden if the client has been revoked, or a grant has ended, since the snapshot.
        """
        values, fingerprints = self._bind(caller, cursors, texts)
        if snapshot is None:
            return await self._run(database, values, fingerprints, cursors, None, self.template)
        with suppress(SnapshotOutdated):  # the reach has changed, or a row has a label that is not within it
            return await self._run(database, values, fingerprints, cursors, snapshot, self.template)
        try:
            result = await self._run(database, values, fingerprints, cursors, None, self.template)
        except Invalid:  # codes are unknown to a client that has been revoked, since it reaches none
            await self._check_standing(database, caller)
            raise
        # after the read, so that rows are not missing from it because of what ended meanwhile; values of fields are null
        await self._check_standing(database, caller)
        return result

    async def _check_standing(self, database: Database, caller: UUID) -> None:
        needs = {what: need for what, need in list_needs(self.template.queries).items() if "." not in what}
        await check_standing(database, caller, needs)

    async def read_version(
        self,
        database: Database,
        caller: UUID,
        cursors: Cursors,
        snapshot: ReachSnapshot,
        texts: Sequence[str] = (),
        cached: bytes | None = None,
    ) -> bytes | None:
        """Returns the data version that a response would have now, by a small statement; None if it has none.

        `cached` is the version of a cached response. If it holds the version of one school, only that is compared, and
        the result is either `cached` or None.
        """
        if cached is not None and self._version_template.queries and cached.count(b"|") == SEPARATORS_FOR_ONE_SCHOOL:
            return cached if await _is_current(cached, database, caller, snapshot) else None
        if self._is_versioned:
            values, fingerprints = self._bind(caller, cursors, texts)
            with suppress(SnapshotOutdated):
                return (await self._run(database, values, fingerprints, cursors, snapshot, self._version_template)).version
        return None

    async def _run(
        self,
        database: Database,
        values: dict[str, Any],
        fingerprints: list[str],
        cursors: Cursors,
        snapshot: ReachSnapshot | None,
        template: QueryTemplate,
    ) -> ReadResult:
        """Runs the statement of a template and replaces the placeholders in its JSON. Raises SnapshotOutdated."""
        scopes, of_one_tenant, on_installation = None, False, False
        if snapshot is not None:
            scopes, tenant, on_installation = snapshot.scopes, snapshot.only_tenant, snapshot.on_installation
            tenants = None if snapshot.counts_schools else snapshot.tenants
            values |= {"reach_version": snapshot.version, "until": snapshot.until, "tenants": tenants, "tenant": tenant}
            # a cursor may be of a time when other tenants were within reach
            of_one_tenant = tenant is not None and all(values[name] == str(tenant) for name in self._tenant_keys)
        statement = compile_query(template, scopes, of_one_tenant=of_one_tenant, on_installation=on_installation)
        columns = await statement.run(database, values)
        if not columns:
            raise SnapshotOutdated
        label_version = columns.pop() if statement.label_query else ""
        versions = [columns.pop().encode()] if statement.has_version else []
        if statement.checks_snapshot and not columns.pop():
            raise SnapshotOutdated
        if template is self.template and self._is_coded and (unknown := make_unknown(columns.pop(), self._pages)) is not None:
            raise unknown
        caller = values["caller"]
        bodies: list[bytes | None] = []
        groups: list[bytes] = []
        for text in columns:
            parts = [] if text is None else text.encode().split(MARK)
            if len(parts) > 1:
                await get_label_cache(database).fill_in(parts, statement, label_version, database, caller)
                for i in range(1, len(parts), 2):
                    if parts[i][:1] == CURSOR:
                        page, _, position = parts[i][1:].partition(b":")
                        cursor = cursors.encrypt_position(bytes.fromhex(position.decode()), caller, fingerprints[int(page)])
                        parts[i] = b'"%s"' % cursor.encode()
                    elif parts[i][:1] == SCHOOL:
                        versions.append(parts[i])
                        parts[i] = b""
                    elif parts[i][:1] == GROUPS:
                        groups.append(parts[i])
                        parts[i] = b""
            bodies.append(b"".join(parts) if parts else None)
        version = _join_versions(snapshot, *versions) if snapshot and statement.has_version else None
        return ReadResult(
            bodies, version, make_groups_read(groups, values["tenant"] if of_one_tenant else None) if groups else None
        )

    def _bind(self, caller: UUID, cursors: Cursors, texts: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Returns the values by bind name, and the fingerprint of each page for its cursors."""

        def decode(value: Any) -> Any:
            return value.decode(texts[value.text_index]) if isinstance(value, Parameter) else value

        values: dict[str, Any] = {"caller": caller, **self._values}
        for name, value in self._parameters.items():
            values[name] = [decode(element) for element in value] if isinstance(value, list) else decode(value)
        for related in self._related:
            bound = [replace(condition, values=tuple(_list_bound(values[name]))) for name, condition in related]
            if any(find_contradictions(bound)):
                raise ValueError("the filters contradict one another")
        for page_number, (link, named) in self._excluded.items():
            page = self._pages[page_number]
            bound = [replace(condition, values=tuple(_list_bound(values[name]))) for name, condition in named]
            if any(True for _ in find_excluded(page.resource, link, page.choices, bound)):
                raise ValueError("the filters contradict the choices of the list")
        for name in self._ranges:
            values[name], values[f"{name}_high"] = _split_ranges(values[name])
        fingerprints = [
            fixed if fixed is not None else page.fingerprint(decode)
            for fixed, page in zip(self._fixed_fingerprints, self._pages, strict=True)
        ]
        for page_number, (index, mask) in self._cursor_parameters.items():
            position = cursors.decrypt_position(texts[index], caller, fingerprints[page_number])
            if _mask_values(position) != mask:
                raise ValueError("the position has nulls elsewhere, so it needs another statement")
            values |= {f"after_{page_number}_{i}": value for i, value in enumerate(position)}
        return values, fingerprints

    def _make_template(self, query: Query, link: Link | None = None) -> Query:
        """Returns the query without values, and records the values by their bind names."""
        if isinstance(query, RowQuery):
            n = len(self._values)
            self._values.update({f"key_{n}_{i}": _drop_value(value) for i, (_, value) in enumerate(query.key_values)})
            return replace(
                query,
                key_values=tuple((column, n) for column, _ in query.key_values),
                fields=self._make_field_templates(query.fields),
            )
        page = len(self._pages)
        position: tuple[str | None, ...] | None = unwrap_parameter(query.after)
        after = None if position is None else _mask_values(position)
        if isinstance(query.after, Parameter) and after is not None:
            self._cursor_parameters[page] = query.after.text_index, after
        elif position is not None:
            self._values.update({f"after_{page}_{i}": value for i, value in enumerate(position)})
        tenant_key = find_tenant_key(query)
        if position is not None and tenant_key is not None:
            self._tenant_keys.append(f"after_{page}_{tenant_key}")
        query = replace(
            query,
            where=tuple(replace(condition, values=tuple(map(_drop_value, condition.values))) for condition in query.where),
            arguments=tuple((name, _drop_value(value)) for name, value in query.arguments),
            after=after,
        )
        self._pages.append(query)
        self._values[f"first_{page}"] = query.first
        where = []
        for i, condition in enumerate(query.where):
            is_one = len(condition.values) == 1 and condition.field.kind is not ValueType.TEXTS
            self._values[f"where_{page}_{i}"] = condition.values[0] if is_one else list(condition.values)
            if condition.field.match is not None:
                self._ranges.append(f"where_{page}_{i}")
            where.append(replace(condition, values=ONE_VALUE if is_one else MANY_VALUES))
        if query.choices:
            self._excluded[page] = link, [(f"where_{page}_{i}", condition) for i, condition in enumerate(where)]
        self._related += [[(f"where_{page}_{i}", where[i]) for i in positions] for positions in list_related(where)]
        arguments = dict(query.arguments)
        declared = query.resource.list_arguments(link)
        self._values.update({f"argument_{page}_{name}": arguments.get(name) for name in declared})
        of_views = tuple((name, None) for name in arguments if declared[name].source is not None)
        fields = self._make_field_templates(query.fields)
        return replace(query, fields=fields, where=tuple(where), first=0, arguments=of_views)

    def _make_field_templates(self, fields: OutputFields) -> OutputFields:
        return tuple((key, self._make_field_template(field)) for key, field in fields)

    def _make_field_template(self, field: OutputField) -> OutputField:
        match field:
            case ToMany(link=link, query=query):
                template = self._make_template(query, link)
                assert isinstance(template, ListQuery)
                return ToMany(link, template)
            case ToOne(link=link, resource=resource, fields=fields):
                return ToOne(link, resource, self._make_field_templates(fields))
            case PageRows(fields=fields):
                return PageRows(self._make_field_templates(fields))
            case NestedObject(fields=fields):
                return NestedObject(self._make_field_templates(fields))
        return field


def _drop_value(value: Any) -> Any:
    """Returns a Parameter without its value, so that no value of one request stays for others; any other value as it
    is.
    """
    return Parameter(None, value.text_index, value.decode) if isinstance(value, Parameter) else value


def _split_ranges(value: TextRange | list[TextRange]) -> tuple[str, str] | tuple[list[str], list[str]]:
    """Returns what the SQL of a TextMatch compares with: the bounds of one range; of many, the lower bounds, and those
    of them that are the beginning of what is looked for.
    """
    if isinstance(value, TextRange):
        return value.low, value.high
    return [low for low, _ in value], [low for low, high in value if low != high]


def _list_bound(value: Any) -> list[Any]:
    """Returns the values of a filter that are bound to one name."""
    return value if isinstance(value, list) else [value]


def _has_parameter(value: Any) -> bool:
    return isinstance(value, Parameter) or (isinstance(value, list) and any(isinstance(element, Parameter) for element in value))


def _list_filter_values(page: ListQuery) -> list[Any]:
    """Returns the values on which a page's fingerprint depends."""
    return [value for condition in page.where for value in condition.values] + [value for _, value in page.arguments]


def _mask_values(position: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """Returns the position with only its nulls. The SQL of keyset pagination depends on them."""
    return tuple(None if value is None else "" for value in position)


def _join_versions(snapshot: ReachSnapshot, general: bytes, *schools: bytes) -> bytes:
    """Returns one data version from that of the reach, that of what every response depends on, and those of rows'
    schools.
    """
    return b"|".join([snapshot.cache_key, general, *schools])


SEPARATORS_FOR_ONE_SCHOOL = 2
"""How many separators a data version with the version of one school has."""


async def _is_current(version: bytes, database: Database, caller: UUID, snapshot: ReachSnapshot) -> bool:
    """Whether a data version with the version of one school is still the same."""
    of_school = version.rpartition(b"|")[2]
    tenant, school, _ = of_school[1:].decode().split(".")
    values = {"caller": caller, "reach_version": snapshot.version, "until": snapshot.until}
    columns = await SCHOOL_VERSION.run(database, values | {"tenant": UUID(tenant), "school": UUID(school)})
    if not columns:
        return False
    school_version, is_snapshot_current, general = columns
    current = _join_versions(snapshot, general.encode(), SCHOOL + f"{tenant}.{school}.{school_version}".encode())
    return is_snapshot_current and version == current


async def read(
    queries: Sequence[Query],
    database: Database,
    caller: UUID,
    cursors: Cursors,
    snapshot: ReachSnapshot | None = None,
    scopes: Iterable[str] = (),
) -> list[bytes | None]:
    """Runs queries without parameters for a caller whose token has these scopes. Returns the JSON text of each, None for a row that
    does not exist.
    """
    return (await read_result(queries, database, caller, cursors, snapshot, scopes)).bodies


async def read_result(
    queries: Sequence[Query],
    database: Database,
    caller: UUID,
    cursors: Cursors,
    snapshot: ReachSnapshot | None = None,
    scopes: Iterable[str] = (),
) -> ReadResult:
    """Does as `read`, and returns also the groups of collected values that the texts hold."""
    return await PreparedQuery(queries, scopes).read(database, caller, cursors, snapshot)


REACH_VERSION = PreparedQuery([])
"""Reads nothing: its data version is that of everything within the caller's reach."""
