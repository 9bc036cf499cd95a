"""Cache of labels: the codes and names of a tenant's subjects, aspects, windows and grades, to which rows refer by
small numbers.

A statement writes a placeholder for each label (read/placeholders.py) and returns the version of all labels that it saw:
that of the installation, since a label may change with the time, as the state of a window does. A cached copy is used
for that version only. So a page of a thousand rows with ten different labels
reads ten labels, or none. Whether the caller may see a label was decided when the statement was compiled: everybody who
reaches a school of a tenant sees the same labels.
"""

from collections.abc import Mapping
from itertools import chain
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from domain.read.placeholders import END_OF_ROW, NOT_LABELS, TENANT
from domain.read.statement import Statement
from domain.store.database import Database
from domain.support.lru import Lru

Labels = Mapping[bytes, bytes]
"""The JSON text of each label, by its placeholder."""


class SnapshotOutdated(Exception):
    """The reach snapshot or the labels that a statement relied on are out of date, so that it must be run without them."""


class LabelCache:
    """The labels of one database, as read by this process."""

    def __init__(self) -> None:
        self._copies: Lru[tuple[int, bytes], tuple[str, Labels]] = Lru("labels", 8_000_000, weigh=_weigh)
        """The version and the labels, by the number of the statement and the placeholder of the tenant."""

    async def fill_in(self, parts: list[bytes], statement: Statement, version: str, database: Database, caller: UUID) -> None:
        """Replaces the placeholders of labels, tenants and ends of rows in `parts`, of which every other one is a
        placeholder.

        `version` is the version of the labels that the statement saw. Raises SnapshotOutdated if the labels have
        another version by now, or if a label is missing because it is not within the caller's reach.
        """
        labels: Labels = {}
        outer_labels: list[Labels] = []
        for i in range(1, len(parts), 2):
            placeholder = parts[i]
            if placeholder.startswith(TENANT):
                outer_labels.append(labels)
                labels = await self._read(statement, placeholder, version, database, caller)
                parts[i] = b""
            elif placeholder == END_OF_ROW:
                labels = outer_labels.pop()
                parts[i] = b""
            elif placeholder[0] not in NOT_LABELS:
                try:
                    parts[i] = labels[placeholder]
                except KeyError:
                    raise SnapshotOutdated from None

    async def _read(self, statement: Statement, tenant: bytes, version: str, database: Database, caller: UUID) -> Labels:
        key = statement.number, tenant
        if (copy := self._copies.get(key)) is not None and copy[0] == version:
            return copy[1]
        assert statement.label_query is not None
        *columns, current_version = await statement.label_query.run(
            database, {"caller": caller, "tenant": UUID(tenant[1:].decode())}
        )
        if current_version != version:
            raise SnapshotOutdated
        rows = chain.from_iterable(msgspec.json.decode(column, type=list[tuple[str, str]]) for column in columns)
        labels = {number.encode(): text.encode() for number, text in rows}
        return self._copies.put(key, (version, labels))[1]


_caches: WeakKeyDictionary[Database, LabelCache] = WeakKeyDictionary()


def get_label_cache(database: Database) -> LabelCache:
    """Returns the label cache of a database."""
    if (cache := _caches.get(database)) is None:
        cache = _caches[database] = LabelCache()
    return cache


def _weigh(key: tuple[int, bytes], copy: tuple[str, Labels]) -> int:
    labels = copy[1]
    return 600 + 180 * len(labels) + sum(map(len, labels)) + sum(map(len, labels.values()))
