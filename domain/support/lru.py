"""LRU caches with a limit in bytes, keys included.

`list_caches` returns all caches of the process. docs/memory.md describes each of them.
"""

import sys
from collections.abc import Callable, Hashable
from datetime import date, datetime
from enum import Enum
from gc import get_referents
from sys import getsizeof
from types import FunctionType, ModuleType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRY_BYTES = 200
"""Bytes of an entry beside its key and value: a link of the list and a slot of the table."""
MAX_ENTRY_SHARE = 8
"""An entry larger than this fraction (1/8) of the limit is not cached, since it would evict many others."""


class _Entry(Generic[K, V]):
    """An entry of the linked list: `before` was used before it, `after` was used after it."""

    __slots__ = ("after", "before", "key", "value", "weight")

    def __init__(
        self, key: K, value: V, weight: int, before: "_Entry[K, V] | None" = None, after: "_Entry[K, V] | None" = None
    ) -> None:
        self.key, self.value, self.weight = key, value, weight
        self.before, self.after = before or self, after or self


class Lru(Generic[K, V]):
    """A cache of at most `limit` bytes and at most `entries` entries, which evicts the least recently used entry first.

    `weigh` returns how many bytes a key and its value take. Without it they are measured (`measure_size`), without the
    instances of the types in `beyond`. Values must not be None.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        *,
        entries: int = sys.maxsize,
        share: int = MAX_ENTRY_SHARE,
        weigh: Callable[[K, V], int] | None = None,
        beyond: tuple[type, ...] = (),
    ) -> None:
        self.name, self.limit, self.entries = name, limit, entries
        self.weight = 0
        self.hits = self.misses = 0
        self._share = share
        self._weigh = weigh or self._measure
        self._beyond = beyond
        self._by_key: dict[K, _Entry[K, V]] = {}
        self._ends: _Entry[K, V] = _Entry(None, None, 0)  # type: ignore[arg-type]
        """The ends of the list: `before` is the entry used last, `after` the one used longest ago."""
        _caches.add(self)

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self._by_key)

    def get(self, key: K) -> V | None:
        """Returns the value, or None, and marks its entry as used last."""
        entry = self._by_key.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        ends = self._ends
        if (last := ends.before) is not entry:
            before, after = entry.before, entry.after
            before.after, after.before = after, before
            entry.before, entry.after = last, ends
            last.after = ends.before = entry
        return entry.value

    def put(self, key: K, value: V) -> V:
        """Stores the value, unless it is too large, and evicts others until all fit. Returns the value."""
        weight = self._weigh(key, value) + ENTRY_BYTES
        if key in self._by_key:
            self.discard(key)
        if weight <= self.limit // self._share:
            ends = self._ends
            last = ends.before
            entry = self._by_key[key] = _Entry(key, value, weight, last, ends)
            last.after = ends.before = entry
            self.weight += weight
            if self.weight > self.limit or len(self._by_key) > self.entries:
                self._fit()
        return value

    def discard(self, key: K) -> None:
        """Removes the value of the key, if there is one."""
        entry = self._by_key.pop(key, None)
        if entry is not None:
            entry.before.after, entry.after.before = entry.after, entry.before
            self.weight -= entry.weight

    def resize(self, limit: int) -> None:
        """Sets the limit in bytes, and evicts entries until they fit."""
        self.limit = limit
        self._fit()

    def clear(self) -> None:
        """Removes all entries."""
        while self._by_key:
            self.discard(self._ends.after.key)

    def _measure(self, key: K, value: V) -> int:
        return measure_size(key, value, beyond=self._beyond, enough=self.limit // self._share)

    def _fit(self) -> None:
        while self.weight > self.limit or len(self._by_key) > self.entries:
            self.discard(self._ends.after.key)


_caches: WeakSet[Lru[Any, Any]] = WeakSet()


def list_caches() -> list[Lru[Any, Any]]:
    """Returns every cache of the process, sorted by name.

    Two applications in one process have two caches of the same name.
    """
    return sorted(_caches, key=lambda cache: cache.name)


_LEAF_TYPES = frozenset((str, bytes, int, float, bool, type(None), date, datetime))
"""Types whose instances refer to nothing."""


def measure_size(*values: object, beyond: tuple[type, ...] = (), enough: int = sys.maxsize) -> int:
    """Returns about how many bytes the values take, with everything they refer to. What two caches share is counted in
    both.

    Classes, modules and members of enums live as long as the process and are not counted, nor are instances of the
    types in `beyond`. Measuring takes about 0.3 µs an object, so it stops once there are more bytes than `enough`.
    """
    lasting = (type, ModuleType, Enum, *beyond)
    is_left_out: dict[type, bool] = {}
    seen: set[int] = set()
    remaining = list(values)
    size = 0
    while remaining and size <= enough:
        value = remaining.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        kind = type(value)
        if (is_lasting := is_left_out.get(kind)) is None:
            is_lasting = is_left_out[kind] = issubclass(kind, lasting)
        if is_lasting:
            continue
        size += getsizeof(value) + 15 & -16  # the allocator's step
        if kind in _LEAF_TYPES:
            continue
        inside = value.__closure__ or () if isinstance(value, FunctionType) else get_referents(value)
        if isinstance(value, dict):
            remaining += value  # the garbage collector does not visit keys that are texts
        if kind.__dictoffset__:
            size += 16 + 8 * len(inside)  # its attributes are in an array, which sys.getsizeof does not count
        remaining += inside
    return size
