"""Subjects and aspects of a tenant.

Reading, writing and maths combined (rwm) is a subject too; it is derived and never judged.
"""

from typing import Annotated, Any

from sqlalchemy import ARRAY, Boolean, Column, Index, Integer, SmallInteger, Table, Text, UniqueConstraint, Uuid

from domain.access.reach import rows_of_tenant
from domain.declare.inputs import Text as ShortText
from domain.declare.inputs import describe
from domain.declare.resource import Field, LabelOf, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import ASPECT, SUBJECT
from domain.store.metadata import metadata

NATIONAL_CODE = "Code in the DfE's Common Basic Data Set, such as MAT; the same in every tenant, whatever its own code is."
SubjectCode = Annotated[ShortText, describe("Code of a subject, such as reading. See /v1/subjects.")]
AspectCode = Annotated[ShortText, describe("Code of a part of the subject that is judged by itself.")]
"""Fields of the entries of judgements and targets."""

subjects = Table(
    "subjects",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("no", SmallInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("derived", Boolean, nullable=False),
    Column("national_code", Text),
    Column("retired", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("combines", ARRAY(Text)),
    UniqueConstraint("tenant_id", "no"),
    UniqueConstraint("tenant_id", "code"),
    Index("subjects_by_id", "id"),
)

aspects = Table(
    "aspects",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("no", SmallInteger, primary_key=True),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("counted", Boolean, nullable=False, comment="Whether its judgements enter aggregates"),
    Column("id", Uuid),
    Column("national_code", Text),
    Column("retired", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    UniqueConstraint("tenant_id", "code"),
)


def code_of(table: Table, tenant_id: Column[Any], no: Column[Any]) -> LabelOf:
    """Returns the code of a subject, an aspect or a window of a tenant, from its number."""
    return LabelOf(table, ((tenant_id, table.c.tenant_id), (no, table.c.no)), "code")


SUBJECTS = Resource(
    name="subject",
    plural="subjects",
    doc="A subject of a trust, or of a school that has none.",
    source=subjects,
    type_number=SUBJECT,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_tenant(subjects.c.tenant_id),
    is_lookup_table=True,
    fields={
        "id": Field(subjects.c.id, "Stable id."),
        "code": Field(subjects.c.code, "Short code, such as reading; the same in every tenant for statutory subjects."),
        "name": Field(subjects.c.name, "Name."),
        "derived": Field(subjects.c.derived, "Whether it is computed from other subjects and cannot be judged."),
        "combines": Field(subjects.c.combines, "Codes of the subjects that a derived one is the conjunction of, pupil by pupil."),
        "nationalCode": Field(subjects.c.national_code, NATIONAL_CODE),
        "retired": Field(subjects.c.retired, "Whether no new window may collect it."),
        "version": Field(subjects.c.version, "Grows by one with each change."),
    },
)

ASPECTS = Resource(
    name="aspect",
    plural="aspects",
    doc="A part of every subject that is judged by itself, such as effort.",
    source=aspects,
    type_number=ASPECT,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "no"),
    reach=rows_of_tenant(aspects.c.tenant_id),
    is_lookup_table=True,
    fields={
        "id": Field(aspects.c.id, "Stable id.", nullable=False),
        "code": Field(aspects.c.code, "Short code, such as effort."),
        "name": Field(aspects.c.name, "Name."),
        "counted": Field(aspects.c.counted, "Whether its judgements enter aggregates."),
        "nationalCode": Field(aspects.c.national_code, NATIONAL_CODE),
        "retired": Field(aspects.c.retired, "Whether no new window may collect it."),
        "version": Field(aspects.c.version, "Grows by one with each change."),
    },
)
