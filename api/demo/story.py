"""The days of the demonstration, all reckoned from the day on which it is made: it is always in the middle of a school's work.

Two academic years are told: the one of today, and the one before it. The terms and census days are those of schools in England.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from domain.assessment.seasons import SEASON, find_season
from domain.assessment.window_templates import find_window_template
from domain.roster.years import format_academic_year
from domain.support.clock import find_start_year

Stage = Literal["closed", "open", "planned"]
_MONDAY, _THURSDAY = 0, 3


@dataclass(frozen=True)
class Term:
    """When a window collects: the census day, the first and last day on which teachers judge, and how far that is today."""

    census_on: date
    days: tuple[date, date]
    stage: Stage


@dataclass(frozen=True)
class Story:
    """The demonstration as it is on a day, `today`."""

    today: date

    @property
    def start(self) -> int:
        """The calendar year in which the academic year of today begins."""
        return find_start_year(self.today)

    def name_year(self, ago: int = 0) -> str:
        """Returns the academic year of today, or one before it."""
        return format_academic_year(self.start - ago)

    def find_day_ago(self, days: int) -> date:
        return self.today - timedelta(days)

    def plan_season(self, season: str, start: int) -> Term:
        """Returns the term of a season's window. The window of the present season is open, those before it are closed."""
        census_on, days = _list_usual_days(season, start)
        order = SEASON.words.index
        now = find_season(self.today)
        if start == self.start and season == now:
            census_on = min(census_on, self.today)
            return Term(census_on, (max(date(start, 9, 1), self.find_day_ago(18)), self.today), "open")
        is_over = start < self.start or order(season) < order(now)
        return Term(census_on, days, "closed" if is_over else "planned")

    def plan_between(self, census_on: date, days: tuple[date, date]) -> Term:
        """Returns the term of a window that is held beside those of the seasons. It is put off to tomorrow where its time has come."""
        if days[1] < self.today:
            return Term(census_on, days, "closed")
        tomorrow = self.today + timedelta(1)
        first = max(days[0], tomorrow)
        return Term(census_on, (first, max(days[1], first + timedelta(7))), "planned")

    def plan_tests(self, start: int) -> Term:
        """Returns the term of the key stage 2 tests of an academic year, whose results arrive in summer."""
        template = find_window_template("KS2")
        assert template is not None
        first = template.find_day(start) or find_weekday(date(start + 1, 5, 1), _MONDAY, 2)
        return self.plan_between(first, (first, date(start + 1, 6, 26)))


def _list_usual_days(season: str, start: int) -> tuple[date, tuple[date, date]]:
    """Returns the day of the school census in a season, and the days on which teachers judge."""
    if season == "autumn":
        return find_weekday(date(start, 10, 1), _THURSDAY, 1), (date(start, 11, 9), date(start, 11, 20))
    if season == "spring":
        return find_weekday(date(start + 1, 1, 1), _THURSDAY, 3), (date(start + 1, 3, 2), date(start + 1, 3, 13))
    return find_weekday(date(start + 1, 5, 1), _THURSDAY, 3), (date(start + 1, 6, 15), date(start + 1, 7, 3))


def find_weekday(first: date, weekday: int, nth: int) -> date:
    """Returns the nth such day of the week from a day on."""
    return first + timedelta((weekday - first.weekday()) % 7 + 7 * (nth - 1))


def make_instant(day: date, hour: int) -> str:
    return datetime.combine(day, time(hour), UTC).isoformat()
