"""What is unsafe: which populations may not be shown by themselves, at the level that a trust has chosen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.protection.figures import Integers, Layout, Mask
from domain.protection.tables import Side, Split

SMALL = 6
"""The smallest group whose size is published, by the Department for Education too."""
SMALL_BASE = 11
"""From so many pupils on it may be shown that one side of a split is empty."""
SIZES = ("eligible", "valid")
"""Measures that say how many pupils others are of."""
EXCLUSIVE = frozenset({"disadvantaged"})
"""Splits of which it is never shown that one side is empty, as in the Department's tables."""


@dataclass(frozen=True)
class Level:
    """The smallest numbers that are published: of pupils, of marks, and of pupils and of marks where attainment is. A trust may raise them."""

    name: str
    sizes_from: int = SMALL
    attainment_from: int = SMALL

    def __post_init__(self) -> None:
        if not SMALL <= self.sizes_from <= self.attainment_from:
            raise ValueError(
                f"sizes from {self.sizes_from} and attainment from {self.attainment_from}: at least {SMALL}, in this order"
            )


DEPARTMENT = Level("department")
STRICT = Level("strict", attainment_from=11)
LEVELS = {level.name: level for level in (DEPARTMENT, STRICT)}


@dataclass
class Unsafe:
    """Of one side of a split, at each position: whether its size is unsafe, and whether its attainment is."""

    sizes: Mask
    attainment: Mask

    @property
    def any(self) -> Mask:
        return self.sizes | self.attainment


def find_unsafe(level: Level, layout: Layout, figures: Integers) -> Unsafe:
    """Returns which populations are unsafe by their own figures, [..., figure]."""
    pupils = figures[..., 0]
    sizes = (pupils > 0) & (pupils < level.sizes_from)
    attainment = (pupils > 0) & (pupils < level.attainment_from)
    published = figures @ layout.published
    for index, (_, measure) in enumerate(layout.names):
        if measure in SIZES:
            number = published[..., index]
            attainment |= (number > 0) & (number < level.attainment_from)
    return Unsafe(sizes, attainment)


def find_primary(level: Level, layout: Layout, split: Split) -> tuple[Mask, dict[Side, Unsafe]]:
    """Returns at which positions a row is hidden by its own figures, and which side of it is unsafe."""
    sides: dict[Side, Unsafe] = {"first": find_unsafe(level, layout, split.first)}
    hidden = sides["first"].any
    if split.rest is not None:
        sides["rest"] = find_unsafe(level, layout, split.rest)
        is_one_sided = ((split.first[..., 0] == 0) | (split.rest[..., 0] == 0)) & (split.frame > 0)
        if split.name not in EXCLUSIVE:
            is_one_sided &= split.frame < max(SMALL_BASE, level.attainment_from)
        hidden = hidden | sides["rest"].any | is_one_sided
    return np.asarray(hidden), sides


def find_reasons(level: Level, layout: Layout, split: Split) -> NDArray[np.str_]:
    """Returns why rows are hidden by their own figures, [school + 1, year + 1, side]: few-eligible, few-contributors, side-empty or nothing."""
    hidden, unsafe = find_primary(level, layout, split)
    is_unsafe = np.any([each.any for each in unsafe.values()], axis=0)
    reasons = []
    for figures in (split.first, split.rest):
        if figures is None:
            continue
        published, few = figures @ layout.published, {"eligible": np.zeros(hidden.shape, np.bool_)}
        few["eligible"] |= (figures[..., 0] > 0) & (figures[..., 0] < level.attainment_from)
        few["valid"] = np.zeros(hidden.shape, np.bool_)
        for index, (_, measure) in enumerate(layout.names):
            if measure in SIZES:
                few[measure] |= (published[..., index] > 0) & (published[..., index] < level.attainment_from)
        cases = [few["eligible"], few["valid"], hidden & ~is_unsafe]
        reasons.append(np.select(cases, ["few-eligible", "few-contributors", "side-empty"], ""))
    return np.stack(reasons, axis=-1)
