"""Who is on roll: the table of enrolment spells, and SQL conditions and values of one pupil's spells.

What a pupil's own fields and lists say of the spells is limited to the schools within the caller's reach: a second
school (dual registration) is told its own spell, never the main school's.
"""

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    ForeignKey,
    Index,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    and_,
    case,
    exists,
    func,
    literal_column,
    select,
)

from domain.access.reach import rows_of_school
from domain.declare.scopes import Scope
from domain.read.time_binds import TODAY
from domain.store.metadata import metadata

MAIN = ("C", "M", "F", "O")
"""Statuses of a main registration. A pupil referral unit has F and O: what the pupil attends besides is no school with a
roll, so that the child is counted here."""

enrolments = Table(
    "enrolments",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("pupil_id", Uuid, nullable=False),
    Column("school_id", Uuid, ForeignKey("schools.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("from_on", Date, nullable=False),
    Column("to_on", Date),
    Column("leaving_reason", Text),
    UniqueConstraint("tenant_id", "pupil_id", "school_id", "from_on"),
    Index("enrolments_by_id", "id"),
    Index("enrolments_by_school", "tenant_id", "school_id", "pupil_id"),
)

LAST_DAY: ColumnElement[Any] = literal_column("'infinity'::date")


def _is_open(spell: Any, day: ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(spell.from_on <= day, func.coalesce(spell.to_on, LAST_DAY) >= day)


def _covers(spell: Any, day: ColumnElement[Any]) -> ColumnElement[bool]:
    """Returns the same condition in a form that no index serves: an index of a pupil's spells by school and first day
    would be searched once for each school.
    """
    covers: ColumnElement[bool] = func.daterange(spell.from_on, spell.to_on, literal_column("'[]'")).op("@>", is_comparison=True)(
        day
    )
    return covers


def is_on_roll(
    tenant_id: ColumnElement[Any], pupil_id: ColumnElement[Any], school_id: ColumnElement[Any], day: ColumnElement[Any]
) -> ColumnElement[bool]:
    """Returns the condition that a pupil is on roll at a school on a day, in any status."""
    e = enrolments.alias()
    spell = and_(e.c.tenant_id == tenant_id, e.c.pupil_id == pupil_id, e.c.school_id == school_id)
    return exists().where(spell, _is_open(e.c, day)).correlate_except(e)


class RollOfPupil:
    """The SQL of what a pupil's spells say today, at the schools within the caller's reach or at one of them.

    `pupil` is the table of pupils; `school_id` is its column of the one school.
    """

    def __init__(self, pupil: Table, school_id: Column[Any] | None = None) -> None:
        self._pupil = pupil
        self._school_id = school_id

    def _select(self, spells: Any, *columns: Any) -> Any:
        e = spells.c
        of_pupil = (e.tenant_id == self._pupil.c.tenant_id) & (e.pupil_id == self._pupil.c.id)
        at_school = [] if self._school_id is None else [e.school_id == self._school_id]
        in_reach = rows_of_school(e.tenant_id, e.school_id)(Scope.PUPILS_READ)
        return select(*columns).where(of_pupil, *at_school, in_reach).correlate_except(spells)

    def is_on_roll(self) -> ColumnElement[bool]:
        """Returns the condition that a spell is open today.

        Of most pupils their own row says so; only where it does not, their spells are read. OFFSET 0 keeps PostgreSQL from
        joining: it would read every spell within reach to list a page of pupils.
        """
        e, p = enrolments.alias(), self._pupil.c
        is_open = exists(self._select(e, literal_column("1")).where(_covers(e.c, TODAY)).offset(literal_column("0")))
        in_reach = rows_of_school(p.tenant_id, p.school_id)(Scope.PUPILS_READ)
        return (p.main_spell.is_not(None) & p.main_spell.contains(TODAY) & in_reach) | is_open

    def status(self) -> ColumnElement[Any]:
        """Returns the status of the spell that is open today, the main one first; null without one."""
        e = enrolments.alias()
        rank = func.array_position(literal_column("ARRAY['C', 'M', 'F', 'O', 'S', 'G']"), e.c.status)
        found = self._select(e, e.c.status).where(_covers(e.c, TODAY)).order_by(rank, e.c.from_on)
        status: ColumnElement[Any] = found.limit(literal_column("1")).scalar_subquery()
        return status

    def last_day(self) -> ColumnElement[Any]:
        """Returns the last day of the spell that ended last, where none is open today; null for others."""
        e = enrolments.alias()
        ended = func.max(e.c.to_on).filter(e.c.to_on < TODAY)
        last_day: ColumnElement[Any] = self._select(
            e, case((func.bool_or(_is_open(e.c, TODAY)), None), else_=ended)
        ).scalar_subquery()
        return last_day

    def has_left(self) -> ColumnElement[bool]:
        """Returns the condition that a spell has ended and none is open today."""
        return self.last_day().is_not(None)
