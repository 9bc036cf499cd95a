"""Assessment schemes of a trust or school, and their grades.

A version of a scheme never changes, so that a value keeps its meaning.
"""

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from domain.access.reach import rows_of_tenant
from domain.assessment.code_lists import TEMPLATE
from domain.assessment.subjects import codes_of
from domain.declare.resource import Field, LabelOf, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import SCHEME, SCHOOL
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import NUMBER, RANK, VERSION, declare_ids, declare_list
from domain.roster.text_order import sort_by_text
from domain.roster.years import YEAR_GROUP
from domain.store.metadata import metadata

PROGRESS_METHOD = declare_list("points", "standardised")

schemes = Table(
    "schemes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("school_id", Uuid, ForeignKey("schools.id")),
    Column("derived", Boolean, nullable=False),
    Column("template", Text),
    Column("retired", Boolean, nullable=False),
    Column("progress_method", Text),
    Column("progress_statement", Text),
    Column("progress_declared_at", DateTime(timezone=True)),
    Column("progress_declared_by", Text),
    UniqueConstraint("tenant_id", "code"),
    Index("schemes_by_id", "id"),
)

scheme_grades = Table(
    "scheme_grades",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("scheme_id", Uuid, nullable=False),
    Column("scheme_version", SmallInteger, nullable=False),
    Column("scheme_version_no", SmallInteger, nullable=False),
    Column("no", SmallInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("rank", SmallInteger),
    Column("value", Numeric),
    Column("points", Numeric),
    Column("year_group", Text),
    Column("band", Text),
    Column("eligible", Boolean, nullable=False),
    Column("valid", Boolean, nullable=False),
    Column("expected", Boolean),
    Column("higher", Boolean),
    Column("valid_from", Date),
    Column("valid_to", Date),
    comment="A view: grades with the scheme they belong to",
)


GRADE_CODES = codes_of(scheme_grades, "grade")


def column_of_grade(row: Any, name: str, otherwise: ColumnElement[Any] | None = None) -> LabelOf:
    """Returns a column of a row's grade; `otherwise` (null) for a row without one. `row` are the columns of judgements
    or targets.
    """
    g = scheme_grades.c
    return LabelOf(
        scheme_grades,
        ((row.tenant_id, g.tenant_id), (row.scheme_version_no, g.scheme_version_no), (row.grade_no, g.no)),
        name,
        otherwise,
        GRADE_CODES if name == "code" else None,
    )


SCHEMES = Resource(
    name="scheme",
    plural="schemes",
    doc="An assessment scheme of a trust or school.",
    source=schemes,
    type_number=SCHEME,
    scope=Scope.SCHEMES_READ,
    order=("tenant_id", "id"),
    reach=rows_of_tenant(schemes.c.tenant_id),
    fields={
        "id": Field(schemes.c.id, "Stable id."),
        "code": Field(schemes.c.code, "Short code.", codes=codes_of(schemes, "scheme"), sort_key=sort_by_text(schemes.c.code)),
        "name": Field(schemes.c.name, "Name.", sort_key=sort_by_text(schemes.c.name), longest=MAX_SHORT_TEXT),
        "derived": Field(schemes.c.derived, "Whether its grades are computed and cannot be given."),
        "template": Field(
            schemes.c.template,
            "Code of the template whose new versions it gets; null for a scheme of the trust's own.",
            vocabulary=TEMPLATE,
        ),
        "schoolId": Field(
            schemes.c.school_id,
            "Id of the school inside a trust whose own it is; null: the trust's.",
            vocabulary=declare_ids(SCHOOL, "school"),
        ),
        "retired": Field(schemes.c.retired, "Whether no new window may collect it."),
        "progressMethod": Field(
            schemes.c.progress_method,
            "By which method a difference of its grades is progress: points, standardised; null where none is declared, and no difference is shown.",
            vocabulary=PROGRESS_METHOD,
        ),
        "progressStatement": Field(
            schemes.c.progress_statement, "What a difference means, in the words of whoever declared it.", is_prose=True
        ),
        "progressDeclaredAt": Field(schemes.c.progress_declared_at, "When the method was declared."),
        "progressDeclaredBy": Field(
            schemes.c.progress_declared_by, "Who declared it, as the sender named them.", longest=MAX_SHORT_TEXT
        ),
    },
)

GRADES = Resource(
    name="grade",
    plural="grades",
    doc="A grade of a version of a scheme.",
    source=scheme_grades,
    scope=Scope.SCHEMES_READ,
    order=("tenant_id", "scheme_version_no", "no"),
    reach=rows_of_tenant(scheme_grades.c.tenant_id),
    fields={
        "schemeVersion": Field(scheme_grades.c.scheme_version, "Version of the scheme, from 1.", vocabulary=VERSION),
        "code": Field(
            scheme_grades.c.code, "What is written: EXS, 104, 3B.", codes=GRADE_CODES, sort_key=sort_by_text(scheme_grades.c.code)
        ),
        "label": Field(
            scheme_grades.c.label, "What it means.", sort_key=sort_by_text(scheme_grades.c.label), longest=MAX_SHORT_TEXT
        ),
        "rank": Field(
            scheme_grades.c.rank,
            "Order within the scheme, higher is better; null for a code that is no attainment.",
            vocabulary=RANK,
        ),
        "value": Field(scheme_grades.c.value, "What it counts in an average; null where it counts in none.", vocabulary=NUMBER),
        "points": Field(scheme_grades.c.points, "Points, where the school uses them.", vocabulary=NUMBER),
        "yearGroup": Field(
            scheme_grades.c.year_group, "The curriculum year it is for, in year-and-band schemes.", vocabulary=YEAR_GROUP
        ),
        "band": Field(scheme_grades.c.band, "The band within that year.", longest=MAX_SHORT_TEXT),
        "eligible": Field(scheme_grades.c.eligible, "Whether the pupil stays in the denominator."),
        "valid": Field(scheme_grades.c.valid, "Whether it is a counting value."),
        "expected": Field(
            scheme_grades.c.expected,
            "Whether it meets the expected standard; null where the scheme has none, or a later version has it: the STA publishes some after the test.",
        ),
        "higher": Field(scheme_grades.c.higher, "Whether it meets the higher standard; null where the scheme has none."),
        "validFrom": Field(
            scheme_grades.c.valid_from, "First day of the academic year from which it is used; null: from the beginning."
        ),
        "validTo": Field(scheme_grades.c.valid_to, "Last day of the academic year until which it is used; null: no end is known."),
    },
    links={
        "scheme": Link(
            "scheme",
            ((scheme_grades.c.tenant_id, schemes.c.tenant_id), (scheme_grades.c.scheme_id, schemes.c.id)),
            "The scheme.",
            reverse="grades",
            reverse_doc="The grades of all its versions.",
            nullable=False,
        )
    },
)
