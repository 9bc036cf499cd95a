"""A reader who knows the method, its tie-breaks and seed, and lists every trust that agrees with what is shown.

The trusts have two schools, one year group and one characteristic. Protection is a black box here: only what it shows is compared.
"""

from collections import defaultdict
from itertools import product

import numpy as np
import pytest

from domain.protection.protect import protect
from domain.protection.rules import DEPARTMENT
from domain.protection.tables import TOTAL, Population, SplitFigures, Tables
from tests.fixtures.sizes import choose_size
from tests.protection.publications import ALL, LAYOUT

FEW = 0
"""A school of 1 to 5 pupils, whose total is hidden. From 6 on it is shown, so that schools of other sizes look different."""
FIRST_PAIRS = [(8, 12), (12, 12), (FEW, 12)]
PAIRS = list(dict.fromkeys([*FIRST_PAIRS, *product((FEW, *range(6, 15)), repeat=2)]))[: choose_size(len(FIRST_PAIRS), 100)]
"""How many pupils the two schools have."""
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


def list_schools(pupils: int) -> list[tuple[int, int]]:
    sizes = range(1, 6) if pupils == FEW else [pupils]
    return [(first, size - first) for size in sizes for first in range(size + 1)]


@pytest.mark.parametrize("name", ["disadvantaged", "sex"][: choose_size(1, 2)])
def test_every_unsafe_size_keeps_five_values(name: str) -> None:
    alike: defaultdict[tuple[int, int, tuple[int | None, ...]], list[Sizes]] = defaultdict(list)
    for pair in PAIRS:
        for one, other in product(*map(list_schools, pair)):
            alike[*pair, show((one, other), name)].append((one, other))
    disclosed, tried = [], 0
    for trusts in alike.values():
        for school, side in product(range(2), repeat=2):
            values = {trust[school][side] for trust in trusts}
            unsafe = [(trust, school, SIDES[side]) for trust in trusts if 0 < trust[school][side] < 6]
            tried += len(unsafe)
            disclosed += unsafe if len(values) < 5 else []
    assert disclosed == []
    assert tried > 400
    assert any(len(trusts) == 1 for trusts in alike.values()), "every trust hides something"
