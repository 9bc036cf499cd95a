"""A request as it was read, ready to be asked for: its values are bound to the plan of its shape (query.py), the statement is run, and what it marked is
put in its place.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from domain.access.caller import ReachSnapshot
from domain.declare.value_types import ValueType
from domain.read.compile import compile_query
from domain.read.cursors import Cursors
from domain.read.labels import MARK, SnapshotOutdated, labels_of
from domain.read.query import (
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
    value_now,
)
from domain.read.versions import SCHOOL_VERSION, is_versioned, rows_versioned_by_school
from domain.store.database import Database


class ReadResult(NamedTuple):
    """The JSON text of each root, None for a single row that is not there; and the state they are of: as long as it is the same, so are they."""

    bodies: list[bytes | None]
    state: bytes | None


class PreparedQuery:
    """Roots that have been read, ready to be asked for by each request that differs in its lifted texts alone. Of these none is kept."""

    def __init__(self, roots: Sequence[Query]) -> None:
        self._values: dict[str, Any] = {}
        self._pages: list[ListQuery] = []
        self._after: dict[int, tuple[int, tuple[str | None, ...]]] = {}
        self.shape = QueryTemplate.of(tuple(self._shape(root) for root in roots))
        self._is_versioned, self._places = (
            all(map(is_versioned, self.shape.roots)),
            QueryTemplate.of(rows_versioned_by_school(self.shape.roots)),
        )
        self._held = {name: value for name, value in self._values.items() if _has_parameter(value)}
        self._fixed = [None if any(map(_has_parameter, _list_filter_values(page))) else page.fingerprint() for page in self._pages]

    async def read(
        self,
        database: Database,
        caller: UUID,
        cursors: Cursors,
        snapshot: ReachSnapshot | None = None,
        texts: Sequence[str] = (),
    ) -> ReadResult:
        """What is asked for. One data statement.

        `texts` are the request's lifted ones. Raises ValueError or BadRequest where one of them cannot be read.
        """
        values, fingerprints = self._bound(caller, cursors, texts)
        if snapshot is not None:
            with suppress(SnapshotOutdated):  # the caller's reach has, or a reference that the row means is not within it
                return await self._read(database, values, fingerprints, cursors, snapshot, self.shape)
        return await self._read(database, values, fingerprints, cursors, None, self.shape)

    async def state(
        self,
        database: Database,
        caller: UUID,
        cursors: Cursors,
        snapshot: ReachSnapshot,
        texts: Sequence[str] = (),
        known: bytes | None = None,
    ) -> bytes | None:
        """The state of which an answer would be now, by a tiny read; None where none is told.

        `known` is what it was: where that tells one place, only that is looked at, and None says that it is another by now.
        """
        if known is not None and self._places.roots and known.count(b"|") == BARS_FOR_ONE_SCHOOL:
            return known if await _is_current(known, database, caller, snapshot) else None
        if self._is_versioned:
            values, fingerprints = self._bound(caller, cursors, texts)
            with suppress(SnapshotOutdated):
                return (await self._read(database, values, fingerprints, cursors, snapshot, self._places)).state
        return None

    async def _read(
        self,
        database: Database,
        values: dict[str, Any],
        fingerprints: list[str],
        cursors: Cursors,
        snapshot: ReachSnapshot | None,
        shape: QueryTemplate,
    ) -> ReadResult:
        scopes = None
        if snapshot is not None:
            scopes = snapshot.scopes
            values |= {"reach_version": snapshot.version, "until": snapshot.until, "tenants": snapshot.tenants}
        chosen = compile_query(shape, scopes)
        answered = await chosen.run(database, values)
        if not answered:
            raise SnapshotOutdated
        version = answered.pop() if chosen.label_query else 0
        state = [answered.pop().encode()] if chosen.has_state else []
        if chosen.is_uniform and not answered.pop():
            raise SnapshotOutdated
        caller = values["caller"]
        bodies: list[bytes | None] = []
        for text in answered:
            parts = [] if text is None else text.encode().split(MARK)
            if len(parts) > 1:
                await labels_of(database).fill(parts, chosen, version, database, caller)
                for i in range(1, len(parts), 2):
                    if parts[i][:1] == b"~":
                        number, _, place = parts[i][1:].partition(b":")
                        sealed = cursors.encrypt_position(bytes.fromhex(place.decode()), caller, fingerprints[int(number)])
                        parts[i] = b'"%s"' % sealed.encode()
                    elif parts[i][:1] == b"=":
                        state.append(parts[i])
                        parts[i] = b""
            bodies.append(b"".join(parts) if parts else None)
        return ReadResult(bodies, _make_version(snapshot, *state) if snapshot and chosen.has_state else None)

    def _bound(self, caller: UUID, cursors: Cursors, texts: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """The values to bind, and what the cursors of each page are bound to."""

        def value_of(value: Any) -> Any:
            return value.read(texts[value.at]) if isinstance(value, Parameter) else value

        values: dict[str, Any] = {"caller": caller, **self._values}
        for name, value in self._held.items():
            values[name] = [value_of(one) for one in value] if isinstance(value, list) else value_of(value)
        fingerprints = [
            fixed if fixed is not None else page.fingerprint(value_of) for fixed, page in zip(self._fixed, self._pages, strict=True)
        ]
        for no, (at, nulls) in self._after.items():
            place = cursors.open(texts[at], caller, fingerprints[no])
            if _mark_nulls(place) != nulls:
                raise ValueError("the place has nulls elsewhere")
            values |= {f"after_{no}_{i}": value for i, value in enumerate(place)}
        return values, fingerprints

    def _shape(self, root: Query) -> Query:
        """The root without what differs between requests, which goes into the values under the names the compiler gives its binds."""
        if isinstance(root, RowQuery):
            no = len(self._values)
            self._values.update({f"picked_{no}_{i}": _strip_value(value) for i, (_, value) in enumerate(root.key_values)})
            return replace(root, key_values=tuple((column, no) for column, _ in root.key_values), row=self._items(root.row))
        no = len(self._pages)
        place: tuple[str | None, ...] | None = value_now(root.after)
        after = None if place is None else _mark_nulls(place)
        if isinstance(root.after, Parameter) and after is not None:
            self._after[no] = root.after.at, after
        elif place is not None:
            self._values.update({f"after_{no}_{i}": value for i, value in enumerate(place)})
        root = replace(
            root,
            where=tuple(replace(condition, values=tuple(map(_strip_value, condition.values))) for condition in root.where),
            arguments=tuple((name, _strip_value(value)) for name, value in root.arguments),
            after=after,
        )
        self._pages.append(root)
        self._values[f"first_{no}"] = root.first
        where = []
        for i, condition in enumerate(root.where):
            one = len(condition.values) == 1 and condition.field.kind is not ValueType.TEXTS
            self._values[f"where_{no}_{i}"] = condition.values[0] if one else list(condition.values)
            where.append(replace(condition, values=("one" if one else "many",)))
        return replace(root, items=self._items(root.items), where=tuple(where), first=0, arguments=())

    def _items(self, items: OutputFields) -> OutputFields:
        return tuple((key, self._item(item)) for key, item in items)

    def _item(self, item: OutputField) -> OutputField:
        match item:
            case ToMany(link=link, selection=selection):
                given = {name: _strip_value(value) for name, value in selection.arguments}
                self._values.update({f"given_{len(self._pages)}_{name}": given.get(name) for name in link.arguments})
                shaped = self._shape(selection)
                assert isinstance(shaped, ListQuery)
                return ToMany(link, shaped)
            case ToOne(link=link, resource=resource, row=row):
                return ToOne(link, resource, self._items(row))
            case PageRows(row=row):
                return PageRows(self._items(row))
            case NestedObject(items=nested):
                return NestedObject(self._items(nested))
        return item


def _strip_value(value: Any) -> Any:
    return Parameter(None, value.at, value.read) if isinstance(value, Parameter) else value


def _has_parameter(value: Any) -> bool:
    return isinstance(value, Parameter) or (isinstance(value, list) and any(isinstance(one, Parameter) for one in value))


def _list_filter_values(page: ListQuery) -> list[Any]:
    """What a page's fingerprint depends on."""
    return [value for condition in page.where for value in condition.values] + [value for _, value in page.arguments]


def _mark_nulls(place: tuple[str | None, ...]) -> tuple[str | None, ...]:
    return tuple(None if value is None else "" for value in place)


def _make_version(snapshot: ReachSnapshot, of_all: bytes, *places: bytes) -> bytes:
    """Of the reach, of what every answer depends on, and of the places of single rows."""
    return b"|".join([snapshot.cache_key, of_all, *places])


BARS_FOR_ONE_SCHOOL = 2
"""Bars in the state of one place."""


async def _is_current(known: bytes, database: Database, caller: UUID, snapshot: ReachSnapshot) -> bool:
    """Whether a state that tells of one place is still what it was."""
    place = known.rpartition(b"|")[2]
    tenant, school, _ = place[1:].decode().split(".")
    values = {"caller": caller, "reach_version": snapshot.version, "until": snapshot.until}
    answered = await SCHOOL_VERSION.run(database, values | {"tenant": UUID(tenant), "school": UUID(school)})
    if not answered:
        return False
    version, is_uniform, of_all = answered
    return is_uniform and known == _make_version(snapshot, of_all.encode(), f"={tenant}.{school}.{version}".encode())


async def read(
    roots: Sequence[Query], database: Database, caller: UUID, cursors: Cursors, snapshot: ReachSnapshot | None = None
) -> list[bytes | None]:
    """The JSON text of each root, or None for a single row that is not there. One data statement."""
    return (await PreparedQuery(roots).read(database, caller, cursors, snapshot)).bodies


REACH_VERSION = PreparedQuery([])
"""Asks for nothing; its state is that of all within the caller's reach."""
