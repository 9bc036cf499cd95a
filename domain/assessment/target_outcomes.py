"""How many pupils of a school are on target in a window, by subject and aspect: counts alone, and of every target, whoever may see it.

The target of a pupil is the one that a judgement is compared with (against_target.py). The function of the database counts for whoever holds
aggregates:internal at the school, and for nobody else. As of a day it counts the judgements and targets that stood then, by the scale and the
crosswalks of that day; who is counted is as it is known now.
"""

from typing import Any

from sqlalchemy import Column, ColumnElement, Date, DateTime, Integer, MetaData, SmallInteger, Table, Text, Uuid, func

from domain.access.reach import rows_of_school
from domain.assessment.as_of import AS_OF, end_of
from domain.assessment.subjects import JUDGED, aspects, code_of, subjects
from domain.assessment.window_state import has_opened
from domain.assessment.windows import windows
from domain.declare.arguments import Argument
from domain.declare.resource import Field, Link, Resource, declare_view
from domain.declare.scopes import Scope
from domain.declare.vocabulary import COUNT
from domain.read.time_binds import TODAY
from domain.roster.schools import schools

target_outcomes = Table(
    "target_outcomes",
    MetaData(),
    *(Column(name, Uuid, nullable=False) for name in ("tenant_id", "school_id")),
    *(Column(name, SmallInteger, nullable=False) for name in ("window_no", "subject_no", "aspect_no")),
    *(
        Column(name, Integer, nullable=False)
        for name in ("eligible", "above", "on_target", "below", "no_target", "not_comparable", "not_judged")
    ),
    Column("state", Text, nullable=False),
    *(Column(name, DateTime(timezone=True), nullable=False) for name in ("opens_at", "closes_at")),
    comment="A view over the census, the judgements and the targets",
)
o = target_outcomes.c
target_outcomes_known = declare_view("target_outcomes_known", target_outcomes, Column("known_on", Date, nullable=False))


def _were_counted(row: Any, day: ColumnElement[Any]) -> ColumnElement[bool]:
    """The counts of a day, of a window that had opened by then. A day to come has those of today."""
    were_counted: ColumnElement[bool] = (row.known_on == func.least(day, TODAY)) & (row.opens_at < end_of(day))
    return were_counted


TARGET_OUTCOMES = Resource(
    name="targetOutcome",
    plural="targetOutcomes",
    slug="target-outcomes",
    versioned=False,
    doc="How many pupils of a school are above, on and below their target in a window, by subject and aspect; there are none before it opens.",
    source=target_outcomes,
    scope=Scope.AGGREGATES_INTERNAL,
    order=("tenant_id", "window_no", "school_id", "subject_no", "aspect_no"),
    weight=2_000,
    reach=rows_of_school(o.tenant_id, o.school_id, tests_each_row=True),
    condition=has_opened(o),
    collected=("school_id", "window_no", "subject_no", "aspect_no"),
    arguments={"asOf": Argument(Date(), AS_OF, _were_counted, source=target_outcomes_known)},
    fields={
        "windowCode": Field(code_of(windows, o.tenant_id, o.window_no), "The window's code."),
        "schoolId": Field(o.school_id, "The school's id."),
        "subjectCode": Field(code_of(subjects, o.tenant_id, o.subject_no), "The subject's code.", vocabulary=JUDGED),
        "aspect": Field(code_of(aspects, o.tenant_id, o.aspect_no), "The aspect."),
        "eligible": Field(o.eligible, "Pupils on roll here on the census day, in the window's year groups.", vocabulary=COUNT),
        "above": Field(o.above, "Of these, those whose grade is above their target, as againstTarget says.", vocabulary=COUNT),
        "onTarget": Field(o.on_target, "Of these, those whose grade is their target, or as high.", vocabulary=COUNT),
        "below": Field(o.below, "Of these, those whose grade is below their target.", vocabulary=COUNT),
        "noTarget": Field(o.no_target, "Of these, those with a grade and no target from the census day on.", vocabulary=COUNT),
        "notComparable": Field(
            o.not_comparable, "Of these, those whose grade and target neither bands nor ranks compare.", vocabulary=COUNT
        ),
        "notJudged": Field(o.not_judged, "Of these, those without a grade.", vocabulary=COUNT),
    },
    links={
        "window": Link(
            "window",
            ((o.tenant_id, windows.c.tenant_id), (o.window_no, windows.c.no)),
            "The window.",
            reverse="targetOutcomes",
            reverse_doc="How many pupils are on target, by school, subject and aspect.",
        ),
        "school": Link("school", ((o.school_id, schools.c.id),), "The school."),
    },
)
