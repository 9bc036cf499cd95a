"""Decides what a publication hides: totals first, then each split within what is shown, parents before the splits within them.

Where a group in a hidden class cannot be protected, its school's total of all years is hidden too, its pupils leave the trust's rows, and
the work begins again. What cannot be proven safe in the end is hidden with all that leads to it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

import numpy as np

from domain.protection.audits import Auditor, Depth, WorkLimits
from domain.protection.complements import MAX_CANDIDATES, Complementer
from domain.protection.figures import Mask
from domain.protection.moves import Moves, Prover
from domain.protection.plan import Plan, Weights, Work
from domain.protection.proofs import Target, list_open
from domain.protection.rules import Level
from domain.protection.settled import Settled
from domain.protection.tables import TOTAL, Position, Tables

LAST_AUDIT = 40_000
"""Joint variables that are added to the budget for what is unproven at last."""


class CannotProtect(Exception):
    """Even with everything hidden a target is not proven; nothing may be published."""


@dataclass(frozen=True)
class Decision:
    """Which rows are hidden, by split, [school + 1, year + 1]; and which schools the trust's rows pool, by split, [school, year + 1]."""

    hidden: dict[str, Mask]
    pooled: dict[str, Mask]
    work: Work


@dataclass
class _Forced:
    """What is hidden whatever the rules say: totals, and splits everywhere."""

    totals: Mask
    splits: set[str]


def protect(
    tables: Tables,
    level: Level,
    *,
    seed: int = 1,
    weights: Weights | None = None,
    limits: WorkLimits | None = None,
    settled: Settled | None = None,
) -> Decision:
    """Returns which rows are hidden: of a later edition, which are not shown anew. The figures of the trust's rows in `tables` are then of the
    schools that they pool.

    Raises CannotProtect, which means that nothing may be published.
    """
    limits = limits or WorkLimits()
    moves = Moves(tables)
    forced = _Forced(np.zeros(tables.shape, np.bool_), set())
    for turn in count():
        if settled is None:
            tables.pool_shown(np.zeros(tables.shape, np.bool_))
        else:
            tables.hold_pool(settled.pooled)
        plan = Plan(tables, level, seed, forced.totals, forced.splits, weights or Weights(), settled)
        run = _Run(Auditor(plan, moves, limits))
        wanted = run.run()
        unproven = [target for each in plan.unproven.values() for target in each]
        if not wanted and not unproven:
            pooled = np.concatenate([tables.pooled, tables.pooled_schools[:, None]], axis=1)
            return Decision(plan.hidden, dict.fromkeys(plan.hidden, pooled), plan.work)
        if wanted and turn < limits.turns:
            for position in wanted:
                forced.totals[position] = True
        elif not _force_more(tables, forced, unproven, with_trust=settled is not None):
            raise CannotProtect(f"{len(unproven)} figures cannot be protected, such as {unproven[0]}")
    raise AssertionError("it ends by a decision")


def _force_more(tables: Tables, forced: _Forced, unproven: Iterable[Target], *, with_trust: bool) -> bool:
    """Hides every total of the schools of unproven targets, else their splits everywhere, else every total; False where all are hidden."""
    there = tables.splits[TOTAL].frame > 0
    there[tables.schools] &= with_trust
    before = int(forced.totals.sum()), len(forced.splits)
    for target in unproven:
        school = target.position[0]
        if school < tables.schools and (there[school] & ~forced.totals[school]).any():
            forced.totals[school] |= there[school]
        elif target.split not in forced.splits:
            forced.splits.add(target.split)
        else:
            forced.totals |= there
    return (int(forced.totals.sum()), len(forced.splits)) != before


class _Run:
    """One attempt with the totals that are forced."""

    def __init__(self, auditor: Auditor) -> None:
        self._auditor, self._plan = auditor, auditor.plan
        self._complementer = Complementer(auditor)

    def run(self) -> list[Position]:
        """Fills the plan; returns totals that have to be hidden besides, where all has to begin again."""
        plan = self._plan
        names = [name for name in plan.tables.splits if name != TOTAL]
        self._complementer.protect(TOTAL)
        if plan.settled is None:
            plan.tables.pool_shown(plan.hidden[TOTAL])
        for name in names:
            plan.start(name)
        for name in names:
            parent = plan.tables.splits[name].parent
            assert parent is not None
            plan.hidden[name] = plan.hidden[name] | plan.hidden[parent.split]
            plan.own[name] = plan.hidden[name].copy()
            self._complementer.protect(name)
            plan.hide_inner(name)
            if wanted := self._list_school_totals():
                return wanted
        self._auditor.joint_budget = max(self._auditor.joint_budget, plan.work.joint_variables + LAST_AUDIT)
        for name, unproven in plan.unproven.items():
            if unproven:
                plan.unproven[name] = self._auditor.audit(name, unproven, plan.banks[name], Depth.FULL)
        return self._repair()

    def _list_unproven(self) -> list[Target]:
        return [target for unproven in self._plan.unproven.values() for target in unproven]

    def _list_school_totals(self) -> list[Position]:
        """The totals of schools in whose hidden classes something is unproven."""
        totals, schools, years = self._plan.hidden[TOTAL], self._plan.tables.schools, self._plan.tables.years
        positions = {target.position for target in self._list_unproven()}
        return sorted(
            {
                (school, years)
                for school, year in positions
                if school < schools and totals[school, year] and not totals[school, years]
            }
        )

    def _repair(self) -> list[Position]:
        """Returns the totals whose hiding proves most of what is unproven at a position."""
        if wanted := self._list_school_totals():
            return wanted
        plan, hopeless = self._plan, set[Position]()
        schools, years = plan.tables.schools, plan.tables.years
        for _ in range(self._auditor.limits.repairs):
            unproven = [target for target in self._list_unproven() if target.position not in hopeless]
            if not unproven:
                break
            position = min(
                {target.position for target in unproven}, key=lambda each: (each[0] == schools or each[1] == years, each)
            )
            if found := self._find_repair(position, [target for target in unproven if target.position == position]):
                return found
            hopeless.add(position)
        return []

    def _find_repair(self, position: Position, targets: list[Target]) -> list[Position]:
        plan, best, best_gain = self._plan, list[Position](), 0.0
        candidates = self._complementer.list_candidates(TOTAL, position)[:MAX_CANDIDATES]
        for candidate in candidates:
            before = dict(plan.hidden)
            plan.hide(TOTAL, candidate.positions)
            number = 0
            for name in sorted({target.split for target in targets}):
                mine = [target for target in targets if target.split == name]
                proofs = {target: plan.banks[name][target] for target in mine if target in plan.banks[name]}
                Prover(plan, self._auditor.moves).prove(mine, proofs)
                number += len(mine) - len(list_open(proofs, mine))
            plan.hidden.update(before)
            if number / candidate.cost > best_gain:
                best, best_gain = list(candidate.positions), number / candidate.cost
            if number == len(targets):
                break
        return best or [position for candidate in candidates[:1] for position in candidate.positions]
