"""Filters of a list that no row can meet together: they are an error, not an empty list."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from domain.declare.ranges import Comparison
from domain.declare.resource import Link, Resource
from domain.read.query import Condition, unwrap_parameter


def list_related(conditions: Sequence[Condition]) -> list[list[int]]:
    """Returns the positions of the filters that may contradict one another: those of one field of which one is a range, and
    those of which one narrows the other.
    """
    by_name: dict[str, list[int]] = {}
    for i, condition in enumerate(conditions):
        by_name.setdefault(condition.name, []).append(i)
    related = [
        positions
        for positions in by_name.values()
        if len(positions) > 1 and any(conditions[i].comparison is not None for i in positions)
    ]
    for i, condition in enumerate(conditions):
        narrowing = condition.field.narrowing
        if narrowing is not None and narrowing.by in by_name:
            related.append([i, *by_name[narrowing.by]])
    return related


def find_excluded(
    resource: Resource, link: Link | None, choices: Iterable[tuple[str, str]], conditions: Sequence[Condition]
) -> Iterator[tuple[Condition, int, str]]:
    """Yields the values of each filter that no row has which the choices of the list leave: the filter, the index of the value,
    and what is wrong with it. The link is the one that leads to the list.
    """
    declared = resource.list_choices(link)
    for name, value in choices:
        excluded = declared[name].excludes.get(value, {})
        for condition in conditions:
            values = excluded.get(condition.name)
            if condition.name in excluded and (values is None or {*map(unwrap_parameter, condition.values)} <= {*values}):
                yield from ((condition, i, f"leaves no row with {name}={value}") for i in range(len(condition.values)))


def find_contradictions(conditions: Sequence[Condition]) -> Iterator[tuple[Condition, int, str]]:
    """Yields each value that no row can have with the values of another filter: its filter, its index, and what is wrong with
    it. A filter without values is left out, since they could not be read.
    """
    readable = [condition for condition in conditions if condition.values]
    yield from _find_narrowed(readable)
    yield from _find_empty_ranges(readable)


def _find_narrowed(conditions: Sequence[Condition]) -> Iterator[tuple[Condition, int, str]]:
    """Yields each value that goes with none of the values by which another filter narrows its field."""
    named = {condition.name: condition for condition in conditions if condition.comparison is None}
    for condition in named.values():
        narrowing = condition.field.narrowing
        if narrowing is None or narrowing.by not in named:
            continue
        others = tuple(map(unwrap_parameter, named[narrowing.by].values))
        for i, value in enumerate(condition.values):
            try:
                narrowing.check(unwrap_parameter(value), others)
            except ValueError as problem:
                yield condition, i, str(problem)


def _find_empty_ranges(conditions: Sequence[Condition]) -> Iterator[tuple[Condition, int, str]]:
    """Yields each bound beyond which another bound of the field leaves no value, and the values of a filter none of which meets
    all bounds.
    """
    bounded: dict[str, list[tuple[Condition, Comparison, Any]]] = {}
    for condition in conditions:
        if condition.comparison is not None:
            nearest = condition.field.find_nearest(condition.comparison, unwrap_parameter(condition.values[0]))
            bounded.setdefault(condition.name, []).append((condition, condition.comparison, nearest))
    for condition in conditions if bounded else ():
        others, values = bounded.get(condition.name, []), [unwrap_parameter(value) for value in condition.values]
        if condition.comparison is not None:
            others = [other for other in others if other[1].is_lower != condition.comparison.is_lower]
            values = [condition.field.find_nearest(condition.comparison, values[0])]
        unmet = [_find_unmet(value, others) for value in values]
        if None not in unmet:
            yield from ((condition, i, f"leaves no value that also meets {label}") for i, label in enumerate(unmet))


def _find_unmet(value: Any, bounds: Iterable[tuple[Condition, Comparison, Any]]) -> str | None:
    """Returns the name of the first bound that a value does not meet, None if it meets all."""
    return next((by.label for by, comparison, bound in bounds if (value < bound if comparison.is_lower else value > bound)), None)
