"""Copies of what small numbers mean (the codes and names of a tenant's subjects, aspects, windows and grades), so that a page of a thousand rows that
means ten of them need not look each up a hundred times.

A statement writes markers where such texts stand, and beside them the version of all references as it saw them (migration 0013); a copy is used for
that version alone. What a caller may see of them was decided when the plan was made: who reaches a place of a tenant reads the same names there.
"""

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from domain.support.lru import Lru

if TYPE_CHECKING:
    from domain.read.compile import Statement
    from domain.store.database import Database

MARK = b"\x01"

Labels = Mapping[bytes, bytes]


class SnapshotOutdated(Exception):
    """What a plan relied on no longer holds, or never did."""


class LabelCache:
    """The copies of a process."""

    def __init__(self) -> None:
        self._copies: Lru[tuple[int, bytes], tuple[int, Labels]] = Lru("labels", 8_000_000, weigh=_weight)
        """By the number of a plan and the mark of a tenant."""

    async def fill(self, parts: list[bytes], plan: "Statement", version: int, database: "Database", caller: UUID) -> None:
        """Puts texts in the place of the markers, which are every other part, but for those of cursors. Raises Changed."""
        texts: Labels = {}
        around: list[Labels] = []
        for i in range(1, len(parts), 2):
            mark = parts[i]
            if mark.startswith(b"@"):  # a row, and whose its references are
                around.append(texts)
                texts = await self._texts(plan, mark, version, database, caller)
                parts[i] = b""
            elif mark == b"/":  # its end
                texts = around.pop()
                parts[i] = b""
            elif mark[0] not in b"~=":  # cursors, and versions
                try:
                    parts[i] = texts[mark]
                except KeyError:
                    raise SnapshotOutdated from None

    async def _texts(self, plan: "Statement", tenant: bytes, version: int, database: "Database", caller: UUID) -> Labels:
        key = plan.number, tenant
        if (copy := self._copies.get(key)) is not None and copy[0] == version:
            return copy[1]
        assert plan.fragments is not None
        *fragments, seen = await plan.fragments.run(database, {"caller": caller, "tenant": UUID(tenant[1:].decode())})
        if seen != version:
            raise SnapshotOutdated
        rows = chain.from_iterable(msgspec.json.decode(fragment, type=list[tuple[str, str]]) for fragment in fragments)
        texts = {number.encode(): text.encode() for number, text in rows}
        return self._copies.put(key, (version, texts))[1]


def _weight(key: tuple[int, bytes], copy: tuple[int, Labels]) -> int:
    texts = copy[1]
    return 600 + 180 * len(texts) + sum(map(len, texts)) + sum(map(len, texts.values()))
