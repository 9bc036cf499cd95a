"""Hides further rows until every target is proven, the cheapest first, and shows again what turns out not to be needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from domain.protection.audits import Auditor, Block, Depth, Extent
from domain.protection.moves import Prover
from domain.protection.proofs import NO_PROOF, Bank, Target, is_proven, list_open
from domain.protection.tables import TOTAL, Position

MAX_CANDIDATES, MAX_SINGLE, MAX_PROGRAMMES = 20, 6, 3
"""Complements that are tried for a position; those of them that are one row; and those tried by programmes too."""
MAX_ROWS = 24
"""Schools that complements are looked for in, where there are more than half as many."""
MAX_PROVEN_AGAIN = 40
"""Proofs that are looked for anew to show one row again."""
NEARLY_ALL = 0.85
"""A split of which more is hidden is hidden whole."""
TURNS = 3


@dataclass(frozen=True)
class Candidate:
    """Rows of a split that could be hidden for a position, and their cost."""

    cost: float
    positions: tuple[Position, ...]


class Complementer:
    """Protects splits, one after the other."""

    def __init__(self, auditor: Auditor) -> None:
        self._auditor, self._plan = auditor, auditor.plan

    def protect(self, name: str) -> None:
        """Hides complements in a split. What stays unproven is in the plan."""
        plan = self._plan
        bank, added = plan.banks[name], list[Position]()
        there = plan.tables.splits[name].frame > 0
        if name != TOTAL and plan.hidden[name][there].mean() > NEARLY_ALL:
            plan.hidden[name] = plan.hidden[name] | there
            plan.hide_inner(name)
        hopeless: set[Position] = set()
        unproven: list[Target] = []
        for turn in range(TURNS):
            unproven = list_open(bank, plan.list_targets(name))
            if unproven:
                unproven = self._auditor.audit(name, unproven, bank)
            if not unproven or (turn and all(target.position in hopeless for target in unproven)):
                break
            hopeless = self._hide_complements(name, unproven, bank, added)
            if turn == 0:
                self._clean_up(name, plan.list_targets(name), bank, added)
        plan.unproven[name] = unproven

    def list_candidates(self, name: str, position: Position) -> list[Candidate]:
        """The complements of a position, the cheapest first: single rows of its lines, and the rest of boxes."""
        plan = self._plan
        schools, years = plan.tables.schools, plan.tables.years
        hidden, frame = plan.hidden[name], plan.tables.splits[name].frame
        cost = plan.weigh(plan.tables.splits[name])
        rows = list(range(schools + 1))
        if schools > MAX_ROWS // 2:
            rows = sorted(rows, key=lambda row: (-int(hidden[row].sum()), row))[:MAX_ROWS]
        if name == TOTAL and plan.settled is None:  # a hidden total needs no other school
            rows = []
        school, year = position
        other_rows = [row for row in rows if row != school]
        other_years = [each for each in range(years + 1) if each != year]
        boxes: set[tuple[float, tuple[Position, ...]]] = set()
        for row in other_rows:
            for each in other_years:
                corners = [(school, each), (row, year), (row, each)]
                new = tuple(corner for corner in corners if not hidden[corner])
                if new and all(frame[corner] for corner in corners):
                    boxes.add((float(sum(cost[corner] for corner in new)), new))
        lines = [*((school, each) for each in other_years), *((row, year) for row in other_rows)]
        boxes |= {(float(cost[each]), (each,)) for each in lines if frame[each] and not hidden[each]}
        ordered = sorted(boxes)
        single = [box for box in ordered if len(box[1]) == 1][:MAX_SINGLE]
        several = [box for box in ordered if len(box[1]) > 1][: MAX_CANDIDATES - MAX_SINGLE]
        return [Candidate(*box) for box in sorted(single + several)]

    # Complements

    def _hide_complements(self, name: str, targets: list[Target], bank: Bank, added: list[Position]) -> set[Position]:
        """Hides complements for one position after the other; returns the positions for which nothing is left to hide."""
        plan, hopeless = self._plan, set[Position]()
        trust = plan.tables.schools, plan.tables.years
        unproven = list(targets)
        while unproven:
            unproven.sort(key=lambda target: (not target.is_size, target.position == trust, target.position))
            position = next((target.position for target in unproven if target.position not in hopeless), None)
            if position is None:
                break
            here = [target for target in unproven if target.position == position]
            found = self._find_complement(name, position, here, bank)
            if found is None:
                if (row := self._find_cheapest_row(name, position)) is None:
                    hopeless.add(position)
                    continue
                plan.hide(name, [row])
                added.append(row)
                plan.work.escalations += 1
                self._auditor.audit(name, here, bank, Depth.SPLIT, rounds=1)
            else:
                candidate, proofs = found
                plan.hide(name, candidate.positions)
                added += candidate.positions
                bank.update(proofs)
            unproven = list_open(bank, unproven)
            Prover(plan, self._auditor.moves, frozenset(added)).prove(unproven, bank)
            unproven = list_open(bank, unproven)
            if unproven and all(target.position in hopeless for target in unproven):
                unproven = self._auditor.audit(name, unproven, bank)
        return hopeless

    def _find_complement(self, name: str, position: Position, targets: list[Target], bank: Bank) -> tuple[Candidate, Bank] | None:
        """Returns the first complement that proves all of the position: by moves, else by programmes, else the one that proves most for
        its cost."""
        candidates = self.list_candidates(name, position)
        for by_programme in (False, True):
            best, best_gain = None, 0.0
            for candidate in candidates[:MAX_PROGRAMMES] if by_programme else candidates:
                proofs = self._try_complement(name, position, candidate, targets, bank, by_programme=by_programme)
                if not list_open(proofs, targets):
                    return candidate, proofs
                gain = (_measure(targets, proofs) - _measure(targets, bank)) / candidate.cost
                if gain > best_gain:
                    best, best_gain = (candidate, proofs), gain
            if by_programme:
                return best
        return None

    def _try_complement(
        self, name: str, position: Position, candidate: Candidate, targets: list[Target], bank: Bank, *, by_programme: bool
    ) -> Bank:
        """Returns the proofs that there would be; the plan is as before."""
        plan, before = self._plan, dict(self._plan.hidden)
        proofs = {target: bank[target] for target in targets if target in bank}
        plan.hide(name, candidate.positions)
        new = frozenset(candidate.positions)
        Prover(plan, self._auditor.moves, new).prove(targets, proofs, hurries=not by_programme)
        if by_programme and name != TOTAL and list_open(proofs, targets):
            schools, years = plan.tables.schools, plan.tables.years
            chosen = sorted({each[0] for each in (position, *candidate.positions) if each[0] < schools})
            more = [each for each in range(schools) if each not in chosen and plan.hidden[name][each, :years].any()]
            block = Block(tuple((chosen + more)[: max(len(chosen), 4)]), tuple(range(years)))
            self._auditor.solve(name, targets, proofs, Extent.SPLIT, blocks=[block], rounds=2)
        plan.hidden.update(before)
        return proofs

    def _find_cheapest_row(self, name: str, position: Position) -> Position | None:
        """The cheapest row of the lines of a position that can still be hidden."""
        plan = self._plan
        split, hidden = plan.tables.splits[name], plan.hidden[name]
        cost = plan.weigh(split)
        lines = [(position[0], year) for year in range(plan.tables.years + 1)]
        lines += [(school, position[1]) for school in range(plan.tables.schools + 1)]
        possible = [row for row in lines if not hidden[row] and split.frame[row]]
        if name == TOTAL and plan.settled is None:
            possible = [row for row in possible if row[0] < plan.tables.schools]
        return min(possible, key=lambda row: (cost[row], row), default=None)

    # Clean-up

    def _clean_up(self, name: str, targets: Sequence[Target], bank: Bank, added: Sequence[Position]) -> None:
        """Shows complements again, the dearest first, where everything that needed them can be proven otherwise."""
        plan = self._plan
        cost = plan.weigh(plan.tables.splits[name])
        for row in sorted(set(added), key=lambda row: (-cost[row], row)):
            if plan.own[name][row]:
                continue
            before = dict(plan.hidden)
            plan.show(name, row)
            needing = [target for target in targets if is_proven(bank, target) and _needs(bank, target, row)]
            proofs: Bank = {}
            Prover(plan, self._auditor.moves).prove(needing, proofs)
            unproven = list_open(proofs, needing)
            if unproven:
                fixed = plan.find_fixed(name)
                is_hopeless = len(unproven) > MAX_PROVEN_AGAIN or any(target.position in fixed for target in unproven)
                if is_hopeless or self._auditor.audit(name, unproven, proofs, Depth.SPLIT, rounds=2):
                    plan.hidden.update(before)
                    continue
            bank.update(proofs)


def _needs(bank: Bank, target: Target, position: Position) -> bool:
    proof = bank.get(target, NO_PROOF)
    return position in proof.needed_below or position in proof.needed_above


def _measure(targets: Sequence[Target], bank: Bank) -> int:
    """How many of the values that the targets must keep they are proven to keep."""
    return sum(min(target.enough, bank.get(target, NO_PROOF).width) for target in targets)
