"""Large trusts are protected in families of schools, each as if its own sums were published; nothing else is then needed.

A trust's row pools the families that show theirs, and says which schools those are. Families are the units of parallel and of resumed work.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from domain.protection.audits import WorkLimits
from domain.protection.figures import Mask
from domain.protection.plan import Weights, Work
from domain.protection.protect import Decision, protect
from domain.protection.rules import Level
from domain.protection.tables import TOTAL, SplitFigures, Tables

LARGE = 9
"""Trusts of so many schools are protected in families."""
FAMILY = 6
"""Schools of a family, or one more."""
WEIGHTS = Weights(trust_year=20, trust=40)
"""Rows of a family are dearer: where it hides one, the trust's row lacks all its schools."""
LIMITS = WorkLimits(joint_variables=30_000, turns=3, repairs=4)


@dataclass(frozen=True)
class FamilyWork:
    """What has to be done for one family, in any process: its tables, level and seed. `schools` are its indexes in the trust."""

    schools: tuple[int, ...]
    tables: Tables
    level: Level
    seed: int


Mapper: TypeAlias = Callable[[Callable[[FamilyWork], Decision], Iterable[FamilyWork]], Iterable[Decision]]
"""Like `map`, which keeps the order; that of a pool of processes too."""


def protect_families(tables: Tables, level: Level, seed: int = 1, mapper: Mapper = map) -> Decision:
    """Returns which rows of a trust are hidden; the trust's rows in `tables` are then of the schools that they pool.

    Raises CannotProtect, which means that nothing may be published.
    """
    if tables.schools < LARGE:
        return protect(tables, level, seed=seed)
    work = [
        FamilyWork(schools, take_schools(tables, schools), level, seed + number)
        for number, schools in enumerate(form_families(tables.splits[TOTAL].frame[: tables.schools, tables.years].tolist()))
    ]
    decisions = dict(zip((each.schools for each in work), mapper(protect_family, work), strict=True))
    decision = join_families(tables, decisions)
    tables.pool(decision.pooled)
    return decision


def protect_family(work: FamilyWork) -> Decision:
    return protect(work.tables, work.level, seed=work.seed, weights=WEIGHTS, limits=LIMITS)


def form_families(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns families of schools, by index, in which large and small ones are mixed."""
    ordered = sorted(range(len(sizes)), key=lambda school: (sizes[school], school))
    number = max(1, len(sizes) // FAMILY)
    return [tuple(ordered[first::number]) for first in range(number)]


def take_schools(tables: Tables, schools: Sequence[int]) -> Tables:
    """Returns the tables of some schools alone."""
    chosen = list(schools)

    def take(name: str) -> SplitFigures:
        split = tables.splits[name]
        assert split.parent is not None
        return SplitFigures(split.parent, split.first[chosen, : tables.years])

    total = tables.splits[TOTAL].first[chosen, : tables.years]
    return Tables(tables.layout, total, {name: take(name) for name in tables.splits if name != TOTAL})


def join_families(tables: Tables, decisions: Mapping[tuple[int, ...], Decision]) -> Decision:
    """Returns the decision for the whole trust: a row of the trust is hidden where every family with pupils there hides its own."""
    hidden: dict[str, Mask] = {}
    pooled: dict[str, Mask] = {}
    for name, split in tables.splits.items():
        hidden[name] = np.zeros(tables.shape, np.bool_)
        pooled[name] = np.zeros((tables.schools, tables.years + 1), np.bool_)
        for schools, decision in decisions.items():
            chosen, of_family = list(schools), decision.hidden[name]
            hidden[name][chosen] = of_family[:-1]
            pooled[name][chosen] = decision.pooled[name] & ~of_family[-1]
        there = split.frame[: tables.schools] > 0
        is_shown = (pooled[name] & there).any(0)
        hides = np.any([decision.hidden[name][-1] for decision in decisions.values()], axis=0)
        hidden[name][tables.schools] = hides & ~is_shown
    return Decision(hidden, pooled, sum((decision.work for decision in decisions.values()), Work()))
