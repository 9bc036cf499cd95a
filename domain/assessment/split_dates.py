"""Decides which dates of a record that is split off are impossible, as those of a row of a roll are."""

from collections.abc import Iterable, Iterator
from typing import Any

from domain.roster.record_pupils.dates import find_new_age_problem, find_school_day, list_date_problems
from domain.roster.unite_spells import DatedSpell
from domain.support.clock import read_today


def list_split_problems(record: Any, fields: Any, year_group: str, spells: Iterable[DatedSpell]) -> Iterator[tuple[str, str, str]]:
    """Yields place, code and message of what is impossible in a new record: its birthday, its first days and its age on
    roll, unless that of the `record` is as unlikely. `fields` are a PupilSplit, `spells` those of the new record.
    """
    lists = {"enrolments": fields.enrolments, "characteristics": fields.characteristics}
    problems = list(list_date_problems(fields.date_of_birth, lists))
    yield from problems
    if problems:
        return
    day = find_school_day(((spell.from_on, spell.to_on) for spell in spells), read_today())
    before, after = (record["date_of_birth"], record["year_group"]), (fields.date_of_birth, year_group)
    problem = find_new_age_problem(before, after, day)
    if problem is not None and problem.is_error:
        yield f"/{problem.field_name}", problem.code, problem.message
