"""A reader who knows the method, its tie-breaks and seed, and lists every trust that agrees with what is shown.

The trusts have two schools, one year group and one characteristic. Protection is a black box here: only what it shows is compared.
"""

import os
from collections import defaultdict
from itertools import product

import numpy as np
import pytest

from domain.protection.protect import protect
from domain.protection.rules import DEPARTMENT
from domain.protection.tables import TOTAL, Population, SplitFigures, Tables
from tests.protection.publications import ALL, LAYOUT

IS_FULL = bool(os.environ.get("MARKONCE_FULL"))
MOST = 13 if IS_FULL else 7
"""Pupils of a school. From 6 on a school's own total is shown, so that a larger school is another case and hides no smaller one."""
SIDES = ("first", "rest")
PUPIL = LAYOUT.describe_pupil((0, 0, 0))
Sizes = tuple[tuple[int, int], tuple[int, int]]


def show(sizes: Sizes, name: str) -> tuple[int | None, ...]:
    """What is shown of two schools, each with so many pupils on each side of the characteristic."""
    total = np.array([[sum(school) * PUPIL] for school in sizes])
    first = np.array([[school[0] * PUPIL] for school in sizes])
    tables = Tables(LAYOUT, total, {name: SplitFigures(ALL, first)})
    decision = protect(tables, DEPARTMENT)
    populations = [Population(TOTAL, "first"), *(Population(name, side) for side in ("first", "rest"))]
    shown: list[int | None] = []
    for population in populations:
        figures, hidden = tables.get_figures(population)[..., 0], decision.hidden[population.split]
        shown += [None if hidden[at] else int(figures[at]) for at in np.ndindex(hidden.shape)]
    return (*shown, *map(int, decision.pooled[TOTAL].ravel()))


@pytest.mark.parametrize("name", ["disadvantaged", "sex"] if IS_FULL else ["disadvantaged"])
def test_every_unsafe_size_keeps_five_values(name: str) -> None:
    schools = [(one, other) for one, other in product(range(MOST + 1), repeat=2) if 0 < one + other <= MOST]
    alike: defaultdict[tuple[int | None, ...], list[Sizes]] = defaultdict(list)
    for one, other in product(schools, repeat=2):
        alike[show((one, other), name)].append((one, other))
    assert len(alike) > 10
    disclosed = []
    for trusts in alike.values():
        for school, side in product(range(2), repeat=2):
            values = {trust[school][side] for trust in trusts}
            if len(values) < 5:
                disclosed += [(trust, school, SIDES[side]) for trust in trusts if 0 < trust[school][side] < 6]
    assert disclosed == []
