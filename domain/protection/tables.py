"""The tables of a publication: for each split the figures of its sides at each position."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from domain.protection.figures import Integers, Layout, Mask

Side: TypeAlias = Literal["first", "rest"]
Position: TypeAlias = tuple[int, int]
"""A school's index, or the number of schools for the trust; a year's index, or the number of years for all of them."""
TOTAL = "total"
"""The split that divides nobody: all pupils are on its first side."""


class Population(NamedTuple):
    """A side of a split, at any position."""

    split: str
    side: Side


class SplitFigures(NamedTuple):
    """A split as it is input: what it divides, and the figures of its first side, [school, year, figure] without sums."""

    parent: Population
    first: Integers


@dataclass
class Split:
    """A split with its sums: its sides and what they add up to are [school + 1, year + 1, figure]; TOTAL has one side only."""

    name: str
    parent: Population | None
    first: Integers
    rest: Integers | None = None
    whole: Integers | None = None

    @property
    def frame(self) -> Integers:
        """How many pupils the split divides at each position."""
        return (self.first if self.whole is None else self.whole)[..., 0]

    @property
    def sides(self) -> tuple[Side, ...]:
        return ("first",) if self.whole is None else ("first", "rest")


class Tables:
    """All splits of a trust in one window, parents before the splits within them."""

    def __init__(self, layout: Layout, total: Integers, splits: Mapping[str, SplitFigures]) -> None:
        """`total` is [school, year, figure] of all pupils, without sums.

        Raises ValueError where a split has another shape, divides what does not exist, or has more pupils than it divides.
        """
        self.layout = layout
        self.schools, self.years, length = total.shape
        if length != layout.length:
            raise ValueError(f"{length} figures of a population in place of {layout.length}")
        self.splits = {TOTAL: Split(TOTAL, None, _add_sums(total))}
        for name, split in splits.items():
            if split.first.shape != total.shape or split.parent.split not in self.splits:
                raise ValueError(f"{name} does not divide {split.parent.split}, or has another shape")
            whole = self.get_figures(split.parent)
            first = _add_sums(split.first)
            made = Split(name, split.parent, first, whole - first, whole.copy())
            if (whole < first).any():
                raise ValueError(f"{name} has more pupils than it divides")
            self.splits[name] = made
        self.inner: dict[Population, list[str]] = {}
        for name, made in self.splits.items():
            if made.parent is not None:
                self.inner.setdefault(made.parent, []).append(name)
        self.pooled = np.ones((self.schools, self.years), np.bool_)
        """Whether a school's pupils of a year are in the trust's row of the year."""
        self.pooled_schools = np.ones(self.schools, np.bool_)
        """Whether a school's pupils are in the trust's row of all years."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.schools + 1, self.years + 1

    def get_figures(self, population: Population) -> Integers:
        split = self.splits[population.split]
        figures = split.first if population.side == "first" else split.rest
        assert figures is not None, f"{population.split} has one side"
        return figures

    def list_populations(self) -> Iterator[Population]:
        for name, split in self.splits.items():
            yield from (Population(name, side) for side in split.sides)

    def list_ancestors(self, population: Population) -> Iterator[Population]:
        """Yields the population itself and what it is within, up to all pupils."""
        within: Population | None = population
        while within is not None:
            yield within
            within = self.splits[within.split].parent

    def pool_shown(self, hidden: Mask) -> None:
        """Makes the trust's rows the sums of the schools whose own total for the same years is shown."""
        self.pooled = ~hidden[: self.schools, : self.years]
        self.pooled_schools = ~hidden[: self.schools, self.years]
        pooled = np.concatenate([self.pooled, self.pooled_schools[:, None]], axis=1)
        self.pool(dict.fromkeys(self.splits, pooled))

    def hold_pool(self, pooled: Mask) -> None:
        """Makes the trust's rows the sums of some schools, [school, year + 1], whatever is hidden."""
        self.pooled, self.pooled_schools = pooled[:, : self.years], pooled[:, self.years]
        self.pool(dict.fromkeys(self.splits, pooled))

    def pool(self, pooled: Mapping[str, Mask]) -> None:
        """Makes the trust's rows the sums of some schools, by split, [school, year + 1]."""
        for name, split in self.splits.items():
            for figures in (split.first, split.rest, split.whole):
                if figures is not None:
                    figures[self.schools] = (figures[: self.schools] * pooled[name][..., None]).sum(0)


def _add_sums(figures: Integers) -> Integers:
    schools, years, length = figures.shape
    summed = np.zeros((schools + 1, years + 1, length), np.int64)
    summed[:schools, :years] = figures
    summed[schools] = summed[:schools].sum(0)
    summed[:, years] = summed[:, :years].sum(1)
    return summed
