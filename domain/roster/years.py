"""National curriculum years and academic years: one canonical form of each.

Sources: Department for Education, Common Basic Data Set, "NC year actual" (E1, E2, N1, N2, R, 1 to 14, X); "The national
curriculum: overview" for the key stages. An academic year starts on 1 September.
"""

import re
from datetime import date, timedelta
from typing import Annotated, Any

from sqlalchemy import Text, cast, func

from domain.declare.inputs import Form
from domain.declare.vocabulary import Vocabulary
from domain.support.clock import FIRST_MONTH_OF_YEAR, find_start_year

YEARS = ("E1", "E2", "N1", "N2", "R", *(str(number) for number in range(1, 15)), "X")
"""National curriculum years in order of age: two of early years before nursery, two of nursery, Reception, 1 to 14, and X
for pupils who do not follow one.
"""
EARLY_YEARS = ("E1", "E2")
"""The years before nursery: usual ages of 0 and 1 on 31 August before the academic year begins."""


_NUMBERED = re.compile(r"(?:(?:YEAR|YR|Y) ?)?(?:(?P<number>0?[0-9]|1[0-4])|(?P<letter>[RX]))")
_EARLY = re.compile(r"(?P<stage>EARLY|NURSERY|E|N) ?(?P<number>[12])")
_NAMES = {
    "EARLY FIRST YEAR": "E1",
    "EARLY SECOND YEAR": "E2",
    "NURSERY FIRST YEAR": "N1",
    "NURSERY SECOND YEAR": "N2",
    "RECEPTION": "R",
}

_STARTS = range(1990, 2100)
_ACADEMIC_YEAR = re.compile(r"(?P<start>[0-9]{4})[-/](?P<end>[0-9]{2})")


def parse_year_group(year_group: str | int) -> str:
    """Returns a national curriculum year in its canonical form, one of `YEARS`.

    Accepts `4`, `04`, `Y4`, `Yr 4` and `Year 4`, `0` and `Reception` for R, `Nursery 1` and
    `Nursery first year` for N1, `Early 1` and `Early first year` for E1, all in any case. Raises ValueError for anything
    else, and for `Nursery` alone, because that may be N1 or N2.
    """
    text = " ".join(str(year_group).upper().split())
    if text in _NAMES:
        return _NAMES[text]
    if numbered := _NUMBERED.fullmatch(text):
        return numbered["letter"] or YEARS[YEARS.index("R") + int(numbered["number"])]
    if early := _EARLY.fullmatch(text):
        return early["stage"][0] + early["number"]
    if text == "NURSERY":
        raise ValueError("Nursery may be either of two years; use N1 or N2.")
    raise ValueError(f"A national curriculum year is one of {', '.join(YEARS)}; also accepted are forms such as Y4 and Year 4.")


YEAR_GROUP = Vocabulary(parse_year_group, YEARS)


def academic_year_of(day: date) -> str:
    """Returns the academic year of a date, such as `2025-26`; raises ValueError before 1990-91 and after 2099-00."""
    return format_academic_year(find_start_year(day))


def format_academic_year(start: int) -> str:
    """Returns the academic year that starts in a calendar year: 2025 gives `2025-26`; raises ValueError outside 1990 to
    2099.
    """
    _require_start(start)
    return f"{start}-{(start + 1) % 100:02}"


def academic_year_text(start: Any) -> Any:
    """Returns the same in SQL: 2017 as 2017-18."""
    return cast(start, Text) + "-" + func.lpad(cast((start + 1) % 100, Text), 2, "0", type_=Text)


def parse_academic_year(text: str) -> int:
    """Returns the calendar year in which an academic year (`2025-26` or `2025/26`) starts; raises ValueError for
    anything else.
    """
    parts = _ACADEMIC_YEAR.fullmatch(text.strip())
    if not parts:
        raise ValueError("An academic year is written like 2025-26.")
    start = int(parts["start"])
    canonical = format_academic_year(start)
    if parts["end"] != canonical[-2:]:
        raise ValueError(f"{text.strip()} is not one academic year; the one that starts in {start} is {canonical}.")
    return start


YearGroupText = Annotated[str, Form("year-group-invalid", parse_year_group)]
AcademicYearText = Annotated[str, Form("academic-year-invalid", parse_academic_year)]
"""Fields of inputs that hold a year group, and an academic year."""
ACADEMIC_YEAR = Vocabulary(lambda text: format_academic_year(parse_academic_year(text)))


def academic_year_range(start: int) -> tuple[date, date]:
    """Returns the first and the last day of the academic year that starts in a calendar year; raises ValueError outside
    1990 to 2099.
    """
    _require_start(start)
    return date(start, FIRST_MONTH_OF_YEAR, 1), date(start + 1, FIRST_MONTH_OF_YEAR, 1) - timedelta(days=1)


def _require_start(start: int) -> None:
    if start not in _STARTS:
        raise ValueError(f"An academic year starts in {_STARTS[0]} to {_STARTS[-1]}, not in {start}.")
