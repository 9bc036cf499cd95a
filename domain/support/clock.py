"""The time of the calendar and of windows: the one place that says what now and today are.

Statements get these values bound (`domain/read/time_binds.py`), so that a request has one time, and so that neither a
view nor a function depends on the time zone of a session. Three kinds of time come from the database's clock instead,
which all servers share: the order of writes (`recordedAt`, `changedAt`), grants and tokens.

An academic year begins on 1 September (Department for Education, Common Basic Data Set).
"""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

ENGLAND = ZoneInfo("Europe/London")
FIRST_MONTH_OF_YEAR = 9

_ahead = timedelta(0)


def move_clock(ahead: timedelta) -> None:
    """Moves the calendar and windows of this process away from real time by so much, for good. The demonstration alone calls it."""
    global _ahead
    _ahead = ahead


def read_now() -> datetime:
    """Returns the instant now, in UTC."""
    return datetime.now(UTC) + _ahead


def read_ahead() -> timedelta:
    """Returns by how much the calendar is ahead of real time."""
    return _ahead


def read_today() -> date:
    """Returns today's date in England."""
    return find_day(read_now())


def find_day(instant: datetime) -> date:
    """Returns the date in England at an instant."""
    return instant.astimezone(ENGLAND).date()


def find_end(day: date) -> datetime:
    """Returns the instant at which a day ends in England."""
    return datetime.combine(day + timedelta(days=1), time(), ENGLAND)


def find_start_year(day: date) -> int:
    """Returns the calendar year in which the academic year of a date begins."""
    return day.year if day.month >= FIRST_MONTH_OF_YEAR else day.year - 1
