"""Bind parameters of the time. Every statement that names one of them gets its value when it runs."""

from datetime import date, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Date, DateTime, SmallInteger, bindparam

from domain.support import clock

NOW = bindparam("now", type_=DateTime(timezone=True))
"""The instant now."""
TODAY = bindparam("today", type_=Date)
"""Today's date in England."""
THIS_YEAR = bindparam("this_year", type_=SmallInteger)
"""The calendar year in which today's academic year began."""


_NOW, _TODAY, _THIS_YEAR = NOW.key, TODAY.key, THIS_YEAR.key


def bind_time() -> dict[str, Any]:
    """Returns the values of the three, all of one instant."""
    now = clock.read_now()
    today, this_year = _find_day(now.replace(minute=0, second=0, microsecond=0))
    return {_NOW: now, _TODAY: today, _THIS_YEAR: this_year}


@lru_cache(8)
def _find_day(hour: datetime) -> tuple[date, int]:
    """Returns the date in England in an hour of UTC, and the year in which its academic year began: days begin there on the hour."""
    today = clock.find_day(hour)
    return today, clock.find_start_year(today)
