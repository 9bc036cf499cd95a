"""Boxes: hidden positions round which pupils can be moved so that no shown sum changes.

A whole box is two schools by two years. Where a sum is hidden, a part of it will do: one position where nothing contains it, two in one
school or in one year, three. The first position of a box is the one that is protected; the signs say where pupils enter and leave.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from domain.protection.figures import Integers, Mask
from domain.protection.plan import Plan, ShownSums
from domain.protection.tables import Position, Split

MAX_SCHOOLS, MAX_BOXES, MAX_LEAVES = 14, 40, 6
"""Other schools that a box is looked for in, boxes of each kind for a position, and positions of single years whose boxes move a sum."""


class Box(NamedTuple):
    """Places of single years, and the sign of each."""

    positions: tuple[Position, ...]
    signs: tuple[int, ...]

    @property
    def corners(self) -> list[tuple[Position, int]]:
        return list(zip(self.positions, self.signs, strict=True))


def count_movable(split: Split) -> Integers:
    """How many pupils are on the smaller side of a split at each position."""
    return split.frame if split.rest is None else np.minimum(split.first[..., 0], split.rest[..., 0])


def list_leaves(plan: Plan, name: str, position: Position) -> list[Position]:
    """The hidden positions of single years that are part of a position, the largest first."""
    school, year = position
    schools, years = plan.tables.schools, plan.tables.years
    hidden = plan.hidden[name]
    if school < schools and year < years:
        return [position] if hidden[position] else []
    movable = count_movable(plan.tables.splits[name])
    leaves = [
        (each, in_year)
        for each in (range(schools) if school == schools else [school])
        for in_year in (range(years) if year == years else [year])
        if hidden[each, in_year]
    ]
    return sorted(leaves, key=lambda leaf: (-movable[leaf], leaf))[:MAX_LEAVES]


def list_needed(box: Box, sums: ShownSums) -> frozenset[Position]:
    """The hidden positions that a box needs: its own, and the sums that it changes."""
    schools, years = sums.of_year.shape
    around = {(school, years) for school, _ in box.positions} | {(schools, year) for _, year in box.positions} | {(schools, years)}
    return frozenset(box.positions) | {position for position in around if sums.count_effect(position, box.corners)}


def list_boxes(plan: Plan, name: str, leaf: Position, sums: ShownSums, preferred: frozenset[Position] = frozenset()) -> list[Box]:
    """The boxes of a hidden position of a single year. Schools of `preferred` positions come first where there are many."""
    schools, years = plan.tables.schools, plan.tables.years
    hidden = plan.hidden[name][:schools, :years]
    movable = count_movable(plan.tables.splits[name])
    school, year = leaf
    in_school = [int(each) for each in np.flatnonzero(hidden[school]) if each != year]
    in_year = [int(each) for each in np.flatnonzero(hidden[:, year]) if each != school]
    if len(in_year) > MAX_SCHOOLS:
        first = {position[0] for position in preferred}
        in_year.sort(key=lambda x: (x not in first, -int((hidden[x] & hidden[school]).sum()), -int(movable[x, year]), x))
        in_year = in_year[:MAX_SCHOOLS]
    partial: list[Box] = []
    if not (sums.of_school.all() and sums.of_year[hidden].all()):
        partial = list(_list_partial(hidden, leaf, sums, in_school, in_year))
    whole = [
        (
            -int(min(movable[x, year], movable[school, z], movable[x, z])),
            Box((leaf, (x, z), (school, z), (x, year)), (1, 1, -1, -1)),
        )
        for x in in_year
        if sums.of_year[leaf] == sums.of_year[x, year]
        for z in in_school
        if hidden[x, z] and sums.of_year[school, z] == sums.of_year[x, z]
    ]
    whole.sort(key=lambda each: each[0])
    return partial[:MAX_BOXES] + [box for _, box in whole[:MAX_BOXES]]


def _list_partial(hidden: Mask, leaf: Position, sums: ShownSums, in_school: list[int], in_year: list[int]) -> Iterator[Box]:
    school, year = leaf
    of_school, of_year, of_all, *_ = sums
    is_free = not of_year[leaf]
    if is_free and not of_school[school] and not of_all[school]:
        yield Box((leaf,), (1,))
    if is_free:
        yield from (Box((leaf, (school, z)), (1, -1)) for z in in_school if not of_year[school, z])
    alike = [x for x in in_year if of_year[leaf] == of_year[x, year]]
    if not of_school[school]:
        for x in alike:
            if not of_school[x] and of_all[school] == of_all[x]:
                yield Box((leaf, (x, year)), (1, -1))
    if is_free:
        for z in in_school:
            for x in map(int, np.flatnonzero(hidden[:, z])[:MAX_SCHOOLS]):
                if x != school and not of_school[x] and not of_all[x] and of_year[school, z] == of_year[x, z]:
                    yield Box((leaf, (school, z), (x, z)), (1, -1, 1))
    if not of_school[school] and not of_all[school]:
        for x in alike:
            for z in map(int, np.flatnonzero(hidden[x])):
                if z != year and not of_year[x, z]:
                    yield Box((leaf, (x, year), (x, z)), (1, -1, 1))
    for x in alike:
        if not of_school[x] and not of_all[x]:
            yield from (Box((leaf, (school, z), (x, year)), (1, -1, -1)) for z in in_school if not of_year[school, z])
