"""Proves what is left to prove: first by moves, then by linear programmes over blocks of hidden positions, small ones first.

A programme of a split by itself leaves all pupils where they are. Hidden totals couple the splits: a joint programme changes all splits at
once. It is slow, so that it gets a few random objectives over many targets, and single targets only at the end.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from domain.protection.moves import Moves, Prover
from domain.protection.plan import Plan
from domain.protection.programmes import ENDLESS, Programme, Unbounded
from domain.protection.proofs import Bank, Target, is_proven, list_open, note_change
from domain.protection.tables import TOTAL, Position


class Extent(Enum):
    """Which splits a programme changes."""

    SPLIT = "the split alone"
    CHAIN = "the split, those around it and those within it"
    TOTALS = "every split, where totals are hidden"
    EVERYTHING = "every split, wherever it is hidden"

    @property
    def is_joint(self) -> bool:
        return self in (Extent.TOTALS, Extent.EVERYTHING)


class Depth(Enum):
    """How far an audit goes."""

    SPLIT = 0
    """Never over all splits at once."""
    SAMPLE = 1
    """A few joint objectives, over many targets each."""
    FULL = 2
    """Each target by itself."""


class Block(NamedTuple):
    """Schools and years whose hidden positions a programme may change."""

    schools: tuple[int, ...]
    years: tuple[int, ...]


@dataclass(frozen=True)
class WorkLimits:
    """WorkLimits of work. None of them is time, so that the same data give the same decision."""

    stages: tuple[int, ...] = (16, 40)
    """Places of a split's programme: first so many, then more."""
    rounds: int = 4
    """Random objectives of a programme; three times as many where there are many targets."""
    many: int = 40
    joint_blocks: tuple[int, ...] = (3, 5)
    """Schools of a joint programme."""
    joint_positions: int = 110
    joint_variables: int = 60_000
    """Variables of all joint programmes together, before what is added for the last audit and for repairs."""
    programmes: int = 1_000_000
    """From so many on moves alone prove, which hides more."""
    turns: int = 6
    """How often one more total is hidden and all begins again, before whole schools and whole splits are."""
    repairs: int = 8
    """Positions for which a total is looked for whose hiding proves what is unproven there."""


class Auditor:
    """Proves targets of the splits of one plan."""

    def __init__(self, plan: Plan, moves: Moves, limits: WorkLimits) -> None:
        self.plan, self.moves, self.limits = plan, moves, limits
        self.joint_budget = limits.joint_variables

    @property
    def is_cut(self) -> bool:
        return self.plan.work.programmes >= self.limits.programmes

    @property
    def has_joint_budget(self) -> bool:
        return self.plan.work.joint_variables <= self.joint_budget

    def audit(
        self, name: str, targets: Sequence[Target], bank: Bank, depth: Depth = Depth.SAMPLE, rounds: int | None = None
    ) -> list[Target]:
        """Notes proofs of targets of a split in the bank; returns those that remain open."""
        Prover(self.plan, self.moves).prove(targets, bank)
        if not list_open(bank, targets):
            return []
        self.solve(name, targets, bank, Extent.SPLIT, rounds=rounds)
        if depth is Depth.SPLIT:
            return list_open(bank, targets)
        parent = self.plan.tables.splits[name].parent
        has_chain = parent is not None and (depth is Depth.FULL or parent.split != TOTAL)
        if has_chain and list_open(bank, targets):
            self.solve(name, targets, bank, Extent.CHAIN)
        hidden_totals = int(self.plan.hidden[TOTAL][: self.plan.tables.schools, : self.plan.tables.years].sum())
        if hidden_totals:
            for extent in (Extent.TOTALS, Extent.EVERYTHING):
                number = len(list_open(bank, targets))
                if number and (depth is Depth.FULL or extent is Extent.TOTALS):
                    is_single = depth is Depth.FULL or (number <= 6 and hidden_totals <= 12)
                    self.solve(name, targets, bank, extent, rounds=min(8, 2 + number // 4), is_single=is_single)
        return list_open(bank, targets)

    def solve(
        self,
        name: str,
        targets: Sequence[Target],
        bank: Bank,
        extent: Extent,
        *,
        blocks: Iterable[Block] | None = None,
        rounds: int | None = None,
        is_single: bool = True,
    ) -> None:
        """Tries programmes over blocks. `is_single`: each target that random objectives leave open is an objective of its own.

        Where `blocks` are input, it ends at the first target that stays open, since a complement is tried.
        """
        if rounds is None:
            rounds = self.limits.rounds if len(targets) < self.limits.many else 3 * self.limits.rounds
        fixed = self.plan.find_fixed(name)
        for block in self._list_blocks(name, extent) if blocks is None else blocks:
            mine = [t for t in list_open(bank, targets) if t.position not in fixed and self._is_in(t.position, block)]
            positions = self._list_positions(name, block, extent) if mine else {}
            if not positions.get(name) or (extent.is_joint and not positions[TOTAL]):
                continue
            if self.is_cut:
                return
            is_large = extent is Extent.EVERYTHING and sum(map(len, positions.values())) > self.limits.joint_positions
            if extent.is_joint and (is_large or not self.has_joint_budget):
                continue
            programme = Programme(self.plan, positions)
            self._try_together(programme, mine, targets, bank, rounds, least=4 if is_single else 1)
            if is_single and not self._try_each(programme, mine, targets, bank, extent, stops=blocks is not None):
                return

    def _try_together(
        self, programme: Programme, mine: list[Target], targets: Sequence[Target], bank: Bank, rounds: int, least: int
    ) -> None:
        """Maximises random combinations of the open targets, as long as there are at least so many."""
        for _ in range(rounds):
            unproven = list_open(bank, mine)
            if len(unproven) < least:
                return
            signs = self.plan.random.choice([-1.0, 1.0], len(unproven))
            objective = np.zeros(programme.size)
            for target, sign in zip(unproven, signs, strict=True):
                objective += programme.make_objective(target, sign) / (1 if target.is_size else 4)
            try:
                found = programme.maximise(objective)
            except Unbounded:
                continue
            if found is not None:
                programme.note_changes(found, targets, bank)

    def _try_each(
        self, programme: Programme, mine: list[Target], targets: Sequence[Target], bank: Bank, extent: Extent, *, stops: bool
    ) -> bool:
        """Maximises and minimises each open target; returns False where it `stops` at one that stays open."""
        for target in mine:
            for sign in (1, -1):
                if is_proven(bank, target) or self.is_cut or (extent.is_joint and not self.has_joint_budget):
                    break
                try:
                    found = programme.maximise(programme.make_objective(target, sign))
                except Unbounded:
                    note_change(bank, target, ENDLESS, programme.list_positions(target))
                else:
                    if found is not None:
                        programme.note_changes(found, targets, bank)
            if stops and not is_proven(bank, target):
                return False
        return True

    # Blocks

    def _is_in(self, position: Position, block: Block) -> bool:
        schools, years = self.plan.tables.schools, self.plan.tables.years
        return (position[0] == schools or position[0] in block.schools) and (position[1] == years or position[1] in block.years)

    def _list_positions(self, name: str, block: Block, extent: Extent) -> dict[str, list[Position]]:
        """Returns the hidden positions of a block, by split; empty for TOTAL alone, which no programme of its own proves."""
        splits = self.plan.tables.splits

        def hidden(split: str) -> list[Position]:
            return [(school, year) for school in block.schools for year in block.years if self.plan.hidden[split][school, year]]

        if extent is Extent.TOTALS:
            return {split: hidden(TOTAL) for split in splits}
        if extent is Extent.EVERYTHING:
            return {split: hidden(split) for split in splits}
        if name == TOTAL:
            return {}
        if extent is Extent.SPLIT:
            return {name: hidden(name)}
        chain = [name]
        while (parent := splits[chain[0]].parent) is not None and parent.split != TOTAL:
            chain.insert(0, parent.split)
        around = len(chain)
        for split, each in splits.items():
            if each.parent is not None and each.parent.split in chain and split not in chain:
                chain.append(split)
        return {split: hidden(split if number < around else name) for number, split in enumerate(chain)}

    def _list_blocks(self, name: str, extent: Extent) -> Iterator[Block]:
        schools, years = self.plan.tables.schools, self.plan.tables.years
        hiding = [school for school in range(schools) if self.plan.hidden[name][school, :years].any()]
        if not extent.is_joint:
            yield from self._list_blocks_of_split(hiding)
            return
        totals = [school for school in range(schools) if self.plan.hidden[TOTAL][school, :years].any()]
        others = [school for school in hiding if school not in totals]
        for size in self.limits.joint_blocks if totals else ():
            for start in range(0, len(totals), size):
                chosen = totals[start : start + size]
                if len(chosen) < size:
                    chosen = (totals[-size:] + others)[:size]
                yield Block(tuple(chosen), tuple(range(years)))
            if size >= len(totals):
                return

    def _list_blocks_of_split(self, hiding: list[int]) -> Iterator[Block]:
        """Yields blocks of so many positions as each stage has: four years at a time at first, where there are many."""
        years = self.plan.tables.years
        seen: set[Block] = set()
        for positions in self.limits.stages:
            width = years if positions >= 4 * years or years <= 4 else 4
            height = max(2, min(len(hiding), positions // width))
            for some in _cut(hiding, height):
                for in_years in _cut(list(range(years)), width):
                    block = Block(some, in_years)
                    if block not in seen:
                        seen.add(block)
                        yield block
            if height >= len(hiding) and width == years:
                return


def _cut(numbers: list[int], size: int) -> Iterator[tuple[int, ...]]:
    """Yields slices of a size; the last one overlaps the one before, so that it has the size too."""
    for start in range(0, len(numbers), size):
        if start and start + size > len(numbers):
            yield tuple(numbers[-size:])
        else:
            yield tuple(numbers[start : start + size])
