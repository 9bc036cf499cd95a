"""The figures of a population as a vector of whole numbers that add up over populations, and what holds of any such vector.

The vector has the number of pupils; for each subject how many are below, at and above the expected standard; and how many have a mark,
are at least expected and are higher in all subjects at once. What is published are other sums of the same numbers.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]

BELOW, EXPECTED, HIGHER = range(3)
NO_MARK = -1
BANDS = 3
VALID_COUNT, EXPECTED_COUNT, HIGHER_COUNT = range(3)
MEASURES = ("valid", "expected", "higher")
CONJUNCTION = "conjunction"


@dataclass(frozen=True)
class Layout:
    """Where each figure is in a vector. `subjects` are the codes of those that the conjunction combines."""

    subjects: tuple[str, ...] = ("reading", "writing", "maths")

    @property
    def length(self) -> int:
        return 1 + BANDS * len(self.subjects) + len(MEASURES)

    @cached_property
    def names(self) -> tuple[tuple[str, str], ...]:
        """What is published of a population, in order: its size, and for each subject and the conjunction three counts."""
        return (("", "eligible"), *product((*self.subjects, CONJUNCTION), MEASURES))

    @cached_property
    def published(self) -> Integers:
        """The matrix by which a vector is multiplied to give what is published."""
        columns = [self._sum_figures([0])]
        for subject in range(len(self.subjects)):
            bands = self.find_bands(subject)
            columns += [self._sum_figures(bands[first:]) for first in range(BANDS)]
        columns += [self._sum_figures([index]) for index in self.conjunction]
        return np.array(columns).T

    @property
    def conjunction(self) -> tuple[int, int, int]:
        return self.length - 3, self.length - 2, self.length - 1

    def find_bands(self, subject: int) -> list[int]:
        return [1 + subject * BANDS + band for band in range(BANDS)]

    def _sum_figures(self, indexes: list[int]) -> Integers:
        column = np.zeros(self.length, np.int64)
        column[indexes] = 1
        return column

    def describe_pupil(self, levels: tuple[int, ...]) -> Integers:
        """Returns the vector of one pupil, by the band in each subject or NO_MARK."""
        vector = np.zeros(self.length, np.int64)
        vector[0] = 1
        for subject, level in enumerate(levels):
            if level != NO_MARK:
                vector[self.find_bands(subject)[level]] = 1
        lowest = min(levels)
        vector[list(self.conjunction)] = [lowest >= BELOW, lowest >= EXPECTED, lowest >= HIGHER]
        return vector

    @cached_property
    def relations(self) -> Integers:
        """A matrix whose product with the vector of any pupils is nowhere below zero, besides the vector itself."""
        subjects = range(len(self.subjects))
        bands = [self.find_bands(subject) for subject in subjects]
        rows: list[Integers] = []

        def add(more: list[int], less: list[int]) -> None:
            row = np.zeros(self.length, np.int64)
            np.add.at(row, more, 1)
            np.subtract.at(row, less, 1)
            rows.append(row)

        for subject in subjects:
            add([0], bands[subject])
        for first, combined in enumerate(self.conjunction):
            reached = [bands[subject][first:] for subject in subjects]
            for each in reached:
                add(each, [combined])
            # whoever is not in all subjects is missing in one of them
            add([combined, *[0] * (len(self.subjects) - 1)], [index for each in reached for index in each])
        valid, expected, higher = self.conjunction
        add([valid], [expected])
        add([expected], [higher])
        add([*(band[BELOW] for band in bands), expected], [valid])
        add([*(band[EXPECTED] for band in bands), higher], [expected])
        return np.array(rows)

    @cached_property
    def conditions(self) -> Integers:
        """The relations, and then that no figure is below zero."""
        return np.concatenate([self.relations, np.eye(self.length, dtype=np.int64)])


def make_figures(layout: Layout, published: Integers) -> Integers:
    """Returns vectors from what is published of populations: size, and valid, expected and higher of each subject and the conjunction."""
    figures = np.zeros((*published.shape[:-1], layout.length), np.int64)
    figures[..., 0] = published[..., 0]
    for subject in range(len(layout.subjects)):
        valid, expected, higher = (published[..., 1 + BANDS * subject + measure] for measure in range(3))
        below, at, above = layout.find_bands(subject)
        figures[..., below], figures[..., at], figures[..., above] = valid - expected, expected - higher, higher
    figures[..., list(layout.conjunction)] = published[..., -3:]
    return figures
