"""The figures of a population as a vector of whole numbers that add up over populations, and what holds of any such vector.

The vector has the number of pupils; for each subject how many are below, at and above the expected standard; and how many have a mark,
are at least expected and are higher in all subjects at once. Where somebody is not eligible in a subject, it also has how many are not,
and how many are eligible in all. What is published are other sums of the same numbers.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

NOT_ELIGIBLE, NO_MARK, BELOW, EXPECTED, HIGHER = range(-2, 3)
"""What a pupil has in a subject, in order: whoever has one of them has what comes before it too, but for NOT_ELIGIBLE."""
MEASURES = {"eligible": NO_MARK, "valid": BELOW, "expected": EXPECTED, "higher": HIGHER}
"""What is published of a subject: how many have at least such a level."""
CONJUNCTION = "conjunction"


@dataclass(frozen=True)
class Layout:
    """Where each figure is in a vector. `subjects` are the codes of all of them.

    `has_excused`: somebody is not eligible in one of them, so that each subject has an eligible count of its own. `combined` are the codes of
    those that the conjunction combines: None for all, empty where there is no conjunction.
    """

    subjects: tuple[str, ...] = ("reading", "writing", "maths")
    has_excused: bool = False
    combined: tuple[str, ...] | None = None

    @cached_property
    def parts(self) -> list[int]:
        """The indexes of the subjects that the conjunction combines."""
        return [index for index, subject in enumerate(self.subjects) if self.combined is None or subject in self.combined]

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that are counted by subject. All others have no mark."""
        return (NOT_ELIGIBLE, BELOW, EXPECTED, HIGHER) if self.has_excused else (BELOW, EXPECTED, HIGHER)

    @property
    def measures(self) -> tuple[str, ...]:
        """What is published of each subject and of the conjunction."""
        return tuple(MEASURES) if self.has_excused else tuple(MEASURES)[1:]

    @property
    def length(self) -> int:
        return 1 + len(self.levels) * len(self.subjects) + len(self.conjunction_levels)

    @cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """What is published of a population, in order, as subject and measure. With one eligible count for all, it is first."""
        everything = (*self.subjects, CONJUNCTION) if self.parts else self.subjects
        of_subjects = tuple((subject, measure) for subject in everything for measure in self.measures)
        return of_subjects if self.has_excused else (("", "eligible"), *of_subjects)

    @cached_property
    def eligible_of(self) -> tuple[int, ...]:
        """For each published figure the index of the eligible count of its subject."""
        return tuple(self.names.index((subject if self.has_excused else "", "eligible")) for subject, _ in self.names)

    @cached_property
    def published(self) -> Integers:
        """The matrix by which a vector is multiplied to give what is published."""
        return np.array([self._find_column(*name) for name in self.names]).T

    def _find_column(self, subject: str, measure: str) -> Integers:
        if subject == CONJUNCTION:
            return self._sum_figures([self.find_conjunction(MEASURES[measure])])
        if measure == "eligible":
            return self._sum_figures([0], [self.find_bands(self.subjects.index(subject))[0]] if subject else [])
        return self._sum_figures(self._find_reached(self.subjects.index(subject), MEASURES[measure]))

    def find_bands(self, subject: int) -> list[int]:
        """The indexes of a subject's levels."""
        first = 1 + subject * len(self.levels)
        return list(range(first, first + len(self.levels)))

    def _find_reached(self, subject: int, least: int) -> list[int]:
        return [index for index, level in zip(self.find_bands(subject), self.levels, strict=True) if level >= least]

    def find_conjunction(self, level: int) -> int:
        """The index of how many have at least a level in all subjects."""
        return self.length - (HIGHER - level) - 1

    @property
    def conjunction_levels(self) -> list[int]:
        return [MEASURES[measure] for measure in self.measures] if self.parts else []

    def _sum_figures(self, more: list[int], less: list[int] | None = None) -> Integers:
        column = np.zeros(self.length, np.int64)
        np.add.at(column, more, 1)
        np.subtract.at(column, less or [], 1)
        return column

    def describe_pupil(self, levels: tuple[int, ...]) -> Integers:
        """Returns the vector of one pupil, by the level in each subject."""
        vector = self._sum_figures([0])
        for subject, level in enumerate(levels):
            if level != NO_MARK:
                vector[self.find_bands(subject)[self.levels.index(level)]] = 1
        for level in self.conjunction_levels:
            vector[self.find_conjunction(level)] = min(levels[part] for part in self.parts) >= level
        return vector

    @cached_property
    def relations(self) -> Integers:
        """A matrix whose product with the vector of any pupils is nowhere below zero, besides the vector itself."""
        number = self.parts
        rows = [self._sum_figures([0], self.find_bands(subject)) for subject in range(len(self.subjects))]
        for level in self.conjunction_levels:
            combined = self.find_conjunction(level)
            reached = [
                self._find_eligible(subject) if level == NO_MARK else (self._find_reached(subject, level), []) for subject in number
            ]
            rows += [self._sum_figures(more, [*less, combined]) for more, less in reached]
            # whoever is not in all subjects is missing in one of them
            everywhere = [index for more, _ in reached for index in more], [index for _, less in reached for index in less]
            rows.append(self._sum_figures([combined, *[0] * (len(number) - 1), *everywhere[1]], everywhere[0]))
        for lower, upper in pairwise(self.conjunction_levels):
            at_lower, at_upper = self.find_conjunction(lower), self.find_conjunction(upper)
            rows.append(self._sum_figures([at_lower], [at_upper]))
            if lower == NO_MARK:
                without = [self._sum_figures([0], self.find_bands(subject)) for subject in number]
                rows.append(np.asarray(sum(without)) + self._sum_figures([at_upper], [at_lower]))
            else:
                only = [self.find_bands(subject)[self.levels.index(lower)] for subject in number]
                rows.append(self._sum_figures([*only, at_upper], [at_lower]))
        return np.array(rows)

    def _find_eligible(self, subject: int) -> tuple[list[int], list[int]]:
        return [0], [self.find_bands(subject)[0]]

    @cached_property
    def conditions(self) -> Integers:
        """The relations, and then that no figure is below zero."""
        return np.concatenate([self.relations, np.eye(self.length, dtype=np.int64)])


def make_figures(layout: Layout, published: Integers, pupils: Integers | None = None) -> Integers:
    """Returns vectors from what is published of populations, [..., name]. `pupils` are their sizes, where each subject has its own
    eligible count."""
    if (pupils is None) == layout.has_excused:
        raise ValueError("the number of pupils is needed where subjects have eligible counts of their own, and only there")
    figures = np.zeros((*published.shape[:-1], layout.length), np.int64)
    figures[..., 0] = published[..., 0] if pupils is None else pupils

    def at(subject: str, measure: str) -> Integers:
        return np.asarray(published[..., layout.names.index((subject, measure))])

    for number, subject in enumerate(layout.subjects):
        reached = [at(subject, measure) for measure in ("valid", "expected", "higher")]
        *excused, below, expected, higher = layout.find_bands(number)
        for index in excused:
            figures[..., index] = figures[..., 0] - at(subject, "eligible")
        figures[..., below], figures[..., expected], figures[..., higher] = (
            reached[0] - reached[1],
            reached[1] - reached[2],
            reached[2],
        )
    for measure in layout.measures if layout.parts else ():
        figures[..., layout.find_conjunction(MEASURES[measure])] = at(CONJUNCTION, measure)
    return figures
