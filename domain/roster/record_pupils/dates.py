"""Which dates of a row are impossible, and which are only unusual.

The year groups follow the age on 31 August before the academic year begins: Reception is for those who are four then
(School Admissions Code, section 2.17; Department for Education, "School admissions: school starting age").
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from msgspec import UNSET

from domain.roster import years
from domain.roster.characteristics import Characteristic
from domain.roster.enrolments import Spell
from domain.roster.on_roll import MAIN
from domain.support import clock
from domain.write.batch import Batch
from domain.write.partial import Unreadable, list_readable

FIRST_YEAR = 1944
"""The Education Act of this year made the schools and the year groups that are counted here."""
FIRST_BIRTH_YEAR, NO_BIRTHDAY = 1900, "date-of-birth-implausible"
MAX_DAYS_AHEAD = 400
MIN_AGE, MAX_AGE = 2, 25
"""The ages in years of pupils of schools, except in the two years before nursery, which have babies."""
USUAL_DIFFERENCE, MAX_DIFFERENCE = 2, 6
"""By how many years an age may differ from that of its year group without a warning, and at all."""
IMPLAUSIBLE, UNUSUAL = "age-implausible", "age-unusual"
_AGE_OF_YEAR = {year: age for age, year in enumerate(y for y in years.YEARS if y != "X")}
"""The usual age in years, on 31 August before the academic year, of each year group but X."""


def find_date_problem(day: date) -> str | None:
    """Returns what makes the first day of a spell impossible whoever it is about, None if nothing does."""
    if day.year < FIRST_YEAR:
        return f"This day lies before {FIRST_YEAR}."
    if day > clock.read_today() + timedelta(days=MAX_DAYS_AHEAD):
        return f"This day lies more than {MAX_DAYS_AHEAD} days ahead."
    return None


def find_first_day_problem(from_on: date, born_on: date) -> str | None:
    """Returns what makes the first day of a spell of a pupil who was born on a day impossible, None if nothing does."""
    problem = find_date_problem(from_on)
    return "This day lies before the date of birth." if problem is None and from_on < born_on else problem


def reject_impossible_spells(
    batch: Batch[Any, Any], at: int, name: str, spells: Sequence[Spell | Characteristic], born_on: date
) -> None:
    """Rejects a row for each of its spells that begins on an impossible day. `name` is the list of the spells."""
    for i, spell in list_readable(spells):
        from_on = getattr(spell, "from_", None)
        if from_on is not None and (problem := find_first_day_problem(from_on, born_on)) is not None:
            batch.reject(at, f"{name}/{i}/from", "spell-implausible", problem)


def list_date_problems(born_on: date, lists: Mapping[str, Sequence[Spell | Characteristic]]) -> Iterator[tuple[str, str, str]]:
    """Yields place, code and message of what is impossible in a date of birth that holds today, and in the first days of
    lists of spells.
    """
    if not (born_on.year >= FIRST_BIRTH_YEAR and born_on <= clock.read_today()):
        yield "/dateOfBirth", NO_BIRTHDAY, "The date of birth lies in the future or before 1900."
        return
    for name, spells in lists.items():
        for i, spell in enumerate(spells):
            if (problem := find_first_day_problem(spell.from_, born_on)) is not None:
                yield f"/{name}/{i}/from", "spell-implausible", problem


def _find_same_days(spells: Sequence[Spell]) -> str | None:
    return "Two spells begin on the same day." if len({spell.from_ for spell in spells}) < len(spells) else None


def _find_overlap(spells: Sequence[Spell]) -> str | None:
    main = sorted((spell for spell in spells if spell.status in MAIN), key=lambda spell: spell.from_)
    if any(earlier.to is None or earlier.to >= later.from_ for earlier, later in pairwise(main)):
        return "Two main spells at this school overlap."
    return None


def _find_same_days_of_kind(spells: Sequence[Characteristic]) -> str | None:
    if len({(spell.kind, spell.from_) for spell in spells}) < len(spells):
        return "Two spells of one kind begin on the same day."
    return None


def _find_overlap_of_kind(spells: Sequence[Characteristic]) -> str | None:
    ordered = sorted(spells, key=lambda spell: (spell.kind, spell.from_))
    if any(a.kind == b.kind and a.from_ != b.from_ and a.to is not None and a.to >= b.from_ for a, b in pairwise(ordered)):
        return "A spell of a kind ends after the next one begins."
    return None


_OVERLAPS: Mapping[str, Sequence[Callable[[Any], str | None]]] = {
    "enrolments": (_find_same_days, _find_overlap),
    "characteristics": (_find_same_days_of_kind, _find_overlap_of_kind),
}
"""By the list of a row, what may be wrong with its spells together."""


def find_overlaps(name: str, spells: Sequence[Spell | Characteristic]) -> Iterator[str]:
    """Yields how the spells of a list overlap: `enrolments` or `characteristics`."""
    for find in _OVERLAPS[name]:
        try:
            message = find(spells)
        except Unreadable:
            continue
        if message is not None:
            yield message


def count_years(born_on: date, day: date) -> int:
    """Returns the age in completed years on a day; below 0 before the birthday."""
    return day.year - born_on.year - ((day.month, day.day) < (born_on.month, born_on.day))


def count_years_outside(born_on: date, day: date) -> int:
    """Returns by how many years the age on a day is under that of pupils or over it; 0 where it is theirs."""
    age = count_years(born_on, day)
    return max(MIN_AGE - age, age - MAX_AGE, 0)


def find_school_day(spells: Iterable[tuple[date, date | None]], as_of: date) -> date:
    """Returns this day, or the nearest one on which a pupil is on roll by these spells: first and last days."""
    bounds = []
    for first, last in spells:
        if first <= as_of and (last is None or last >= as_of):
            return as_of
        bounds += [first] if last is None else [first, last]
    return min(bounds, key=lambda day: abs(day - as_of), default=as_of)


def count_years_off(born_on: date, year_group: str, day: date) -> int:
    """Returns by how many years the age differs from that of the canonical year group in the academic year of a day; 0
    for X, which has no usual age.
    """
    usual = _AGE_OF_YEAR.get(year_group)
    if usual is None:
        return 0
    year_starts = date(clock.find_start_year(day), clock.FIRST_MONTH_OF_YEAR, 1)
    return abs(count_years(born_on, year_starts - timedelta(days=1)) - usual)


@dataclass(frozen=True)
class AgeProblem:
    """An age that is impossible, or only unusual; `field_name` is the field of a row that it is reported of."""

    field_name: str
    code: str
    message: str

    @property
    def is_error(self) -> bool:
        return self.code == IMPLAUSIBLE


def find_age_problem(born_on: date, year_group: str, day: date) -> AgeProblem | None:
    """Returns what is wrong with the age of a pupil who is on roll on a day, in a canonical year group; None if nothing
    is.
    """
    if count_years_outside(born_on, day) and not (year_group in years.EARLY_YEARS and 0 <= count_years(born_on, day) < MIN_AGE):
        message = f"A pupil on roll is {MIN_AGE} to {MAX_AGE} years old; this one would not be."
        return AgeProblem("dateOfBirth", IMPLAUSIBLE, message)
    for limit, code in ((MAX_DIFFERENCE, IMPLAUSIBLE), (USUAL_DIFFERENCE, UNUSUAL)):
        if count_years_off(born_on, year_group, day) > limit:
            message = f"The date of birth is more than {limit} years from the usual age of this year group."
            return AgeProblem("yearGroup", code, message)
    return None


def find_new_age_problem(before: tuple[date, str], after: tuple[date, str], day: date) -> AgeProblem | None:
    """Returns what is wrong with the age of a pupil whose date of birth and canonical year group are corrected, if it is
    less likely than before: what was wrong before may be corrected in steps. `day` is one on roll.
    """
    is_worse = count_years_outside(after[0], day) > count_years_outside(before[0], day)
    is_worse = is_worse or count_years_off(*after, day) > count_years_off(*before, day)
    return find_age_problem(*after, day) if is_worse else None


def check_age(batch: Batch[Any, Any], at: int, problem: AgeProblem | None) -> None:
    """Rejects a row whose pupil cannot be of that age, or warns where it is unusual."""
    if problem is not None and problem.is_error:
        batch.reject(at, problem.field_name, problem.code, problem.message)
    elif problem is not None:
        batch.warn(at, problem.field_name, problem.code, problem.message)


def check_dates(batch: Batch[Any, Any], at: int, entry: Any, year_group: str | None, *, checks_age: bool) -> None:
    """Rejects a row (a PupilEntry) whose spells overlap or whose dates are impossible; warns of an unusual age. The year group
    is None where it is not known.
    """
    as_of, born_on = getattr(batch.head, "as_of", None), getattr(entry, "date_of_birth", None)
    if born_on is not None and not (born_on.year >= FIRST_BIRTH_YEAR and born_on <= (as_of or born_on)):
        batch.reject(at, "dateOfBirth", NO_BIRTHDAY, "The date of birth lies after asOf or before 1900.")
        born_on = None  # which says nothing of the spells
    for name in _OVERLAPS:
        spells = getattr(entry, name, UNSET)
        if spells is not UNSET:
            for message in find_overlaps(name, spells):
                batch.reject(at, name, "spells-overlap", message)
            reject_impossible_spells(batch, at, name, spells, born_on or date.min)
    if not checks_age or as_of is None or born_on is None:
        return
    try:
        spells = [] if entry.enrolments is UNSET else entry.enrolments
        day = find_school_day(((spell.from_, spell.to) for spell in spells), as_of)
    except Unreadable:
        return
    problem = find_age_problem(born_on, year_group or years.EARLY_YEARS[0], day)
    if year_group is not None or (problem is not None and problem.field_name == "dateOfBirth"):
        check_age(batch, at, problem)  # without a year group only an age that none has is impossible
