"""The rules that the terms of a window must meet, when it is created and when it is changed."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime

from domain.declare.errors import Issue
from domain.roster import years
from domain.write.partial import Unreadable, list_readable


@dataclass(frozen=True)
class WindowTerms:
    """The terms of a window that are checked."""

    academic_year: str
    census_on: date
    opens_at: datetime
    closes_at: datetime
    accept_until: datetime | None
    year_groups: list[str]


def check_window_terms(terms: WindowTerms) -> tuple[int | None, list[str], list[Issue]]:
    """Returns the calendar year in which the academic year starts, the canonical year groups, and the issues. Terms that
    cannot be read (partial.py) are not checked.
    """
    issues: list[Issue] = []
    year = None
    with suppress(Unreadable):
        try:
            year = years.parse_academic_year(terms.academic_year)
        except ValueError as problem:
            issues.append(Issue("/academicYear", "academic-year-invalid", str(problem)))
    with suppress(Unreadable):
        if year is not None:
            first, last = years.academic_year_range(year)
            if not first <= terms.census_on <= last:
                issues.append(Issue("/censusOn", "outside-academic-year", "The census date lies outside the academic year."))
    year_groups: list[str] = []
    with suppress(Unreadable):
        for i, text in list_readable(terms.year_groups):
            try:
                year_groups.append(years.parse_year_group(text))
            except ValueError as problem:
                issues.append(Issue(f"/yearGroups/{i}", "year-group-invalid", str(problem)))
    with suppress(Unreadable):
        if terms.closes_at <= terms.opens_at:
            issues.append(Issue("/closesAt", "closes-before-opening", "A window closes after it opens."))
    with suppress(Unreadable):
        if terms.accept_until is not None and terms.accept_until < terms.closes_at:
            issues.append(Issue("/acceptUntil", "accepts-before-closing", "acceptUntil lies at or after closesAt."))
    return year, list(dict.fromkeys(year_groups)), issues
