"""The statutory collections as dated data (window_templates.json): who is assessed, in what, in which academic years, and
from which day on.

A window is statutory only where it is made from one of them, so that nobody escapes the workload budget by saying so. No
national assessment was held in 2019-20 and 2020-21. The days of later years are told year by year; where the day is not
known yet, the request says it.
"""

import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct, convert

from domain.declare.vocabulary import declare_list, find_word
from domain.roster.years import academic_year_range, parse_academic_year
from domain.support.clock import find_start_year


class Line(NamedTuple):
    """What a statutory window may collect. `subject` is null where the scheme is for many subjects."""

    subject: str | None
    aspect: str
    scheme: str


class _Collected(Struct, rename="camel"):
    """Subjects that are assessed in a scheme; none: any. `first` and `last` are academic years."""

    scheme: str
    subjects: list[str] = []
    aspect: str = "main"
    first: str | None = None
    last: str | None = None


class WindowTemplate(Struct, rename="camel"):
    """A statutory collection. `first` is the first academic year that may be recorded, `days` the first days of it."""

    code: str
    name: str
    stage: str
    year_groups: list[str]
    season: str
    purpose: str
    audience: str
    decision: str
    source: str
    first: str
    collects: list[_Collected]
    days: list[date] = []
    not_held: list[str] = []

    def is_held_in(self, start: int) -> bool:
        """Whether it was or is held in the academic year that begins in a calendar year."""
        return start >= parse_academic_year(self.first) and start not in map(parse_academic_year, self.not_held)

    def find_day(self, start: int) -> date | None:
        """Returns the day on which it begins in an academic year, None where that is not known."""
        return next((day for day in self.days if find_start_year(day) == start), None)

    def list_lines(self, start: int) -> list[Line]:
        """Returns what it may collect in an academic year."""
        return [
            Line(subject, collected.aspect, collected.scheme)
            for collected in self.collects
            if (collected.first is None or parse_academic_year(collected.first) <= start)
            and (collected.last is None or start <= parse_academic_year(collected.last))
            for subject in (*collected.subjects,) or (None,)
        ]

    def list_spans(self) -> Iterator[tuple[date, date | None]]:
        """Yields the first and the last day of each span of academic years in which it is held; None: no end is known."""
        starts = [parse_academic_year(self.first)]
        for missing in sorted(map(parse_academic_year, self.not_held)):
            if missing > starts[-1]:
                yield academic_year_range(starts[-1])[0], academic_year_range(missing - 1)[1]
            starts.append(missing + 1)
        yield academic_year_range(starts[-1])[0], None


@cache
def load_window_templates() -> tuple[WindowTemplate, ...]:
    """Returns the statutory collections of this program."""
    text = (Path(__file__).parent / "window_templates.json").read_text()
    return tuple(convert(json.loads(text), list[WindowTemplate]))


WINDOW_TEMPLATE = declare_list(*(template.code for template in load_window_templates()))


def find_window_template(code: str) -> WindowTemplate | None:
    """Returns the statutory collection that a code means, in any case."""
    word = find_word(code, WINDOW_TEMPLATE.words)
    return next((template for template in load_window_templates() if template.code == word), None)


def list_window_template_rows() -> Iterator[tuple[Any, ...]]:
    """Yields the statutory collections as the columns of `codes`, one row for each span of years."""
    no = 0
    for template in load_window_templates():
        for first, last in template.list_spans():
            no += 1
            subjects = [*dict.fromkeys(s for collected in template.collects for s in collected.subjects)]
            facts: tuple[Any, ...] = ([], template.stage, subjects, None, None, None, None, None, None, None, template.source)
            yield ("windowTemplate", no, template.code, template.name, first, last, *facts)
