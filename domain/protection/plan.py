"""Which rows are hidden so far, what that leaves to prove, and what it costs."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import astuple, dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.protection.figures import Mask
from domain.protection.proofs import ENOUGH_COUNTS, ENOUGH_SIZES, Bank, Target
from domain.protection.rules import SIZES, Level, Unsafe, find_primary
from domain.protection.settled import Settled
from domain.protection.tables import TOTAL, Population, Position, Side, Split, Tables


@dataclass(frozen=True)
class Weights:
    """What hiding a row costs, beside that of one year group in one school, before the number of pupils is counted."""

    school: float = 3
    trust_year: float = 4
    trust: float = 8
    pupils: float = 60
    """So many pupils in a row double its cost."""


class ShownSums(NamedTuple):
    """Which sums of the hidden figures of a split are shown.

    `of_school` [school]: over the years of a school. `of_year` [school, year]: over the schools, of the figures at such a position.
    `of_all` [school]: over everything, of the figures at such a school. `pooled` and `pooled_schools` say what the trust's rows add up.
    """

    of_school: Mask
    of_year: Mask
    of_all: Mask
    pooled: Mask
    pooled_schools: Mask

    def count_effect(self, position: Position, signs: Iterable[tuple[Position, int]]) -> int:
        """Returns by how much a change of one pupil at positions of single years changes the figure at a position."""
        school, year = position
        schools, years = self.of_year.shape
        if school < schools and year < years:
            return sum(sign for at, sign in signs if at == position)
        if school < schools:
            return sum(sign for at, sign in signs if at[0] == school)
        if year < years:
            return sum(sign for at, sign in signs if at[1] == year and self.pooled[at])
        return sum(sign for at, sign in signs if self.pooled_schools[at[0]])


@dataclass
class Work:
    """What has been done, in counts that limits are compared with."""

    programmes: int = 0
    models: int = 0
    joint_variables: int = 0
    """Variables of all joint programmes that were solved."""
    fractional: int = 0
    escalations: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


@dataclass
class Plan:
    """The decision while it is made. `forced` are totals that are hidden whatever the rules say, and `forced_splits` are hidden everywhere."""

    tables: Tables
    level: Level
    seed: int
    forced: Mask
    forced_splits: Collection[str] = ()
    weights: Weights = field(default_factory=Weights)
    settled: Settled | None = None
    """What earlier editions have settled. A hidden row is then one that is not shown anew, and the trust's rows pool what they did."""
    hidden: dict[str, Mask] = field(default_factory=dict)
    own: dict[str, Mask] = field(default_factory=dict)
    """The rows that rules and hidden parents hide, which no clean-up shows again."""
    primary: dict[str, Mask] = field(default_factory=dict)
    """The rows that rules alone hide."""
    unsafe: dict[str, dict[Side, Unsafe]] = field(default_factory=dict)
    banks: dict[str, Bank] = field(default_factory=dict)
    unproven: dict[str, list[Target]] = field(default_factory=dict)
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        for name in self.tables.splits:
            self.banks[name], self.unproven[name] = {}, []
            self.start(name)

    # What is hidden

    def start(self, name: str) -> None:
        """Hides what the rules and the hidden parents hide in a split, and nothing else."""
        split = self.tables.splits[name]
        found, self.unsafe[name] = find_primary(self.level, self.tables.layout, split)
        hidden = (found | (name in self.forced_splits)) & (split.frame > 0)
        if self.settled is not None:
            changed = [self.settled.changed[Population(name, side)] for side in split.sides]
            hidden = np.any([hidden, self.settled.closed[name], *changed], axis=0)
        if split.parent is None:
            hidden |= self.forced
            if self.settled is None:
                hidden[self.tables.schools] = False  # it pools what is shown
            self.primary[name] = hidden.copy()
        else:
            parent = self.hidden[split.parent.split]
            self.primary[name] = hidden & ~parent
            hidden = hidden | parent  # also where nobody is inside: a shown nought would tell of the parent
        self.hidden[name], self.own[name] = hidden, hidden.copy()

    def hide(self, name: str, positions: Iterable[Position]) -> None:
        """Hides more rows of a split, and all that is inside them."""
        hidden = self.hidden[name].copy()
        for position in positions:
            hidden[position] = True
        self.hidden[name] = hidden
        self.hide_inner(name)

    def hide_inner(self, name: str) -> None:
        for inner in self.list_inner(name):
            self.hidden[inner] = self.hidden[inner] | self.hidden[name]
            self.hide_inner(inner)

    def show(self, name: str, position: Position) -> None:
        """Shows one row again, and what is inside it as far as its own rules allow."""
        hidden = self.hidden[name].copy()
        hidden[position] = False
        self.hidden[name] = hidden
        self._show_inner(name)

    def _show_inner(self, name: str) -> None:
        for inner in self.list_inner(name):
            self.hidden[inner] = self.primary[inner] | self.hidden[name]
            self._show_inner(inner)

    def list_inner(self, name: str) -> Iterator[str]:
        for side in self.tables.splits[name].sides:
            yield from self.tables.inner.get(Population(name, side), ())

    def find_sums(self, name: str) -> ShownSums:
        schools, years = self.tables.schools, self.tables.years
        hidden = self.hidden[name]
        if name == TOTAL and self.settled is None:  # what is pooled changes with what is hidden
            pooled, pooled_schools = ~hidden[:schools, :years], ~hidden[:schools, years]
        else:
            pooled, pooled_schools = self.tables.pooled, self.tables.pooled_schools
        of_year = pooled & ~hidden[schools, :years][None]
        return ShownSums(~hidden[:schools, years], of_year, pooled_schools & ~hidden[schools, years], pooled, pooled_schools)

    def weigh(self, split: Split) -> NDArray[np.float64]:
        schools, years = self.tables.schools, self.tables.years
        cost = np.ones(self.tables.shape)
        cost[:schools, years], cost[schools, :years], cost[schools, years] = (
            self.weights.school,
            self.weights.trust_year,
            self.weights.trust,
        )
        return cost * (1 + split.frame / self.weights.pupils)

    # What has to be proven

    def list_targets(self, name: str) -> list[Target]:
        """The figures of unsafe hidden populations, and how many values each must keep."""
        targets = []
        for side, unsafe in self.unsafe[name].items():
            population = Population(name, side)
            figures = self.tables.get_figures(population)
            published = figures @ self.tables.layout.published
            for school, year in np.argwhere(unsafe.any & (figures[..., 0] > 0) & self.hidden[name]):
                position = int(school), int(year)
                for index, (_, measure) in enumerate(self.tables.layout.names):
                    if measure in SIZES:
                        if 0 < published[position][index] < self.level.sizes_from:
                            targets.append(Target(population, position, index, ENOUGH_SIZES))
                    elif not self.is_implied(population, position, index):
                        targets.append(Target(population, position, index, ENOUGH_COUNTS))
        return targets if self.settled is None else self._add_changed(name, targets, self.settled)

    def _add_changed(self, name: str, targets: list[Target], settled: Settled) -> list[Target]:
        """Adds the figures of populations of which few pupils changed: none may be calculated from what is shown anew."""
        found = dict.fromkeys(targets)
        for side in self.tables.splits[name].sides:
            population = Population(name, side)
            for school, year in np.argwhere(settled.changed[population] & self.hidden[name]):
                position = int(school), int(year)
                for index, (_, measure) in enumerate(self.tables.layout.names):
                    if measure == "eligible" or not self.is_implied(population, position, index):
                        enough = ENOUGH_SIZES if measure in SIZES else ENOUGH_COUNTS
                        found[Target(population, position, index, enough)] = None
        return list(found)

    def is_implied(self, population: Population, position: Position, index: int) -> bool:
        """Whether shown totals say that nobody, or everybody, of the population is counted."""
        layout = self.tables.layout
        column, eligible = layout.published[:, index], layout.published[:, layout.eligible_of[index]]
        sums = self.find_sums(population.split)
        around = self._list_around(position, sums)
        for ancestor in self.tables.list_ancestors(population):
            figures, hidden = self.tables.get_figures(ancestor), self.hidden[ancestor.split]
            for each in around:
                if not hidden[each] and int(figures[each] @ column) in (0, int(figures[each] @ eligible)):
                    return True
        school, year = position
        schools, years = self.tables.schools, self.tables.years
        if school == schools:  # or its parts are told, each by a total of its own
            pooled = sums.pooled_schools if year == years else sums.pooled[:, year]
            return all(self.is_implied(population, (int(each), year), index) for each in np.flatnonzero(pooled))
        return year == years and all(self.is_implied(population, (school, each), index) for each in range(years))

    def _list_around(self, position: Position, sums: ShownSums) -> list[Position]:
        """The positions whose figures contain those of a position."""
        school, year = position
        schools, years = self.tables.schools, self.tables.years
        around = [position]
        if school < schools and year < years:
            around.append((school, years))
        if school < schools and year < years and sums.pooled[school, year]:
            around.append((schools, year))
        if school < schools and sums.pooled_schools[school]:
            around.append((schools, years))
        return around

    def find_fixed(self, name: str) -> set[Position]:
        """Hidden positions that cannot change: ends of chains in the graph of hidden positions, whose edges join a school to a year."""
        schools, years = self.tables.schools, self.tables.years
        hidden, sums = self.hidden[name], self.find_sums(name)
        free = ("free", 0)
        edges: list[tuple[tuple[str, int], tuple[str, int], Position]] = []
        for school, year in np.argwhere(hidden[:schools, : years + 1]):
            in_sum = sums.pooled_schools[school] if year == years else sums.pooled[school, year]
            edges.append((("school", int(school)), ("year", int(year)) if in_sum else free, (int(school), int(year))))
        edges += [(("year", int(year)), free, (schools, int(year))) for year in np.flatnonzero(hidden[schools])]
        fixed: set[Position] = set()
        degrees: dict[tuple[str, int], int] = {}
        for one, other, _ in edges:
            degrees[one] = degrees.get(one, 0) + 1
            degrees[other] = degrees.get(other, 0) + 1
        while ends := [edge for edge in edges if any(node != free and degrees[node] == 1 for node in edge[:2])]:
            for edge in ends:
                edges.remove(edge)
                fixed.add(edge[2])
                degrees[edge[0]] -= 1
                degrees[edge[1]] -= 1
        return fixed
