"""Enrolment spells: when a pupil was on roll at a school, and with which status.

A dual-registered pupil has a main and a subsidiary spell and is counted once.
"""

from datetime import date
from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import Column, ColumnElement, Date, Uuid, func

from domain.access.reach import rows_of_school
from domain.declare.arguments import Argument
from domain.declare.inputs import RuledInput, describe
from domain.declare.resource import Field, Link, Resource, declare_view
from domain.declare.scopes import Scope
from domain.declare.type_numbers import ENROLMENT
from domain.read.time_binds import TODAY
from domain.roster.code_lists import ENROLMENT_STATUS
from domain.roster.on_roll import enrolments, is_on_roll
from domain.roster.pupils import ROLL_OF_DAY, pupils
from domain.roster.schools import schools

MAX_LEAVING_REASON = 100
"""Characters of the reason for which a pupil left."""

school_roll = declare_view("school_roll", pupils, Column("roll_school_id", Uuid))


def _is_on_roll(row: Any, on: ColumnElement[Any]) -> ColumnElement[bool]:
    return is_on_roll(row.tenant_id, row.id, row.roll_school_id, func.coalesce(on, TODAY))


ENROLMENTS = Resource(
    name="enrolment",
    plural="enrolments",
    doc="A spell on roll at a school within the caller's reach.",
    source=enrolments,
    type_number=ENROLMENT,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_school(enrolments.c.tenant_id, enrolments.c.school_id),
    fields={
        "id": Field(enrolments.c.id, "Stable id."),
        "pupilId": Field(enrolments.c.pupil_id, "The pupil's id."),
        "schoolId": Field(enrolments.c.school_id, "The school's id."),
        "status": Field(
            enrolments.c.status,
            "C current, M main dual, S subsidiary dual, G guest, F also at an FE college, O also at another provider.",
            vocabulary=ENROLMENT_STATUS,
        ),
        "from": Field(enrolments.c.from_on, "First day on roll."),
        "to": Field(enrolments.c.to_on, "Last day on roll; null while it lasts."),
        "leavingReason": Field(
            enrolments.c.leaving_reason,
            "Why it ended, in the school's words; not-on-roll if a complete roll left the pupil out.",
            longest=MAX_LEAVING_REASON,
        ),
    },
    links={
        "pupil": Link(
            "pupil",
            ((enrolments.c.tenant_id, pupils.c.tenant_id), (enrolments.c.pupil_id, pupils.c.id)),
            "The pupil.",
            reverse="enrolments",
            reverse_doc="Spells on roll, at schools within the caller's reach.",
        ),
        "school": Link(
            "school",
            ((enrolments.c.school_id, schools.c.id),),
            "The school.",
            reverse="enrolments",
            reverse_doc="Spells on roll here.",
        ),
    },
    links_from_others={
        "school": {
            "onRoll": Link(
                "pupil",
                ((schools.c.tenant_id, school_roll.c.tenant_id), (schools.c.id, school_roll.c.roll_school_id)),
                "Who is on roll here on a day, in any status, where within reach.",
                many=True,
                source=school_roll,
                arguments={"on": Argument(Date(), "The day; today by default.", _is_on_roll)},
                choices={"roll": ROLL_OF_DAY},
            )
        }
    },
)


def _check_days(spell: Any) -> str | None:
    return "A spell cannot end before it begins" if spell.to is not None and spell.to < spell.from_ else None


def _check_reason(spell: Any) -> str | None:
    if spell.to is None and spell.leaving_reason is not None:
        return "A spell that has not ended has no leaving reason"
    return None


class Spell(RuledInput, kw_only=True):
    """A whole spell on roll at the row's school."""

    rules = (_check_days, _check_reason)

    from_: Annotated[date, describe("First day on roll.")]
    to: Annotated[date | None, describe("Last day on roll; null where no end is known.")] = None
    status: Annotated[
        Literal["C", "M", "S", "G", "F", "O"],
        describe(
            "C current single, M main dual, S subsidiary dual, G guest, F FE college, O other provider (DfE Common Basic Data Set)."
        ),
    ]
    leaving_reason: Annotated[
        Annotated[str, Meta(min_length=1, max_length=MAX_LEAVING_REASON)] | None,
        describe("Why the pupil left, with a last day only."),
    ] = None

    def is_on(self, day: date) -> bool:
        return self.from_ <= day and (self.to is None or self.to >= day)

    def is_over(self, day: date) -> bool:
        return self.to is not None and self.to < day
