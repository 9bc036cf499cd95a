"""Assessment schemes: how a school or trust marks. Schemes are versioned and a version never changes, so that a value keeps its meaning."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import (
    Boolean,
    Column,
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

from domain.access.caller import Caller
from domain.access.reach import rows_of_tenant
from domain.assessment.tenant_setup import SCHEME, Grade, prepare_tenant, templates, write_scheme
from domain.declare.errors import Conflict, Invalid, Issue, make_invalid
from domain.declare.inputs import Input, Output
from domain.declare.inputs import Text as ShortText
from domain.declare.resource import Field, LabelOf, Link, Resource
from domain.declare.scopes import Scope
from domain.roster.tenant_ref import TenantRef, find_tenant
from domain.store.database import Connection
from domain.store.metadata import metadata
from domain.support.suggestions import Suggestions
from domain.write.command import command

schemes = Table(
    "schemes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("school_id", Uuid, ForeignKey("schools.id")),
    Column("derived", Boolean, nullable=False),
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
    Column("expected", Boolean, nullable=False),
    Column("higher", Boolean, nullable=False),
    comment="A view: grades with the scheme they belong to",
)


def column_of_grade(row: Any, name: str) -> LabelOf:
    """What the grade of a row (its columns: a judgement's, a target's) has in this column; null for a row without one."""
    g = scheme_grades.c
    return LabelOf(
        scheme_grades, ((row.tenant_id, g.tenant_id), (row.scheme_version_no, g.scheme_version_no), (row.grade_no, g.no)), name
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
        "code": Field(schemes.c.code, "Short code."),
        "name": Field(schemes.c.name, "Name."),
        "derived": Field(schemes.c.derived, "Whether its grades are computed and cannot be given."),
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
        "schemeVersion": Field(scheme_grades.c.scheme_version, "Version of the scheme, from 1."),
        "code": Field(scheme_grades.c.code, "What is written: EXS, 104, 3B."),
        "label": Field(scheme_grades.c.label, "What it means."),
        "rank": Field(
            scheme_grades.c.rank,
            "Order within the scheme, higher is better; null for a code that is no attainment.",
        ),
        "value": Field(scheme_grades.c.value, "What it counts in an average; null where it counts in none."),
        "points": Field(scheme_grades.c.points, "Points, where the school uses them."),
        "yearGroup": Field(scheme_grades.c.year_group, "The curriculum year it speaks of, for year-and-band schemes."),
        "band": Field(scheme_grades.c.band, "The band within that year."),
        "eligible": Field(scheme_grades.c.eligible, "Whether the pupil stays in the denominator."),
        "valid": Field(scheme_grades.c.valid, "Whether it is a counting value."),
        "expected": Field(scheme_grades.c.expected, "Whether it meets the expected standard."),
        "higher": Field(scheme_grades.c.higher, "Whether it meets the higher standard."),
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


class GradeInput(Input, kw_only=True):
    """A grade of a new scheme. rank orders it (higher is better), value counts in averages; eligible keeps the pupil in the denominator."""

    code: Annotated[str, Meta(min_length=1, max_length=20)]
    label: ShortText
    rank: Annotated[int, Meta(ge=0, le=30_000)] | None = None
    value: Annotated[float, Meta(ge=-99_999, le=99_999)] | None = None
    points: Annotated[float, Meta(ge=-99_999, le=99_999)] | None = None
    year_group: ShortText | None = None
    band: ShortText | None = None
    eligible: bool = True
    valid: bool = True
    expected: bool = False
    higher: bool = False

    def __post_init__(self) -> None:
        if self.higher and not self.expected:
            raise ValueError("A grade that meets the higher standard meets the expected one")
        if (self.expected and not self.valid) or (self.valid and not self.eligible):
            raise ValueError("A grade that meets a standard is valid, and a valid grade is eligible")


class NewScheme(Input, kw_only=True):
    """A scheme by its grades, or as a copy of a template."""

    tenant: TenantRef
    code: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,49}$")]
    name: ShortText
    template: str | UnsetType = UNSET
    grades: Annotated[list[GradeInput], Meta(min_length=1, max_length=500)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.template is UNSET) == (self.grades is UNSET):
            raise ValueError("Give either template or grades")


class SchemeMade(Output, kw_only=True):
    """A scheme and its first version."""

    id: str
    code: str
    version: int
    grades: int


@command(scope=Scope.SCHEMES_WRITE, fails=(Invalid, Conflict))
async def create_scheme(connection: Connection, caller: Caller, given: NewScheme) -> SchemeMade:
    """Create a scheme for a trust or school, by its grades or from a template. Its first version never changes."""
    tenant_id = await find_tenant(connection, caller, Scope.SCHEMES_WRITE, given.tenant, "/tenant")
    await prepare_tenant(connection, tenant_id)
    if await connection.fetchval("SELECT 1 FROM schemes WHERE tenant_id = $1 AND code = $2", tenant_id, given.code):
        raise Conflict(
            "A scheme with this code exists.",
            code="scheme-exists",
            issues=(Issue("/code", "scheme-exists", "A scheme with this code exists."),),
        )
    if given.grades is not UNSET:
        codes = [grade.code for grade in given.grades]
        twice = [
            Issue(f"/grades/{i}/code", "duplicate-grade", "This code stands twice.")
            for i, code in enumerate(codes)
            if code in codes[:i]
        ]
        if twice:
            raise make_invalid(twice)
        grades = [Grade(**{name: getattr(grade, name) for name in grade.__struct_fields__}) for grade in given.grades]
    else:
        template = templates().scheme(str(given.template))
        if template is None or template.derived:
            codes = [known.code for known in templates().schemes if not known.derived]
            message = (
                f"There is no such template.{Suggestions().suggest(str(given.template), codes)} Templates: {', '.join(codes)}."
            )
            raise make_invalid([Issue("/template", "template-unknown", message)])
        grades = template.all_grades()
    scheme_id = await write_scheme(connection, tenant_id, given.code, given.name, None, grades)
    return SchemeMade(id=str(scheme_id), code=given.code, version=1, grades=len(grades))
