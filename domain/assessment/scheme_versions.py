"""The versions of a scheme: for which academic years each is, how marks are rounded and which standards it has.

A version never changes. `POST /v1/schemes/{id}/versions` makes the next one.
"""

from sqlalchemy import ARRAY, Column, MetaData, SmallInteger, Table, Text, Uuid

from domain.access.reach import rows_of_tenant
from domain.assessment.schemes import scheme_grades, schemes
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.vocabulary import ROUNDING, VERSION, declare_list
from domain.roster.years import ACADEMIC_YEAR

versions = Table(
    "versions_of_schemes",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("no", SmallInteger, nullable=False),
    Column("scheme_id", Uuid, nullable=False),
    Column("version", SmallInteger, nullable=False),
    Column("rounding", SmallInteger),
    Column("expected_status", Text),
    Column("higher_status", Text),
    Column("academic_years", ARRAY(Text)),
    comment="A view",
)
v = versions.c
_STATUS = declare_list("x", "z")

SCHEME_VERSIONS = Resource(
    name="schemeVersion",
    plural="schemeVersions",
    slug="scheme-versions",
    doc="A version of a scheme, which never changes.",
    source=versions,
    scope=Scope.SCHEMES_READ,
    order=("tenant_id", "no"),
    reach=rows_of_tenant(v.tenant_id),
    fields={
        "schemeId": Field(v.scheme_id, "The scheme's id."),
        "version": Field(v.version, "From 1.", vocabulary=VERSION),
        "academicYears": Field(
            v.academic_years, "The academic years that it is for; null: all that no other version is for.", vocabulary=ACADEMIC_YEAR
        ),
        "rounding": Field(
            v.rounding,
            "Decimals to which a mark is rounded; null where a mark with more than two decimals is refused.",
            vocabulary=ROUNDING,
        ),
        "expectedStatus": Field(
            v.expected_status,
            "Why no grade tells the expected standard: x a later version tells it, z there is none; null where one does.",
            vocabulary=_STATUS,
        ),
        "higherStatus": Field(
            v.higher_status, "Why no grade tells the higher standard: x or z; null where one does.", vocabulary=_STATUS
        ),
    },
    links={
        "scheme": Link(
            "scheme",
            ((v.tenant_id, schemes.c.tenant_id), (v.scheme_id, schemes.c.id)),
            "The scheme.",
            reverse="versions",
            reverse_doc="Its versions.",
            nullable=False,
            target_in_reach=True,
            source_in_reach=True,
        ),
        "grades": Link(
            "grade",
            ((v.tenant_id, scheme_grades.c.tenant_id), (v.no, scheme_grades.c.scheme_version_no)),
            "Its grades, also those that came later or were taken out of use.",
            many=True,
            target_in_reach=True,
        ),
    },
)
