"""Subjects and aspects of a tenant.

Reading, writing and maths combined (rwm) is a subject too; it is derived and never judged.
"""

from typing import Annotated, Any

from sqlalchemy import ARRAY, Boolean, Column, Index, Integer, SmallInteger, Table, Text, UniqueConstraint, Uuid

from domain.access.reach import rows_of_tenant
from domain.assessment.code_lists import CODES, codes
from domain.assessment.templates import describe_conjunction
from domain.declare.inputs import Text as ShortText
from domain.declare.inputs import describe
from domain.declare.resource import Field, LabelOf, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import ASPECT, SUBJECT
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import COUNT, VERSION, Codes, Vocabulary, declare_form
from domain.roster.text_order import sort_by_text
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
    Column("least_weight", SmallInteger),
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


def codes_of(table: Table, noun: str) -> Codes:
    """Returns the codes of the rows of a table of tenants."""
    return Codes(noun, ((table.c.code, rows_of_tenant(table.c.tenant_id)),))


SUBJECT_CODES, ASPECT_CODES = codes_of(subjects, "subject"), codes_of(aspects, "aspect")
_NATIONAL_CODES = Codes(
    "value",
    (
        (codes.c.national_code, CODES.reach),
        *((table.c.national_code, rows_of_tenant(table.c.tenant_id)) for table in (subjects, aspects)),
    ),
)


def _parse_judged(code: str) -> str:
    if (reason := describe_conjunction(code)) is not None:
        raise ValueError(reason)
    return code


JUDGED = Vocabulary(_parse_judged)
"""Of the subjects of judgements, targets and all that is about them, which no derived subject is."""
NATIONAL_CODE_FORM = declare_form(
    "[A-Z0-9]{1,10}", "A code in the Common Basic Data Set has 1 to 10 letters and digits.", lambda text: text.strip().upper()
)


def code_of(table: Table, tenant_id: Column[Any], no: Column[Any], *implied: tuple[Column[Any], Column[Any]]) -> LabelOf:
    """Returns the code of a subject, an aspect or a window of a tenant, from its number. `implied` are those of LabelOf."""
    on = ((tenant_id, table.c.tenant_id), (no, table.c.no))
    return LabelOf(table, on, "code", codes=codes_of(table, table.name.removesuffix("s")), implied=implied)


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
        "code": Field(
            subjects.c.code,
            "Short code, such as reading; the same in every tenant for statutory subjects.",
            codes=SUBJECT_CODES,
            sort_key=sort_by_text(subjects.c.code),
        ),
        "name": Field(subjects.c.name, "Name.", sort_key=sort_by_text(subjects.c.name), longest=MAX_SHORT_TEXT),
        "derived": Field(subjects.c.derived, "Whether it is computed from other subjects and cannot be judged."),
        "combines": Field(
            subjects.c.combines,
            "Codes of the subjects that a derived one is the conjunction of, pupil by pupil.",
            codes=SUBJECT_CODES,
            vocabulary=JUDGED,
        ),
        "leastWeight": Field(
            subjects.c.least_weight,
            "The weight that the reached parts of a conjunction have together; null: all are needed.",
            vocabulary=COUNT,
        ),
        "nationalCode": Field(subjects.c.national_code, NATIONAL_CODE, vocabulary=NATIONAL_CODE_FORM, codes=_NATIONAL_CODES),
        "retired": Field(subjects.c.retired, "Whether no new window may collect it."),
        "version": Field(subjects.c.version, "Grows by one with each change.", vocabulary=VERSION),
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
        "code": Field(aspects.c.code, "Short code, such as effort.", codes=ASPECT_CODES, sort_key=sort_by_text(aspects.c.code)),
        "name": Field(aspects.c.name, "Name.", sort_key=sort_by_text(aspects.c.name), longest=MAX_SHORT_TEXT),
        "counted": Field(aspects.c.counted, "Whether its judgements enter aggregates."),
        "nationalCode": Field(aspects.c.national_code, NATIONAL_CODE, vocabulary=NATIONAL_CODE_FORM, codes=_NATIONAL_CODES),
        "retired": Field(aspects.c.retired, "Whether no new window may collect it."),
        "version": Field(aspects.c.version, "Grows by one with each change.", vocabulary=VERSION),
    },
)
