"""Proves that hidden figures may have other values by moving pupils round boxes, in whole numbers.

How often each kind of pupil can enter or leave each population at a position of a single year is a table, which depends on nothing that is
hidden. A box is the least of its corners, so that most proofs are look-ups.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from domain.protection.boxes import Box, list_boxes, list_leaves, list_needed
from domain.protection.figures import Integers
from domain.protection.kinds import Kinds, Move, Role, list_moves
from domain.protection.plan import Plan, ShownSums
from domain.protection.proofs import Bank, Target, list_open, note_change
from domain.protection.tables import Population, Position, Tables
from domain.protection.walks import Walk

STEPS = 4
"""How often one kind of pupil is moved round one box."""
MAX_WALK = 12
"""Boxes that pupils of different kinds are moved round, one after the other."""
Repeats = NDArray[np.int8]


class Moves:
    """What can be moved in the tables of a trust. It depends on no mask, so that every plan of the same tables shares it."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.kinds = Kinds(tables.layout)
        self.of = list_moves(tables)
        self._populations = list(tables.list_populations())
        self._repeats: dict[Position, dict[Population, Repeats]] = {}
        self._changes: dict[tuple[Move, Box], tuple[Integers, Integers]] = {}

    def _get_repeats(self, leaf: Position) -> dict[Population, Repeats]:
        """How often each kind can enter (index 0) and leave (1) each population at a position of a single year, up to STEPS times."""
        if leaf not in self._repeats:
            conditions = self.tables.layout.conditions
            slack = np.array([self.tables.get_figures(each)[leaf] for each in self._populations]) @ conditions.T
            found = np.zeros((len(self._populations), 2, len(self.kinds.vectors)), np.int8)
            for times in range(1, STEPS + 1):
                for index, change in enumerate((self.kinds.conditions, -self.kinds.conditions)):
                    found[:, index] += (slack[:, None, :] + times * change[None] >= 0).all(-1)
            self._repeats[leaf] = dict(zip(self._populations, found, strict=True))
        return self._repeats[leaf]

    def _count_role(self, role: Role, box: Box) -> Repeats:
        repeats = [self._get_repeats(position)[role.population][0 if sign * role.sign > 0 else 1] for position, sign in box.corners]
        return np.asarray(np.min(repeats, axis=0))

    def find_changes(self, move: Move, box: Box) -> tuple[Integers, Integers]:
        """Returns the lowest and the highest change of each published figure at a position with a positive sign, by one kind of pupil."""
        if (move, box) not in self._changes:
            low = np.zeros(self.kinds.published.shape[1], np.int64)
            high = low.copy()
            for sign in (1, -1):
                repeats = self._count_move(move, box, sign)
                possible = np.flatnonzero(repeats)
                if len(possible):
                    changes = self.kinds.published[possible] * (repeats[possible, None].astype(np.int64) * (sign * move.sign))
                    low, high = np.minimum(low, changes.min(0)), np.maximum(high, changes.max(0))
            self._changes[move, box] = low, high
        return self._changes[move, box]

    def _count_move(self, move: Move, box: Box, sign: int) -> Repeats:
        counted: dict[Role, Repeats] = {}

        def count(role: Role) -> Repeats:
            turned = role.turn(sign)
            if turned not in counted:
                counted[turned] = self._count_role(turned, box)
            return counted[turned]

        repeats = np.asarray(np.min([count(role) for role in move.fixed], axis=0))
        for choice in move.choices:
            if not repeats.any():
                break
            best = np.max([np.min([count(role) for role in alternative], axis=0) for alternative in choice], axis=0)
            repeats = np.minimum(repeats, best)
        return repeats


class Prover:
    """Looks for proofs of targets of one split by moves, as its plan hides rows now."""

    def __init__(self, plan: Plan, moves: Moves, new: frozenset[Position] | None = None) -> None:
        """`new` are positions that were hidden just now: only what they make possible is tried. None tries everything."""
        self._plan, self._moves, self._new = plan, moves, new
        self._sums: dict[str, ShownSums] = {}
        self._boxes: dict[tuple[str, Position], list[Box]] = {}

    def prove(self, targets: Iterable[Target], bank: Bank, *, hurries: bool = False) -> None:
        """Notes what is proven in the bank. `hurries`: ends at the first population whose size stays unproven."""
        groups: dict[tuple[Position, Population], list[Target]] = {}
        for target in list_open(bank, targets):
            groups.setdefault((target.position, target.population), []).append(target)
        for (position, population), group in sorted(
            groups.items(), key=lambda each: (not any(t.is_size for t in each[1]), each[0])
        ):
            for move in self._moves.of.get(population, ()):
                if not (group := list_open(bank, group)):
                    break
                if self._plan.hidden[move.split].any():
                    self._try_move(move, position, group, bank)
            if hurries and any(target.is_size for target in list_open(bank, groups[position, population])):
                return

    def _try_move(self, move: Move, position: Position, targets: Sequence[Target], bank: Bank) -> None:
        sums = self._get_sums(move.split)
        steps: list[tuple[Box, int]] = []
        for leaf in list_leaves(self._plan, move.split, position):
            for box in self._get_boxes(move.split, leaf):
                if not (effect := sums.count_effect(position, box.corners)):
                    continue
                steps.append((box, effect))
                if self._is_useful(box, sums):
                    self._note_box(move, box, effect, targets, bank)
                    if not list_open(bank, targets):
                        return
            if not list_open(bank, targets):
                return
        sizes = [target for target in list_open(bank, targets) if target.is_size]
        if sizes and steps and any(self._is_useful(box, sums) for box, _ in steps):
            Walk(self._plan, self._moves.kinds, move).prove(steps[:MAX_WALK], sizes, bank, sums)

    def _note_box(self, move: Move, box: Box, effect: int, targets: Sequence[Target], bank: Bank) -> None:
        low, high = self._moves.find_changes(move, box)
        if effect < 0:
            low, high = high, low
        needed: frozenset[Position] | None = None
        for target in list_open(bank, targets):
            for change in (effect * int(low[target.figure]), effect * int(high[target.figure])):
                if change:
                    needed = list_needed(box, self._get_sums(move.split)) if needed is None else needed
                    note_change(bank, target, change, needed)

    def _is_useful(self, box: Box, sums: ShownSums) -> bool:
        return self._new is None or not self._new.isdisjoint(box.positions) or not self._new.isdisjoint(list_needed(box, sums))

    def _get_sums(self, name: str) -> ShownSums:
        if name not in self._sums:
            self._sums[name] = self._plan.find_sums(name)
        return self._sums[name]

    def _get_boxes(self, name: str, leaf: Position) -> list[Box]:
        if (name, leaf) not in self._boxes:
            self._boxes[name, leaf] = list_boxes(self._plan, name, leaf, self._get_sums(name), self._new or frozenset())
        return self._boxes[name, leaf]
