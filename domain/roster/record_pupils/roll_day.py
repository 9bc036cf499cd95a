"""Of which days a roll may be: any until tomorrow and, from 1 June on, the first month of the coming academic year.

A roll of the coming year is planned: it waits for its day (plan.py). Any other day after tomorrow is a typing error.
"""

from datetime import date, timedelta

from domain.roster import years
from domain.support import clock

IMPLAUSIBLE = "as-of-implausible"
FIRST_MONTH_OF_PLANS = 6
"""From 1 June on, schools prepare next year's roll."""


def is_planned_day(as_of: date) -> bool:
    """Whether a roll of this day is one of the coming academic year that is planned today."""
    today = clock.read_today()
    starts_on = date(clock.find_start_year(today) + 1, clock.FIRST_MONTH_OF_YEAR, 1)
    return FIRST_MONTH_OF_PLANS <= today.month < clock.FIRST_MONTH_OF_YEAR and starts_on <= as_of <= starts_on.replace(day=30)


def find_roll_day_problem(as_of: date) -> str | None:
    """Returns what makes a day impossible for a roll, None if nothing does."""
    try:
        years.academic_year_of(as_of)
    except ValueError as problem:
        return str(problem)
    if as_of > clock.read_today() + timedelta(days=1) and not is_planned_day(as_of):
        return "asOf lies after tomorrow. From 1 June on, a roll of the coming year may be of a day until its 30 September."
    return None
