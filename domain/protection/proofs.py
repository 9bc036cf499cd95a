"""What has to be proven of hidden figures, and what has been."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from domain.protection.tables import Population, Position

ENOUGH_SIZES, ENOUGH_COUNTS = 5, 2
"""How many values the size of an unsafe group must keep, and how many an attainment count."""


class Target(NamedTuple):
    """A figure of an unsafe population at a position, by its index among those that are published, and how many values it must keep."""

    population: Population
    position: Position
    figure: int
    enough: int

    @property
    def split(self) -> str:
        return self.population.split

    @property
    def is_size(self) -> bool:
        return self.enough == ENOUGH_SIZES


@dataclass(frozen=True)
class Proof:
    """How far a figure may change, downwards and upwards, and which hidden positions each change needs."""

    low: int = 0
    high: int = 0
    needed_below: frozenset[Position] = frozenset()
    needed_above: frozenset[Position] = frozenset()

    @property
    def width(self) -> int:
        return self.high - self.low + 1


NO_PROOF = Proof()
Bank: TypeAlias = dict[Target, Proof]
"""The proofs found so far, by their targets. They hold as long as the positions that they need stay hidden."""


def note_change(bank: Bank, target: Target, change: int, needed: Iterable[Position]) -> None:
    """Notes that a figure may change by so much while the needed positions are hidden."""
    proof = bank.get(target, NO_PROOF)
    if change < proof.low:
        bank[target] = Proof(change, proof.high, frozenset(needed), proof.needed_above)
    elif change > proof.high:
        bank[target] = Proof(proof.low, change, proof.needed_below, frozenset(needed))


def is_proven(bank: Bank, target: Target) -> bool:
    return bank.get(target, NO_PROOF).width >= target.enough


def list_open(bank: Bank, targets: Iterable[Target]) -> list[Target]:
    return [target for target in targets if not is_proven(bank, target)]
