"""A cache that is bounded by what it holds: the least recently used goes first, and its size is what it says."""

import gc
import random
import tracemalloc
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import pytest

from domain.support.lru import ENTRY_BYTES, Lru, list_caches, measure_size


def lru(limit: int, **options: Any) -> Lru[Any, Any]:
    """A cache whose values are their own weight."""
    return Lru("test", limit, weigh=lambda key, value: value, **options)


def keys(cache: Lru[Any, Any]) -> set[Any]:
    return set(cache._by_key)


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = lru(4 * (ENTRY_BYTES + 100), share=1)
    for key in "abcd":
        cache.put(key, 100)
    assert (cache.get("a"), cache.get("x")) == (100, None)
    cache.put("e", 100)
    assert keys(cache) == set("acde")
    cache.put("c", 100)
    cache.put("f", 100)
    assert keys(cache) == set("acef")
    assert (cache.size, cache.weight) == (4, 4 * (ENTRY_BYTES + 100))


def test_a_value_that_is_put_again_is_weighed_again() -> None:
    cache = lru(10_000)
    cache.put("a", 100)
    cache.put("a", 700)
    assert (cache.get("a"), cache.size, cache.weight) == (700, 1, ENTRY_BYTES + 700)
    cache.put("a", 5_000)
    assert (cache.get("a"), cache.size, cache.weight) == (None, 0, 0), "what was kept before is not what was put"


def test_what_is_too_heavy_is_returned_and_drives_out_nothing() -> None:
    cache = lru(8_000)
    cache.put("a", 100)
    assert cache.put("b", 801) == 801
    assert (keys(cache), cache.put("c", 800), keys(cache)) == ({"a"}, 800, {"a", "c"})
    nothing = lru(0)
    assert (nothing.put("a", 0), nothing.get("a"), nothing.size) == (0, None, 0)


def test_entries_are_counted_too_where_it_is_said() -> None:
    cache = lru(1_000_000, entries=3)
    for key in "abcde":
        cache.put(key, 1)
    assert keys(cache) == set("cde")


def test_discard_resize_and_clear() -> None:
    cache = lru(10 * (ENTRY_BYTES + 50))
    for key in range(10):
        cache.put(key, 50)
    cache.discard(9)
    cache.discard("none")
    cache.resize(3 * (ENTRY_BYTES + 50))
    assert (keys(cache), cache.weight) == ({6, 7, 8}, 3 * (ENTRY_BYTES + 50))
    cache.clear()
    assert (cache.size, cache.weight, cache.get(8)) == (0, 0, None)
    cache.resize(10_000)
    cache.put("a", 1)
    assert keys(cache) == {"a"}


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_an_ordered_dict_would_be(seed: int) -> None:
    draw, limit = random.Random(seed), 20_000
    cache, model = lru(limit), OrderedDict[int, int]()
    for _ in range(5_000):
        key, act = draw.randrange(60), draw.random()
        if act < 0.5:
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        elif act < 0.9:
            value = draw.randrange(3_000)
            cache.put(key, value)
            model.pop(key, None)
            if value + ENTRY_BYTES <= limit // 8:
                model[key] = value
            while sum(model.values()) + ENTRY_BYTES * len(model) > limit:
                model.popitem(last=False)
        else:
            cache.discard(key)
            model.pop(key, None)
        assert (cache.size, cache.weight) == (len(model), sum(model.values()) + ENTRY_BYTES * len(model))
    assert keys(cache) == set(model)


def test_a_key_is_hashed_once_to_be_found() -> None:
    class Key:
        hashed = 0

        def __hash__(self) -> int:
            self.hashed += 1
            return 7

    key, cache = Key(), lru(10_000)
    cache.put(key, 1)
    cache.put("later", 1)
    key.hashed = 0
    cache.get(key)
    assert key.hashed == 1


def test_caches_are_listed_as_long_as_they_live() -> None:
    cache = Lru[str, str]("listed by a test", 1000)
    cache.put("a", "b")
    assert [(found.name, found.size, found.limit) for found in list_caches() if found.name == "listed by a test"] == [
        ("listed by a test", 0, 1000)
    ]
    cache.resize(10_000)
    cache.put("a", "b")
    assert [found.weight > ENTRY_BYTES for found in list_caches() if found is cache] == [True]
    del cache
    gc.collect()
    assert "listed by a test" not in {found.name for found in list_caches()}


@dataclass(frozen=True)
class Node:
    name: str
    number: int
    below: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Slim:
    name: str
    number: int


@dataclass
class Owner:
    shared: Any
    own: list[str] = field(default_factory=list)


def function(i: int) -> Any:
    return lambda text: text * i


MADE = {
    "texts": lambda i: "é" * (100 + i),
    "bytes": lambda i: bytes(1000 + i),
    "tuples of numbers": lambda i: tuple(range(1000 * i, 1000 * i + 50)),
    "dictionaries": lambda i: {f"key{i}-{n}": n + 1000 for n in range(50)},
    "nested lists": lambda i: [[f"{i}.{n}.{m}" for m in range(10)] for n in range(10)],
    "sets": lambda i: frozenset(f"scope{i}:{n}" for n in range(22)),
    "dataclasses": lambda i: Node(f"n{i}", i + 1000, tuple(Node(f"m{i}-{n}", n + 1000) for n in range(20))),
    "slots": lambda i: [Slim(f"n{i}-{n}", n + 1000) for n in range(50)],
    "functions": lambda i: [function(n + 1000) for n in range(20)],
    "methods": lambda i: [f"{i}-{n}".partition for n in range(20)],
}


@pytest.mark.parametrize("name", MADE)
def test_the_size_is_about_what_was_allocated(name: str) -> None:
    make, times = MADE[name], 80
    make(0)
    gc.collect()
    tracemalloc.start()
    made = [make(i + 1) for i in range(times)]
    gc.collect()
    allocated = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.8 < measure_size(*made) / allocated < 1.4


def test_what_outlasts_requests_is_not_measured() -> None:
    shared = Node("shared", 1, tuple(f"{n}" * 100 for n in range(1000)))
    assert measure_size(Owner(shared)) > 100_000
    assert measure_size(Owner(shared), beyond=(Node,)) < 500
    assert measure_size(Owner(Node), Owner(gc)) < 1000
    assert measure_size(Owner(shared), shared) == measure_size(Owner(shared)), "what two refer to is there once"
    assert 5_000 < measure_size(Owner(shared), enough=5_000) < 10_000


def test_measuring_changes_nothing() -> None:
    """Attributes lie in an array until somebody asks for their dictionary, which measuring must not do."""
    made = [Node(f"n{i}", i) for i in range(1000)]
    gc.collect()
    tracemalloc.start()
    measure_size(*made)
    gc.collect()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert left < 5_000
