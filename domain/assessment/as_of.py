"""What stood on a day: judgements and targets as they were known here when the day ended in England.

A value stands from the time when it arrived until another took its place. So a correction, a withdrawal and a value that arrived late change
nothing of the days before. Records of one child that were merged since are shown as the one that they are now, and a pupil who moved at the
school of today: who may read the pupil today may read what stood.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, Date, DateTime, Integer, cast, func, literal_column

from domain.support.clock import ENGLAND

AS_OF = (
    "What stood at the end of this day, as it was known here: before later corrections, withdrawals and values that arrived late."
)


def make_known_columns() -> tuple[Column[Any], Column[Any]]:
    """Returns the columns of a view that say from when, and until when, a value stood."""
    return Column("known_from", DateTime(timezone=True), nullable=False), Column(
        "known_until", DateTime(timezone=True), nullable=False
    )


def end_of(day: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns in SQL the instant at which a day ends in England."""
    next_day = cast(cast(day, Date) + literal_column("1", Integer), DateTime(timezone=False))
    return func.timezone(literal_column(f"'{ENGLAND.key}'"), next_day, type_=DateTime(timezone=True))


def holds_on(row: Any, day: ColumnElement[Any]) -> ColumnElement[bool]:
    """Returns the condition that a value stood when the day ended."""
    end = end_of(day)
    is_known: ColumnElement[bool] = (row.known_from < end) & (row.known_until >= end)
    return is_known
