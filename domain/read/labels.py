"""Labels: the codes and names of a tenant's subjects, aspects, windows and grades, which rows mean by small numbers.

A statement writes a placeholder for each label, and beside them the version of all labels as it saw them (migration 0013). A cached copy is used for
that version alone, so that a page of a thousand rows that means ten labels looks ten up. Who may see a label was decided when the statement was
compiled: everybody who reaches a school of a tenant reads the same labels there.
"""

from collections.abc import Mapping
from itertools import chain
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from domain.read.statement import Statement
from domain.store.database import Database
from domain.support.lru import Lru

MARK = b"\x01"

Labels = Mapping[bytes, bytes]


class SnapshotOutdated(Exception):
    """What a statement relied on no longer holds, or never did."""


class LabelCache:
    """The labels of one database that this process has read."""

    def __init__(self) -> None:
        self._copies: Lru[tuple[int, bytes], tuple[int, Labels]] = Lru("labels", 8_000_000, weigh=_weigh)
        """By the number of a statement and the placeholder of a tenant."""

    async def fill(self, parts: list[bytes], statement: Statement, version: int, database: Database, caller: UUID) -> None:
        """Replaces the placeholders of labels. Every other part is a placeholder; those of cursors and versions stay. Raises SnapshotOutdated."""
        labels: Labels = {}
        outer: list[Labels] = []
        for i in range(1, len(parts), 2):
            placeholder = parts[i]
            if placeholder.startswith(b"@"):  # a row of this tenant begins
                outer.append(labels)
                labels = await self._read(statement, placeholder, version, database, caller)
                parts[i] = b""
            elif placeholder == b"/":  # the row ends
                labels = outer.pop()
                parts[i] = b""
            elif placeholder[0] not in b"~=":
                try:
                    parts[i] = labels[placeholder]
                except KeyError:
                    raise SnapshotOutdated from None

    async def _read(self, statement: Statement, tenant: bytes, version: int, database: Database, caller: UUID) -> Labels:
        key = statement.number, tenant
        if (copy := self._copies.get(key)) is not None and copy[0] == version:
            return copy[1]
        assert statement.label_query is not None
        *columns, seen = await statement.label_query.run(database, {"caller": caller, "tenant": UUID(tenant[1:].decode())})
        if seen != version:
            raise SnapshotOutdated
        rows = chain.from_iterable(msgspec.json.decode(column, type=list[tuple[str, str]]) for column in columns)
        labels = {number.encode(): text.encode() for number, text in rows}
        return self._copies.put(key, (version, labels))[1]


_caches: WeakKeyDictionary[Database, LabelCache] = WeakKeyDictionary()


def labels_of(database: Database) -> LabelCache:
    """The cache of a database's labels."""
    if (cache := _caches.get(database)) is None:
        cache = _caches[database] = LabelCache()
    return cache


def _weigh(key: tuple[int, bytes], copy: tuple[int, Labels]) -> int:
    labels = copy[1]
    return 600 + 180 * len(labels) + sum(map(len, labels)) + sum(map(len, labels.values()))
