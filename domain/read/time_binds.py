"""Bind parameters of the time. Every statement that names one of them gets its value when it runs."""

from typing import Any

from sqlalchemy import Date, DateTime, SmallInteger, bindparam

from domain.support import clock

NOW = bindparam("now", type_=DateTime(timezone=True))
"""The instant now."""
TODAY = bindparam("today", type_=Date)
"""Today's date in England."""
THIS_YEAR = bindparam("this_year", type_=SmallInteger)
"""The calendar year in which today's academic year began."""


def bind_time() -> dict[str, Any]:
    """Returns the values of the three, all of one instant."""
    now = clock.read_now()
    today = clock.find_day(now)
    return {NOW.key: now, TODAY.key: today, THIS_YEAR.key: clock.find_start_year(today)}
