"""What a row says of an academic year, compared with what is stored: spells on roll and spells of characteristics.

A row says the whole of the academic year of its `asOf`. A stored spell that touches the year and is not in the row is
withdrawn; its days before the year stay, since the row says nothing of earlier years, but those that the row's spells
include. A spell of the row with the same status or value that overlaps it and began in the same academic year is a
correction of its first day: then nothing of it stays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from typing import TypeVar
from uuid import UUID

from domain.declare.ids import NIL, new_id
from domain.declare.type_numbers import ENROLMENT
from domain.roster import years
from domain.roster.characteristics import Characteristic
from domain.roster.enrolments import Spell
from domain.roster.on_roll import MAIN
from domain.support.clock import find_start_year

NOT_ON_ROLL = "not-on-roll"
"""The leaving reason of a spell that a complete roll ended."""
DAY = timedelta(days=1)

S = TypeVar("S", bound="Dated")


@dataclass(frozen=True)
class Dated:
    """Something that is so from a day to a day, both included; `to_on` is None while it lasts."""

    from_on: date
    to_on: date | None

    @property
    def last_day(self) -> date:
        return date.max if self.to_on is None else self.to_on

    def includes(self, day: date) -> bool:
        return self.from_on <= day <= self.last_day

    @property
    def kind(self) -> str:
        """What tells a correction of its first day from a change: the status or the value."""
        raise NotImplementedError

    def overlaps(self, other: "Dated") -> bool:
        return self.from_on <= other.last_day and other.from_on <= self.last_day


@dataclass(frozen=True)
class RollSpell(Dated):
    """A spell on roll at one school; `id` is NIL in a row."""

    status: str
    leaving_reason: str | None
    id: UUID = NIL

    @property
    def kind(self) -> str:
        return self.status

    @property
    def is_main(self) -> bool:
        return self.status in MAIN


@dataclass(frozen=True)
class CharacteristicSpell(Dated):
    """A spell of one kind of characteristic. `to_on` is its last day in effect: a later spell of the kind ends it."""

    value: str

    @property
    def kind(self) -> str:
        return self.value


@dataclass(frozen=True)
class YearRange:
    """The first and the last day of an academic year."""

    first: date
    last: date

    @classmethod
    def find(cls, day: date) -> "YearRange":
        """Returns the academic year of a day; raises ValueError before 1990-91 and after 2099-00."""
        return cls(*years.academic_year_range(years.parse_academic_year(years.academic_year_of(day))))


@dataclass(frozen=True)
class SpellChanges:
    """The spells of one pupil at one school to write (with the id of the stored one that each replaces, or a new one),
    the stored ones that are withdrawn, and whether the row's overlap with spells that stay.
    """

    written: list[RollSpell]
    withdrawn: list[RollSpell]
    has_overlap: bool


def find_rests(stored: S, said: Sequence[Dated], year: YearRange) -> list[S]:
    """Returns what stays of a stored spell that is not in a row's spells, in order: all of it outside the year, its days
    before the year that no spell of the row includes, nothing where the row corrects it.
    """
    if stored.from_on > year.last or stored.last_day < year.first:
        return [stored]
    if stored.from_on >= year.first or any(_is_correction(spell, stored) for spell in said):
        return []
    rests, first = [], stored.from_on
    for spell in sorted((spell for spell in said if spell.overlaps(stored)), key=lambda spell: spell.from_on):
        if first < min(spell.from_on, year.first):
            rests.append(replace(stored, from_on=first, to_on=min(spell.from_on, year.first) - DAY))
        first = max(first, year.first if spell.last_day >= year.first else spell.last_day + DAY)
    if first < year.first:
        rests.append(replace(stored, from_on=first, to_on=year.first - DAY))
    return rests


def _is_correction(said: Dated, stored: Dated) -> bool:
    """Whether a spell of a row is a stored one with another first day, in the same academic year."""
    is_same = said.kind == stored.kind and said.overlaps(stored)
    return is_same and find_start_year(said.from_on) == find_start_year(stored.from_on)


def make_roll_spells(spells: Sequence[Spell]) -> list[RollSpell]:
    """Returns a row's spells."""
    return [RollSpell(spell.from_, spell.to, spell.status, spell.leaving_reason) for spell in spells]


def compare_spells(stored: Sequence[RollSpell], said: Sequence[RollSpell], year: YearRange) -> SpellChanges:
    """Compares the stored spells of a pupil at a school with those that a row says.

    Two ended spells stay beside the row's without being in it, because their end is no claim of the row: a spell that
    a complete roll ended, and one at a second school whose main spell begins later.
    """
    said_of = {spell.from_on: spell for spell in said}
    rests: list[RollSpell] = []
    written, withdrawn = [], []
    for spell in stored:
        if spell.from_on in said_of:
            continue
        ended = _find_ended_beside(spell, said)
        parts = find_rests(spell, said, year) if ended is None else [ended]
        if not parts:
            withdrawn.append(spell)
            continue
        # the first part keeps the id of the stored spell
        parts = [part if n == 0 else replace(part, id=new_id(ENROLMENT)) for n, part in enumerate(parts)]
        rests += parts
        written += [part for part in parts if part != spell]
    has_overlap = any(
        rest.is_main == spell.is_main and rest.overlaps(spell) for rest in rests if rest.from_on <= year.last for spell in said
    )
    stored_of = {spell.from_on: spell for spell in stored}
    for spell in said:
        before = stored_of.get(spell.from_on)
        if before is None:  # a new first day of a spell that is withdrawn keeps its id
            before = next((old for old in withdrawn if old.overlaps(spell) and old.is_main == spell.is_main), None)
            if before is not None:
                withdrawn.remove(before)
        if before is None:
            written.append(replace(spell, id=new_id(ENROLMENT)))
        elif replace(spell, id=before.id) != before:
            written.append(replace(spell, id=before.id))
    return SpellChanges(written, withdrawn, has_overlap)


def _find_ended_beside(stored: RollSpell, said: Sequence[RollSpell]) -> RollSpell | None:
    """Returns the stored spell as it stays beside the row's: ended by a complete roll, or by the row's first later main
    spell where it is one of a second school. None for any other.
    """
    if stored.leaving_reason == NOT_ON_ROLL and said and not any(stored.overlaps(spell) for spell in said):
        return stored
    first_main = min((spell.from_on for spell in said), default=stored.from_on)
    if not stored.is_main and first_main > stored.from_on and all(spell.is_main for spell in said):
        return replace(stored, to_on=min(stored.last_day, first_main - DAY))
    return None


def end_in_effect(spells: Iterable[CharacteristicSpell]) -> list[CharacteristicSpell]:
    """Returns the spells of one kind in order, each with its last day in effect."""
    ordered = sorted(spells, key=lambda spell: spell.from_on)
    ended = [replace(spell, to_on=min(spell.last_day, later.from_on - DAY)) for spell, later in pairwise(ordered)]
    return ended + ordered[-1:]


def make_characteristic_spells(characteristics: Sequence[Characteristic]) -> dict[str, list[CharacteristicSpell]]:
    """Returns a row's spells of characteristics, by kind."""
    spells: dict[str, list[CharacteristicSpell]] = {}
    for c in characteristics:
        spells.setdefault(c.kind, []).append(CharacteristicSpell(c.from_, c.to, c.value))
    return {kind: end_in_effect(of_kind) for kind, of_kind in spells.items()}


def find_characteristics_after(
    stored: Sequence[CharacteristicSpell], said: Sequence[CharacteristicSpell], year: YearRange
) -> tuple[list[CharacteristicSpell], bool]:
    """Returns the spells of one kind as they are to be, and whether the row's overlap with spells of another value that
    stay.
    """
    said_days = {spell.from_on for spell in said}
    rests = [rest for spell in stored if spell.from_on not in said_days for rest in find_rests(spell, said, year)]
    past = [rest for rest in rests if rest.from_on <= year.last]
    has_overlap = any(rest.overlaps(spell) and rest.value != spell.value for rest in past for spell in said)
    return end_in_effect([*rests, *said]), has_overlap
