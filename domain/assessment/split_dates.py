"""Decides which dates of the two records of a split are impossible, as those of a row of a roll are."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from msgspec import UNSET

from domain.declare.errors import Issue
from domain.roster.record_pupils.dates import (
    find_first_day_problem,
    find_new_age_problem,
    find_overlaps,
    find_school_day,
    list_date_problems,
)
from domain.roster.unite_spells import DatedSpell
from domain.support.clock import read_today
from domain.write.checks import Checks
from domain.write.partial import list_readable


def check_split_dates(checks: Checks, record: Any, fields: Any, year_group: str | None, spells: Iterable[DatedSpell]) -> None:
    """Adds what is impossible: characteristics that overlap, first days of either record, the birthday of the new one and its
    age on roll, unless that of the `record` is as unlikely. `fields` are a PupilSplit, `spells` those of the new record. The
    year group is None where it is not known.
    """
    born_on = getattr(fields, "date_of_birth", None)
    problems: list[tuple[str, str, str]] = [] if born_on is None else [*list_date_problems(born_on, {})]
    of_new = date.min if born_on is None or problems else born_on  # an impossible birthday says nothing of the spells
    birthdays = {
        **dict.fromkeys(("enrolments", "characteristics"), of_new),
        **dict.fromkeys(("remainingEnrolments", "remainingCharacteristics"), record["date_of_birth"]),
    }
    attributes = {
        "enrolments": "enrolments",
        "characteristics": "characteristics",
        "remainingEnrolments": "remaining_enrolments",
        "remainingCharacteristics": "remaining_characteristics",
    }
    for name, attribute in attributes.items():
        sent = getattr(fields, attribute, UNSET)
        for i, spell in () if sent is UNSET else list_readable(sent):
            first_day = getattr(spell, "from_", None)
            if first_day is not None and (message := find_first_day_problem(first_day, birthdays[name])) is not None:
                problems.append((f"/{name}/{i}/from", "spell-implausible", message))
        if name.lower().endswith("characteristics"):
            overlaps = find_overlaps("characteristics", [] if sent is UNSET else sent)
            problems += [(f"/{name}", "spells-overlap", message) for message in overlaps]
    checks.add(*(Issue(*problem) for problem in problems))
    if problems or born_on is None or year_group is None:
        return
    day = find_school_day(((spell.from_on, spell.to_on) for spell in spells), read_today())
    before, after = (record["date_of_birth"], record["year_group"]), (born_on, year_group)
    problem = find_new_age_problem(before, after, day)
    if problem is not None and problem.is_error:
        checks.add(Issue(f"/{problem.field_name}", problem.code, problem.message))
