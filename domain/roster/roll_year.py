"""The academic year of the newest roll that a school has sent, beside today's.

Between 1 September and the new year's first roll a school still has last year's pupils, classes and year groups.
Integrators read this from the school's `rollState`; the data is never a 404.
"""

from collections.abc import Collection
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    SmallInteger,
    Table,
    Uuid,
    case,
    literal_column,
    select,
)

from domain.roster import years
from domain.store.database import Connection
from domain.store.metadata import metadata
from domain.support import clock

school_versions = Table(
    "school_versions",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("roll_year", SmallInteger, comment="The calendar year in which the academic year of the newest roll began"),
)


def roll_state_of(roll_year: ColumnElement[Any], this_year: ColumnElement[int]) -> ColumnElement[str]:
    """Returns in SQL `current`, `previous` or `none`. A later year, recorded before such rolls were planned, is current too."""
    return case(
        (roll_year.is_(None), literal_column("'none'")),
        (roll_year >= this_year, literal_column("'current'")),
        else_=literal_column("'previous'"),
    )


def value_of_school(school: Table, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns in SQL a value of school_versions for a school; null where it has no row that row-level security shows."""
    v = school_versions.c
    of_school = (v.tenant_id == school.c.tenant_id) & (v.school_id == school.c.id)
    return select(value).where(of_school).correlate_except(school_versions).scalar_subquery()


_RECORD = """
UPDATE school_versions SET roll_year = $3, version = version + 1
WHERE tenant_id = $1 AND school_id = ANY ($2) AND (roll_year IS NULL OR roll_year < $3)
"""


async def record_roll_year(connection: Connection, tenant_id: UUID, school_ids: Collection[UUID], as_of: date) -> None:
    """Records that these schools, whose rows are locked, sent a roll of this day; writes nothing unless its academic
    year is newer.
    """
    await connection.execute(_RECORD, tenant_id, list(school_ids), years.parse_academic_year(years.academic_year_of(as_of)))


async def read_roll_year(connection: Connection, tenant_id: UUID, school_id: UUID) -> int | None:
    """Returns the calendar year in which the academic year of the newest roll began."""
    year: int | None = await connection.fetchval(
        "SELECT roll_year FROM school_versions WHERE tenant_id = $1 AND school_id = $2", tenant_id, school_id
    )
    return year


_CORRECT = "UPDATE school_versions SET roll_year = $3 WHERE tenant_id = $1 AND school_id = $2"
_TAKE_ROLLS_AGAIN = "UPDATE pupil_rolls SET as_of = $3 WHERE tenant_id = $1 AND school_id = $2 AND as_of > $4"


async def correct_roll_year(connection: Connection, tenant_id: UUID, school_id: UUID, year: int | None) -> None:
    """Corrects the academic year of the newest roll of a school that is locked. Rolls of that year are not superseded any
    more by one that was sent with a day of a later year; with None, rolls of any day until today.
    """
    await connection.execute(_CORRECT, tenant_id, school_id, year)
    today = clock.read_today()
    first, last = (today, today) if year is None else years.academic_year_range(year)
    await connection.execute(_TAKE_ROLLS_AGAIN, tenant_id, school_id, first, last)
