"""A request as it was read, ready to be asked for: its values are bound to the plan of its shape (query.py), the statement is run, and what it marked is
put in its place.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from domain.access.reach import Uniform
from domain.declare.resource import Kind
from domain.read.compile import AT_PLACE, is_versioned, places, plan
from domain.read.cursors import Cursors
from domain.read.labels import MARK, Changed
from domain.read.query import Held, Item, Items, Many, Nested, One, QueryShape, Root, Rows, Selection, Single, plain
from domain.store.database import Database


class Answered(NamedTuple):
    """The JSON text of each root, None for a single row that is not there; and the state they are of: as long as it is the same, so are they."""

    bodies: list[bytes | None]
    state: bytes | None


class Prepared:
    """Roots that have been read, ready to be asked for by each request that differs in its lifted texts alone. Of these none is kept."""

    def __init__(self, roots: Sequence[Root]) -> None:
        self._values: dict[str, Any] = {}
        self._pages: list[Selection] = []
        self._after: dict[int, tuple[int, tuple[str | None, ...]]] = {}
        self.shape = QueryShape.of(tuple(self._shape(root) for root in roots))
        self._is_versioned, self._places = all(map(is_versioned, self.shape.roots)), QueryShape.of(places(self.shape.roots))
        self._held = {name: value for name, value in self._values.items() if _is_held(value)}
        self._fixed = [None if any(map(_is_held, _told(page))) else page.fingerprint() for page in self._pages]

    async def read(
        self,
        database: Database,
        caller: UUID,
        cursors: Cursors,
        uniform: Uniform | None = None,
        texts: Sequence[str] = (),
    ) -> Answered:
        """What is asked for. One data statement.

        `texts` are the request's lifted ones. Raises ValueError or BadRequest where one of them cannot be read.
        """
        values, fingerprints = self._bound(caller, cursors, texts)
        if uniform is not None:
            with suppress(Changed):  # the caller's reach has, or a reference that the row means is not within it
                return await self._read(database, values, fingerprints, cursors, uniform, self.shape)
        return await self._read(database, values, fingerprints, cursors, None, self.shape)

    async def state(
        self,
        database: Database,
        caller: UUID,
        cursors: Cursors,
        uniform: Uniform,
        texts: Sequence[str] = (),
        known: bytes | None = None,
    ) -> bytes | None:
        """The state of which an answer would be now, by a tiny read; None where none is told.

        `known` is what it was: where that tells one place, only that is looked at, and None says that it is another by now.
        """
        if known is not None and self._places.roots and known.count(b"|") == ONE_PLACE:
            return known if await _stands(known, database, caller, uniform) else None
        if self._is_versioned:
            values, fingerprints = self._bound(caller, cursors, texts)
            with suppress(Changed):
                return (await self._read(database, values, fingerprints, cursors, uniform, self._places)).state
        return None

    async def _read(
        self,
        database: Database,
        values: dict[str, Any],
        fingerprints: list[str],
        cursors: Cursors,
        uniform: Uniform | None,
        shape: QueryShape,
    ) -> Answered:
        scopes = None
        if uniform is not None:
            scopes = uniform.scopes
            values |= {"reach_version": uniform.version, "until": uniform.until, "tenants": uniform.tenants}
        chosen = plan(shape, scopes)
        answered = await chosen.run(database, values)
        if not answered:
            raise Changed
        version = answered.pop() if chosen.fragments else 0
        state = [answered.pop().encode()] if chosen.has_state else []
        if chosen.is_uniform and not answered.pop():
            raise Changed
        caller = values["caller"]
        bodies: list[bytes | None] = []
        for text in answered:
            parts = [] if text is None else text.encode().split(MARK)
            if len(parts) > 1:
                await database.references.fill(parts, chosen, version, database, caller)
                for i in range(1, len(parts), 2):
                    if parts[i][:1] == b"~":
                        number, _, place = parts[i][1:].partition(b":")
                        sealed = cursors.seal(bytes.fromhex(place.decode()), caller, fingerprints[int(number)])
                        parts[i] = b'"%s"' % sealed.encode()
                    elif parts[i][:1] == b"=":
                        state.append(parts[i])
                        parts[i] = b""
            bodies.append(b"".join(parts) if parts else None)
        return Answered(bodies, _state(uniform, *state) if uniform and chosen.has_state else None)

    def _bound(self, caller: UUID, cursors: Cursors, texts: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """The values to bind, and what the cursors of each page are bound to."""

        def value_of(value: Any) -> Any:
            return value.read(texts[value.at]) if isinstance(value, Held) else value

        values: dict[str, Any] = {"caller": caller, **self._values}
        for name, value in self._held.items():
            values[name] = [value_of(one) for one in value] if isinstance(value, list) else value_of(value)
        fingerprints = [
            fixed if fixed is not None else page.fingerprint(value_of) for fixed, page in zip(self._fixed, self._pages, strict=True)
        ]
        for no, (at, nulls) in self._after.items():
            place = cursors.open(texts[at], caller, fingerprints[no])
            if _nulls(place) != nulls:
                raise ValueError("the place has nulls elsewhere")
            values |= {f"after_{no}_{i}": value for i, value in enumerate(place)}
        return values, fingerprints

    def _shape(self, root: Root) -> Root:
        """The root without what differs between requests, which goes into the values under the names the compiler gives its binds."""
        if isinstance(root, Single):
            no = len(self._values)
            self._values.update({f"picked_{no}_{i}": _emptied(value) for i, (_, value) in enumerate(root.picked_by)})
            return replace(root, picked_by=tuple((column, no) for column, _ in root.picked_by), row=self._items(root.row))
        no = len(self._pages)
        place: tuple[str | None, ...] | None = plain(root.after)
        after = None if place is None else _nulls(place)
        if isinstance(root.after, Held) and after is not None:
            self._after[no] = root.after.at, after
        elif place is not None:
            self._values.update({f"after_{no}_{i}": value for i, value in enumerate(place)})
        root = replace(
            root,
            where=tuple(replace(condition, values=tuple(map(_emptied, condition.values))) for condition in root.where),
            given=tuple((name, _emptied(value)) for name, value in root.given),
            after=after,
        )
        self._pages.append(root)
        self._values[f"first_{no}"] = root.first
        where = []
        for i, condition in enumerate(root.where):
            one = len(condition.values) == 1 and condition.field.kind is not Kind.TEXTS
            self._values[f"where_{no}_{i}"] = condition.values[0] if one else list(condition.values)
            where.append(replace(condition, values=("one" if one else "many",)))
        return replace(root, items=self._items(root.items), where=tuple(where), first=0, given=())

    def _items(self, items: Items) -> Items:
        return tuple((key, self._item(item)) for key, item in items)

    def _item(self, item: Item) -> Item:
        match item:
            case Many(link=link, selection=selection):
                given = {name: _emptied(value) for name, value in selection.given}
                self._values.update({f"given_{len(self._pages)}_{name}": given.get(name) for name in link.arguments})
                shaped = self._shape(selection)
                assert isinstance(shaped, Selection)
                return Many(link, shaped)
            case One(link=link, resource=resource, row=row):
                return One(link, resource, self._items(row))
            case Rows(row=row):
                return Rows(self._items(row))
            case Nested(items=nested):
                return Nested(self._items(nested))
        return item


def _emptied(value: Any) -> Any:
    return Held(None, value.at, value.read) if isinstance(value, Held) else value


def _is_held(value: Any) -> bool:
    return isinstance(value, Held) or (isinstance(value, list) and any(isinstance(one, Held) for one in value))


def _told(page: Selection) -> list[Any]:
    """What a page's fingerprint depends on."""
    return [value for condition in page.where for value in condition.values] + [value for _, value in page.given]


def _nulls(place: tuple[str | None, ...]) -> tuple[str | None, ...]:
    return tuple(None if value is None else "" for value in place)


def _state(uniform: Uniform, of_all: bytes, *places: bytes) -> bytes:
    """Of the reach, of what every answer depends on, and of the places of single rows."""
    return b"|".join([uniform.told, of_all, *places])


ONE_PLACE = 2
"""Bars in the state of one place."""


async def _stands(known: bytes, database: Database, caller: UUID, uniform: Uniform) -> bool:
    """Whether a state that tells of one place is still what it was."""
    place = known.rpartition(b"|")[2]
    tenant, school, _ = place[1:].decode().split(".")
    values = {"caller": caller, "reach_version": uniform.version, "until": uniform.until}
    answered = await AT_PLACE.run(database, values | {"tenant": UUID(tenant), "school": UUID(school)})
    if not answered:
        return False
    version, is_uniform, of_all = answered
    return is_uniform and known == _state(uniform, of_all.encode(), f"={tenant}.{school}.{version}".encode())


async def read(
    roots: Sequence[Root], database: Database, caller: UUID, cursors: Cursors, uniform: Uniform | None = None
) -> list[bytes | None]:
    """The JSON text of each root, or None for a single row that is not there. One data statement."""
    return (await Prepared(roots).read(database, caller, cursors, uniform)).bodies


EVERYTHING = Prepared([])
"""Asks for nothing; its state is that of all within the caller's reach."""
