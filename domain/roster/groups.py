"""Groups of a school (classes, registration and teaching groups, and others) and their dated members.

A group belongs to one academic year.
"""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta
from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    DateTime,
    FetchedValue,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    and_,
    func,
)

from domain.access.reach import rows_of_school
from domain.declare.arguments import Argument
from domain.declare.resource import Field, Link, Resource, declare_view
from domain.declare.scopes import Scope
from domain.declare.type_numbers import GROUP
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import VERSION, declare_list
from domain.read.time_binds import TODAY
from domain.roster.on_roll import LAST_DAY, is_on_roll
from domain.roster.pupils import CHANGED_AT, ROLL_OF_DAY, pupils
from domain.roster.schools import schools
from domain.roster.years import ACADEMIC_YEAR, academic_year_text
from domain.store.metadata import metadata

MAX_CODE = 50
Code = Annotated[str, Meta(min_length=1, max_length=MAX_CODE)]
Kind = Literal["class", "registration", "teaching", "adhoc"]

groups = Table(
    "groups",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("school_id", Uuid, ForeignKey("schools.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("academic_year", SmallInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("name_key", Text, nullable=False, server_default=FetchedValue()),
    Column("code_key", Text, nullable=False, server_default=FetchedValue()),
    UniqueConstraint("tenant_id", "school_id", "academic_year", "code"),
    Index("groups_by_id", "id"),
    Index("groups_by_school", "tenant_id", "school_id", "id"),
)

group_members = Table(
    "group_members",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("group_id", Uuid, primary_key=True),
    Column("pupil_id", Uuid, primary_key=True),
    Column("from_on", Date, primary_key=True),
    Column("school_id", Uuid, nullable=False, comment="The group's"),
    Column("to_on", Date),
)
m = group_members.c


def _make_dates() -> tuple[Column[date], Column[date]]:
    return Column("member_from", Date, nullable=False), Column("member_to", Date)


group_pupils = declare_view("group_pupils", pupils, Column("group_id", Uuid), Column("group_school_id", Uuid), *_make_dates())
pupil_groups = declare_view("pupil_groups", groups, Column("pupil_id", Uuid), *_make_dates())


def is_attending(pupil: str, school: str) -> Callable[[Any, ColumnElement[Any]], ColumnElement[bool]]:
    """Returns the condition that a pupil is a member on a day (today where it is null) and on roll at the group's
    school on that day.

    `pupil` and `school` name the columns of the row. A pupil who leaves the school leaves its groups.
    """

    def condition(row: Any, on: ColumnElement[Any]) -> ColumnElement[bool]:
        day = func.coalesce(on, TODAY)
        member = and_(row.member_from <= day, func.coalesce(row.member_to, LAST_DAY) >= day)
        return and_(member, is_on_roll(row.tenant_id, row[pupil], row[school], day))

    return condition


_ATTENDING = is_attending("id", "group_school_id")

GROUPS = Resource(
    name="group",
    plural="groups",
    doc="A class or other group of a school within the caller's reach.",
    source=groups,
    type_number=GROUP,
    scope=Scope.GROUPS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_school(groups.c.tenant_id, groups.c.school_id),
    fields={
        "id": Field(groups.c.id, "Stable id."),
        "code": Field(groups.c.code, "Code, unique in the school and academic year.", sort_key=groups.c.code_key, longest=MAX_CODE),
        "name": Field(groups.c.name, "Name.", sort_key=groups.c.name_key, longest=MAX_SHORT_TEXT),
        "kind": Field(groups.c.kind, "class, registration, teaching or adhoc.", vocabulary=declare_list(*get_args(Kind))),
        "academicYear": Field(
            academic_year_text(groups.c.academic_year), "Academic year, such as 2026-27.", nullable=False, vocabulary=ACADEMIC_YEAR
        ),
        "schoolId": Field(groups.c.school_id, "The school's id."),
        "version": Field(groups.c.version, "Grows by one with each change, of its members too.", vocabulary=VERSION),
        "changedAt": Field(groups.c.changed_at, CHANGED_AT),
    },
    links={
        "school": Link(
            "school",
            ((groups.c.school_id, schools.c.id),),
            "The school.",
            reverse="groups",
            reverse_doc="Its classes and other groups.",
        ),
        "pupils": Link(
            "pupil",
            ((groups.c.tenant_id, group_pupils.c.tenant_id), (groups.c.id, group_pupils.c.group_id)),
            "Who is in it on a day, and on roll at the school.",
            many=True,
            source=group_pupils,
            arguments={
                "on": Argument(Date(), "The day; today by default.", _ATTENDING),
                "asOf": Argument(Date(), "The same as on.", _ATTENDING, same_as="on"),
            },
            choices={"roll": ROLL_OF_DAY},
        ),
    },
    links_from_others={
        "pupil": {
            "groups": Link(
                "group",
                ((pupils.c.tenant_id, pupil_groups.c.tenant_id), (pupils.c.id, pupil_groups.c.pupil_id)),
                "The groups the pupil is in on a day, at schools where the pupil is on roll.",
                many=True,
                source=pupil_groups,
                arguments={"on": Argument(Date(), "The day; today by default.", is_attending("pupil_id", "school_id"))},
            )
        }
    },
)

MEMBERS = Resource(
    name="groupMember",
    plural="groupMembers",
    doc="A dated membership of a pupil in a group.",
    source=group_members,
    scope=Scope.GROUPS_READ,
    order=("tenant_id", "group_id", "pupil_id", "from_on"),
    reach=rows_of_school(m.tenant_id, m.school_id),
    fields={
        "groupId": Field(m.group_id, "The group's id."),
        "pupilId": Field(m.pupil_id, "The pupil's id."),
        "from": Field(m.from_on, "First day."),
        "to": Field(m.to_on, "Last day; null while it lasts."),
    },
    links={
        "group": Link(
            "group",
            ((m.tenant_id, groups.c.tenant_id), (m.group_id, groups.c.id)),
            "The group.",
            reverse="members",
            reverse_doc="Who is and was in it, dated.",
            nullable=False,
        ),
        "pupil": Link(
            "pupil",
            ((m.tenant_id, pupils.c.tenant_id), (m.pupil_id, pupils.c.id)),
            "The pupil, where within reach.",
        ),
    },
)
