"""Puts the dated spells of two records of one child together: on roll, in groups, and characteristics.

A child is on roll at a school, or in a group, once at a time. Of two spells that overlap there, one is left, from the
earlier first day to the later last day.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from domain.roster.on_roll import MAIN

DAY = timedelta(days=1)


@dataclass(frozen=True)
class DatedSpell:
    """A spell of one record. `where` is a school or group, `value` the status or a characteristic's value.

    `is_remaining` says whether it is a spell of the record that remains, `id` identifies its row.
    """

    id: Any
    where: Any
    from_on: date
    to_on: date | None
    value: str | None = None
    note: str | None = None
    is_remaining: bool = True

    @property
    def last_day(self) -> date:
        return self.to_on or date.max

    def overlaps(self, other: "DatedSpell") -> bool:
        return self.from_on <= other.last_day and other.from_on <= self.last_day


@dataclass
class UnitedSpells:
    """The spells that are left, and those that were put into others or shortened. `simultaneous` are main spells of
    the record that goes which begin elsewhere on the day of one of the record that remains: both are left.
    """

    spells: list[DatedSpell] = field(default_factory=list)
    conflicting: list[DatedSpell] = field(default_factory=list)
    simultaneous: list[DatedSpell] = field(default_factory=list)


def unite_spells(spells: Iterable[DatedSpell]) -> UnitedSpells:
    """Returns the spells with those that overlap at one place united.

    The remaining record's row is kept where it is one of them. A main status wins over a second school's; else the
    values of the spell that ends last are kept.
    """
    united = UnitedSpells()
    for spell in sorted(spells, key=lambda s: (s.from_on, not s.is_remaining)):
        others = [other for other in united.spells if other.where == spell.where and other.overlaps(spell)]
        for other in others:
            united.spells.remove(other)
            kept, dropped = (spell, other) if spell.is_remaining and not other.is_remaining else (other, spell)
            united.conflicting.append(dropped)
            valued = max((spell, other), key=lambda s: (s.value in MAIN, s.last_day, s.is_remaining))
            last = max((spell, other), key=lambda s: (s.last_day, s.is_remaining))
            spell = replace(kept, from_on=min(spell.from_on, other.from_on), to_on=last.to_on, note=last.note, value=valued.value)
        united.spells.append(spell)
    return united


def end_earlier_main_spells(united: UnitedSpells) -> None:
    """Ends a main spell on the day before the next one begins at another school: a pupil has one main registration.

    Which of two that begin on one day is the main one nobody knows here.
    """
    main = sorted((s for s in united.spells if s.value in MAIN), key=lambda s: (s.from_on, s.is_remaining))
    for earlier, later in pairwise(main):
        if earlier.overlaps(later) and earlier.from_on < later.from_on:
            united.spells[united.spells.index(earlier)] = replace(earlier, to_on=later.from_on - DAY)
            united.conflicting.append(earlier)
        elif earlier.from_on == later.from_on and earlier.is_remaining != later.is_remaining:
            united.simultaneous.append(earlier)
