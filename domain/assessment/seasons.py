"""The seasons of windows: autumn, spring and summer.

A window says its season. Those that older programs made have that of their census day.
"""

from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Date, Integer, Text, case, cast, extract, func, literal_column

from domain.assessment.horizon_days import find_usual_day
from domain.declare.vocabulary import declare_list
from domain.support.clock import FIRST_MONTH_OF_YEAR, find_start_year

SEASON = declare_list("autumn", "spring", "summer")


def find_season(day: date) -> str:
    """Returns the season of a census day, by the days on which terms end as horizons."""
    if day.year == find_start_year(day):
        return "autumn"
    return "spring" if day <= date(day.year, *find_usual_day("spring")) else "summer"


def derive_season(w: Any) -> ColumnElement[Any]:
    """Returns in SQL the season of a row with the columns season and census_on."""
    month, day = (literal_column(str(number), Integer) for number in find_usual_day("spring"))
    autumn, spring, summer = (literal_column(f"'{season}'", Text) for season in SEASON.words)
    end_of_spring = func.make_date(cast(extract("year", w.census_on), Integer), month, day, type_=Date)
    of_day = case(
        (extract("month", w.census_on) >= literal_column(str(FIRST_MONTH_OF_YEAR)), autumn),
        (w.census_on <= end_of_spring, spring),
        else_=summer,
    )
    return func.coalesce(w.season, of_day, type_=Text)


def season_sql(w: str) -> str:
    """Returns `derive_season` as SQL text, for the alias of a row."""
    census_on = f"{w}.census_on"
    end_of_spring = "{}, {}".format(*find_usual_day("spring"))
    return (
        f"COALESCE({w}.season, CASE WHEN extract(month FROM {census_on}) >= {FIRST_MONTH_OF_YEAR} THEN 'autumn'"
        f" WHEN {census_on} <= make_date(extract(year FROM {census_on})::int, {end_of_spring}) THEN 'spring' ELSE 'summer' END)"
    )
