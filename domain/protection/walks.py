"""Moves pupils of different kinds one after the other, round several boxes, so that a size changes by more than one kind allows."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from domain.protection.boxes import Box, list_needed
from domain.protection.figures import Integers, Mask
from domain.protection.kinds import Kinds, Move, Role
from domain.protection.plan import Plan, ShownSums
from domain.protection.proofs import Bank, Target, list_open, note_change
from domain.protection.tables import Population, Position

REPEATS = 4
"""Pupils that are moved round one box."""


class Walk:
    """Pupils that are moved by one kind of move. What each population has left at each position is counted down."""

    def __init__(self, plan: Plan, kinds: Kinds, move: Move) -> None:
        self._plan, self._kinds, self._move = plan, kinds, move
        self._populations = sorted(move.populations)
        self._left: dict[tuple[Population, Position], Integers] = {}

    def prove(self, steps: Sequence[tuple[Box, int]], targets: Sequence[Target], bank: Bank, sums: ShownSums) -> None:
        """Notes the changes of the targets. `steps` are boxes, and by how much each changes the position of the targets."""
        for sign in (1, -1):
            self._left.clear()
            total = np.zeros(self._kinds.published.shape[1], np.int64)
            needed: frozenset[Position] = frozenset()
            for box, effect in steps:
                if not list_open(bank, targets):
                    return
                turned = sign if effect > 0 else -sign
                for _ in range(REPEATS):
                    if (kind := self._move_pupil(box, turned)) is None:
                        break
                    total = total + self._kinds.published[kind] * (sign * self._move.sign * abs(effect))
                    needed |= list_needed(box, sums)
                    for target in targets:
                        note_change(bank, target, int(total[target.figure]), needed)
                    if not list_open(bank, targets):
                        return

    def _move_pupil(self, box: Box, sign: int) -> int | None:
        """Moves one pupil of the kind of which most are left; returns its index, or None where none fits."""
        fits = np.ones(self._kinds.pupils, np.bool_)
        found: dict[Role, Mask] = {}
        for role in self._move.fixed:
            fits = fits & self._find_fitting(role, box, sign, found)
        tried: list[list[Mask]] = []
        for choice in self._move.choices:
            if not fits.any():
                return None
            alternatives = []
            for alternative in choice:
                each = fits.copy()
                for role in alternative:
                    each &= self._find_fitting(role, box, sign, found)
                alternatives.append(each)
            tried.append(alternatives)
            fits = fits & np.any(alternatives, axis=0)
        if not fits.any():
            return None
        kind = int(np.where(fits, self._score(box, sign), -1).argmax())
        chosen = list(self._move.fixed)
        for choice, alternatives in zip(self._move.choices, tried, strict=True):
            possible = [alternative for alternative, each in zip(choice, alternatives, strict=True) if each[kind]]
            chosen += max(possible, key=lambda roles: self._count_pupils(roles, box))
        for role in chosen:
            for position, effect in box.corners:
                change = effect * role.sign * sign * self._kinds.conditions[kind]
                self._left[role.population, position] = self._get_left(role.population, position) + change
        return kind

    def _find_fitting(self, role: Role, box: Box, sign: int, found: dict[Role, Mask]) -> Mask:
        """Which kinds the population has at every position that a pupil leaves; one more always fits."""
        if role not in found:
            fits = np.ones(self._kinds.pupils, np.bool_)
            for position, effect in box.corners:
                if effect * role.sign * sign < 0:
                    fits &= (self._get_left(role.population, position)[None] >= self._kinds.conditions[: self._kinds.pupils]).all(1)
            found[role] = fits
        return found[role]

    def _score(self, box: Box, sign: int) -> NDArray[np.float64]:
        """The more pupils have the marks of a kind wherever one leaves, the better; then the more marks the better."""
        layout = self._plan.tables.layout
        subjects, levels = len(layout.subjects), len(layout.levels)
        score: NDArray[np.float64] = self._kinds.marks * np.float64(10)
        for role in self._move.fixed:
            for position, effect in box.corners:
                if effect * role.sign * sign < 0:
                    figures = self._get_left(role.population, position)[-layout.length :]
                    bands = figures[1 : 1 + levels * subjects].reshape(subjects, levels)
                    by_level = np.concatenate([bands, (figures[0] - bands.sum(1))[:, None]], axis=1)
                    fewest = by_level[np.arange(subjects)[None], self._kinds.columns].min(1)
                    score = np.minimum(score, fewest + self._kinds.marks * np.float64(0.1))
        return score

    def _count_pupils(self, roles: Iterable[Role], box: Box) -> int:
        length = self._plan.tables.layout.length
        return min(int(self._get_left(role.population, position)[-length]) for role in roles for position in box.positions)

    def _get_left(self, population: Population, position: Position) -> Integers:
        if (population, position) not in self._left:
            figures = self._plan.tables.get_figures(population)[position]
            self._left[population, position] = np.asarray(self._plan.tables.layout.conditions @ figures)
        return self._left[population, position]
