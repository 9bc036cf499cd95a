"""What can be moved between populations: one pupil with some marks, or an exchange of marks that moves nobody.

Whoever enters or leaves a population enters or leaves one side of every split within it, so that a move is a tree of roles.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from domain.protection.figures import BELOW, NO_MARK, NOT_ELIGIBLE, Integers, Layout
from domain.protection.tables import Population, Tables


class Role(NamedTuple):
    """A population that a pupil enters (1) or leaves (-1) at the positions with a positive sign."""

    population: Population
    sign: int

    def turn(self, sign: int) -> "Role":
        return Role(self.population, self.sign * sign)


@dataclass(frozen=True, eq=False)
class Move:
    """A way to change a population: at boxes of which split, with which sign, which roles it always has, and of which
    alternatives one each is chosen."""

    split: str
    sign: int
    fixed: tuple[Role, ...]
    choices: tuple[tuple[tuple[Role, ...], ...], ...]

    @property
    def populations(self) -> set[Population]:
        inner = (role for choice in self.choices for alternative in choice for role in alternative)
        return {role.population for role in (*self.fixed, *inner)}


class Kinds:
    """The vectors of all pupils and exchanges. The first `pupils` of them are pupils.

    `columns` are the levels of each, by their index among those of the layout with NO_MARK last; `marks` how many marks it has.
    """

    def __init__(self, layout: Layout) -> None:
        counted = [level for level in layout.levels if level != NOT_ELIGIBLE]
        possible = [*counted, NO_MARK, *(level for level in layout.levels if level == NOT_ELIGIBLE)]
        levels = list(product(possible, repeat=len(layout.subjects)))
        self.pupils = len(levels)
        columns = {level: number for number, level in enumerate((*layout.levels, NO_MARK))}
        self.columns = np.array([[columns[level] for level in each] for each in levels])
        self.marks: Integers = (np.array(levels) >= BELOW).sum(1)
        vectors = [layout.describe_pupil(each) for each in levels]
        vectors += list(_list_exchanges(layout))
        self.vectors = np.array(vectors)
        self.conditions: Integers = self.vectors @ layout.conditions.T
        self.published: Integers = self.vectors @ layout.published


def _list_exchanges(layout: Layout) -> Iterable[Integers]:
    for level in layout.conjunction_levels:  # other pupils are in all subjects at once
        vector = np.zeros(layout.length, np.int64)
        vector[layout.find_conjunction(level)] = 1
        yield vector
    levels = sorted((*layout.levels, NO_MARK))
    for subject in range(len(layout.subjects)):
        bands = dict(zip(layout.levels, layout.find_bands(subject), strict=True))
        for before, after in product(levels, repeat=2):
            if before == after:
                continue
            vector = np.zeros(layout.length, np.int64)
            if before != NO_MARK:
                vector[bands[before]] -= 1
            if after != NO_MARK:
                vector[bands[after]] += 1
            yield vector
            if after > before and subject in layout.parts:
                combined = vector.copy()
                reached = [level for level in layout.conjunction_levels if before < level <= after]
                combined[[layout.find_conjunction(level) for level in reached]] += 1
                yield combined


def list_moves(tables: Tables) -> dict[Population, list[Move]]:
    """The moves that change each population, those within its own split first."""
    moves: dict[Population, list[Move]] = {}
    for name, split in tables.splits.items():
        if split.parent is None:
            population = Population(name, "first")
            fixed: tuple[Role, ...] = (Role(population, 1),)
            choices = _list_choices(tables, population, 1)
            moves.setdefault(population, []).append(Move(name, 1, fixed, choices))
        else:
            first, rest = Population(name, "first"), Population(name, "rest")
            fixed = Role(first, 1), Role(rest, -1)
            choices = _list_choices(tables, first, 1) + _list_choices(tables, rest, -1)
            moves.setdefault(first, []).append(Move(name, 1, fixed, choices))
            moves.setdefault(rest, []).append(Move(name, -1, fixed, choices))
        for other in tables.list_populations():
            if other.split != name and (through := _force(name, fixed, choices, other)) is not None:
                moves.setdefault(other, []).append(through)
    for population, each in moves.items():
        each.sort(key=lambda move: move.split != population.split)
    return moves


def _list_choices(tables: Tables, population: Population, sign: int) -> tuple[tuple[tuple[Role, ...], ...], ...]:
    """For each split within a population the alternatives of who enters (or leaves) it: a side, and sides of the splits within that."""
    choices = []
    for name in tables.inner.get(population, ()):
        alternatives: list[tuple[Role, ...]] = []
        for side in tables.splits[name].sides:
            inner = Population(name, side)
            chosen: list[tuple[Role, ...]] = [(Role(inner, sign),)]
            for choice in _list_choices(tables, inner, sign):
                chosen = [(*roles, *alternative) for roles in chosen for alternative in choice]
            alternatives += chosen
        choices.append(tuple(alternatives))
    return tuple(choices)


def _force(
    name: str, fixed: tuple[Role, ...], choices: tuple[tuple[tuple[Role, ...], ...], ...], population: Population
) -> Move | None:
    """The move with the population always among its roles, or None where it never is."""
    sign, narrowed = None, []
    for choice in choices:
        through = tuple(alternative for alternative in choice if any(role.population == population for role in alternative))
        if through and sign is None:
            sign = next(role.sign for role in through[0] if role.population == population)
            narrowed.append(through)
        else:
            narrowed.append(choice)
    return None if sign is None else Move(name, sign, fixed, tuple(narrowed))
