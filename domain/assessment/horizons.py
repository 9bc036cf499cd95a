"""The dates of horizons: by when a target is to be reached.

A target says the academic year and a point in it. The days of the points that the sector shares stand in horizons.json
as dated data. Any other point is the code of a window of that year, whose census day it means. A point that is neither
means the end of the year.
"""

from typing import Any

from sqlalchemy import ColumnElement, Date, case, func, literal_column, select

from domain.assessment.horizon_days import HorizonDays, find_usual_day, load_horizons, read_day
from domain.assessment.windows import windows
from domain.support.clock import FIRST_MONTH_OF_YEAR, find_start_year


def find_horizon_date(tenant_id: Any, year: Any, point: Any) -> ColumnElement[Any]:
    """Returns in SQL the date of a point in the academic year that begins in the calendar year `year`.

    Case, blanks and hyphens of a shared point do not matter.
    """
    name, w = func.replace(func.lower(point), literal_column("' '"), literal_column("'-'")), windows.alias()
    same = (w.c.tenant_id == tenant_id) & (w.c.academic_year == year) & (w.c.code == point)
    census_on = select(func.min(w.c.census_on)).where(same).correlate_except(w).scalar_subquery()
    shared = [(name.in_([literal_column(f"'{p}'") for p in h.points]), _find_day(h, year)) for h in load_horizons()]
    return case(*shared, else_=func.coalesce(census_on, _make_day(year, find_usual_day("summer")), type_=Date))


def write_horizon_function() -> str:
    """Returns the statement that makes the function horizon_day of the database: the day of a shared point, null for any other."""
    cases = []
    for horizon in load_horizons():
        month, day = read_day(horizon.day)
        usual = f"make_date(of_year{'' if month >= FIRST_MONTH_OF_YEAR else ' + 1'}, {month}, {day})"
        known = "".join(f" WHEN {find_start_year(each)} THEN date '{each}'" for each in horizon.days)
        points = ", ".join(f"'{point}'" for point in horizon.points)
        cases.append(
            f"WHEN replace(lower(point), ' ', '-') IN ({points}) THEN {f'CASE of_year{known} ELSE {usual} END' if known else usual}"
        )
    return (
        "CREATE OR REPLACE FUNCTION horizon_day(of_year smallint, point text) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE AS"
        f" $$ SELECT CASE {' '.join(cases)} END $$"
    )


def _find_day(horizon: HorizonDays, year: Any) -> ColumnElement[Any]:
    usual = _make_day(year, read_day(horizon.day))
    known: dict[Any, Any] = {
        literal_column(str(find_start_year(day))): literal_column(f"date '{day}'", Date) for day in horizon.days
    }
    return case(known, value=year, else_=usual) if known else usual


def _make_day(year: Any, day: tuple[int, int]) -> ColumnElement[Any]:
    """Returns in SQL a day of the academic year by its month and day."""
    month, number = day
    in_calendar_year = year if month >= FIRST_MONTH_OF_YEAR else year + literal_column("1")
    return func.make_date(in_calendar_year, literal_column(str(month)), literal_column(str(number)), type_=Date)
