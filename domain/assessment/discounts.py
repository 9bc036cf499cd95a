"""Discounts: pupils whom a school's published results leave out, on request, and why.

A discounted pupil leaves the denominator of every subject of the window. What such pupils would add is counted apart, so
that readers with aggregates:internal see both figures (Department for Education, "Checking exercise": pupils may be
discounted, such as those who have recently arrived from overseas with English as an additional language).
"""

from sqlalchemy import Column, DateTime, Index, Integer, SmallInteger, Table, Text, Uuid, and_

from domain.access.reach import rows_of_pupil, rows_of_school
from domain.assessment.subjects import code_of
from domain.assessment.windows import windows
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import DISCOUNT
from domain.declare.vocabulary import VERSION
from domain.roster.pupils import PUPIL_IDS
from domain.roster.schools import schools
from domain.store.metadata import metadata

discounts = Table(
    "discounts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("window_no", SmallInteger, nullable=False),
    Column("pupil_id", Uuid, nullable=False),
    Column("school_id", Uuid, nullable=False),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("withdrawn_at", DateTime(timezone=True)),
    Column("withdrawn_by", Text),
    Column("version", Integer, nullable=False),
    Column("recorded_at_school_id", Uuid),
    Column("withdrawn_at_school_id", Uuid),
    Index("discounts_by_id", "id"),
    Index("discounts_by_school", "tenant_id", "school_id", "id"),
)
d = discounts.c

_of_pupil = rows_of_pupil(d.tenant_id, d.school_id, d.pupil_id)

DISCOUNTS = Resource(
    name="discount",
    plural="discounts",
    doc="A pupil whom the published results of a window leave out. The pupil must be reached with pupils:read as well.",
    source=discounts,
    type_number=DISCOUNT,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "id"),
    reach=lambda scope: and_(_of_pupil(scope), _of_pupil(Scope.PUPILS_READ)),
    also_needs=(Scope.PUPILS_READ,),
    fields={
        "id": Field(d.id, "Stable id."),
        "windowCode": Field(code_of(windows, d.tenant_id, d.window_no), "The window's code."),
        "pupilId": Field(d.pupil_id, "The pupil's id.", vocabulary=PUPIL_IDS),
        "schoolId": Field(d.school_id, "The pupil's school of main registration today."),
        "reason": Field(d.reason, "Why the pupil is discounted.", is_prose=True, scope=Scope.PUPILS_SENSITIVE),
        "author": Field(
            d.author,
            "Who decided it, as the sender names them. Shown where the scope is held at the school that recorded it.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_school(d.tenant_id, d.recorded_at_school_id),
            filter=Filter.NOWHERE,
        ),
        "createdAt": Field(d.created_at, "When it arrived here."),
        "withdrawnAt": Field(d.withdrawn_at, "When it was withdrawn; null while the pupil is discounted."),
        "withdrawnBy": Field(
            d.withdrawn_by,
            "Who withdrew it. Shown where the scope is held at the school that the pupil was of then.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_school(d.tenant_id, d.withdrawn_at_school_id),
            filter=Filter.NOWHERE,
        ),
        "version": Field(d.version, "Grows by one with each change.", vocabulary=VERSION),
    },
    links={
        "window": Link(
            "window",
            ((d.tenant_id, windows.c.tenant_id), (d.window_no, windows.c.no)),
            "The window.",
            reverse="discounts",
            reverse_doc="Pupils whom the published results leave out.",
            target_in_reach=True,
        ),
        "school": Link("school", ((d.school_id, schools.c.id),), "The pupil's school of main registration."),
    },
)
