"""Decides which dates of the two records of a split are impossible, as those of a row of a roll are."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import UNSET

from domain.roster.record_pupils.dates import (
    find_first_day_problem,
    find_new_age_problem,
    find_overlaps,
    find_school_day,
    list_date_problems,
)
from domain.roster.unite_spells import DatedSpell
from domain.support.clock import read_today


def list_split_problems(record: Any, fields: Any, year_group: str, spells: Iterable[DatedSpell]) -> Iterator[tuple[str, str, str]]:
    """Yields place, code and message of what is impossible: characteristics that overlap, first days of either record, the
    birthday of the new one and its age on roll, unless that of the `record` is as unlikely. `fields` are a PupilSplit,
    `spells` those of the new record.
    """
    problems = list(
        list_date_problems(fields.date_of_birth, {"enrolments": fields.enrolments, "characteristics": fields.characteristics})
    )
    remaining = {"remainingEnrolments": fields.remaining_enrolments, "remainingCharacteristics": fields.remaining_characteristics}
    for name, sent in remaining.items():
        for i, spell in enumerate(() if sent is UNSET else sent):
            if (message := find_first_day_problem(spell.from_, record["date_of_birth"])) is not None:
                problems.append((f"/{name}/{i}/from", "spell-implausible", message))
    for name, sent in (("characteristics", fields.characteristics), ("remainingCharacteristics", fields.remaining_characteristics)):
        overlaps = find_overlaps("characteristics", [] if sent is UNSET else sent)
        problems += [(f"/{name}", "spells-overlap", message) for message in overlaps]
    yield from problems
    if problems:
        return
    day = find_school_day(((spell.from_on, spell.to_on) for spell in spells), read_today())
    before, after = (record["date_of_birth"], record["year_group"]), (fields.date_of_birth, year_group)
    problem = find_new_age_problem(before, after, day)
    if problem is not None and problem.is_error:
        yield f"/{problem.field_name}", problem.code, problem.message
