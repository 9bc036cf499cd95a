"""Conjunctions that a trust declares itself, such as English and maths: their parts, the threshold of each, and what a part weighs.

Of the subjects of one part the best counts, such as English language and English literature. All parts are needed, or as many as have
the least weight together. A conjunction is derived pupil by pupil and never judged.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Boolean, Column, SmallInteger, Table, Text, Uuid

from domain.access.reach import rows_of_tenant
from domain.assessment.subjects import JUDGED, SubjectCode, code_of, subjects
from domain.declare.errors import Issue
from domain.declare.inputs import Input, describe
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.vocabulary import COUNT, declare_list
from domain.store.database import Connection, transpose
from domain.store.metadata import metadata
from domain.write.checks import Checks
from domain.write.partial import is_partial, list_readable

Threshold = Literal["expected", "higher"]

conjunction_parts = Table(
    "conjunction_parts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("subject_no", SmallInteger, primary_key=True),
    Column("part_no", SmallInteger, primary_key=True, comment="The number of the subject"),
    Column("slot", SmallInteger, nullable=False, comment="Of the subjects of one slot the best counts"),
    Column("threshold", Text, nullable=False),
    Column("higher_threshold", Text),
    Column("weight", SmallInteger, nullable=False),
    Column("required", Boolean, nullable=False),
)
c = conjunction_parts.c
_THRESHOLD = declare_list("expected", "higher")


class DeclaredPart(Input, kw_only=True):
    """A part of a conjunction."""

    subjects: Annotated[
        Annotated[list[SubjectCode], Meta(min_length=1, max_length=10)],
        describe("Codes of its subjects, of which the best counts."),
    ]
    threshold: Annotated[Threshold, describe("The standard that the part needs for the conjunction to be expected.")] = "expected"
    higher_threshold: Annotated[
        Threshold | None, describe("The standard that it needs for the conjunction to be higher; null: there is no higher one.")
    ] = "higher"
    weight: Annotated[Annotated[int, Meta(ge=1, le=10)], describe("What it weighs, such as 2 of a double award.")] = 1
    required: Annotated[
        bool | UnsetType,
        describe("Whether it is needed whatever the others are: without leastWeight each part is, else none unless said."),
    ] = UNSET


DeclaredParts = Annotated[
    Annotated[list[DeclaredPart], Meta(min_length=1, max_length=20)],
    describe("Of a conjunction: its parts. Aggregates count it pupil by pupil, and it is never judged."),
]
LeastWeight = Annotated[
    Annotated[int, Meta(ge=1, le=200)],
    describe("Of a conjunction: the weight that its reached parts have together; without it, all are needed."),
]

CONJUNCTION_PARTS = Resource(
    name="conjunctionPart",
    plural="conjunctionParts",
    slug="conjunction-parts",
    doc="A subject of a conjunction that a trust or school has declared.",
    source=conjunction_parts,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "subject_no", "part_no"),
    reach=rows_of_tenant(c.tenant_id),
    fields={
        "subjectCode": Field(code_of(subjects, c.tenant_id, c.part_no), "The subject's code.", vocabulary=JUDGED),
        "slot": Field(c.slot, "The part, from 0: of the subjects of one part the best counts.", vocabulary=COUNT),
        "threshold": Field(c.threshold, "The standard that it needs for the conjunction to be expected.", vocabulary=_THRESHOLD),
        "higherThreshold": Field(
            c.higher_threshold,
            "The standard that it needs for the conjunction to be higher; null: there is none.",
            vocabulary=_THRESHOLD,
        ),
        "weight": Field(c.weight, "What the part weighs.", vocabulary=COUNT),
        "required": Field(c.required, "Whether it is needed whatever the others are."),
    },
    links={
        "conjunction": Link(
            "subject",
            ((c.tenant_id, subjects.c.tenant_id), (c.subject_no, subjects.c.no)),
            "The conjunction.",
            reverse="parts",
            reverse_doc="The subjects of a conjunction that was declared here; a common one has only combines.",
            target_in_reach=True,
        )
    },
)

_SUBJECTS = "SELECT code, no, derived FROM subjects WHERE tenant_id = $1 ORDER BY no"
_INSERT = """
INSERT INTO conjunction_parts (tenant_id, subject_no, part_no, slot, threshold, higher_threshold, weight, required)
SELECT $1, s.no, g.* FROM subjects s CROSS JOIN unnest($3::smallint[], $4::smallint[], $5::text[], $6::text[], $7::smallint[], $8::boolean[]) g
WHERE s.tenant_id = $1 AND s.id = $2
"""


async def check_parts(
    connection: Connection, tenant_id: UUID, parts: Sequence[DeclaredPart], least_weight: int | UnsetType, checks: Checks
) -> list[tuple[Any, ...]]:
    """Returns the rows of the parts; adds an issue for everything that is wrong with them."""
    stored = {row["code"]: row for row in await connection.fetch(_SUBJECTS, tenant_id)}
    rows, seen = list[tuple[Any, ...]](), set[str]()
    total = 0
    for i, part in list_readable(parts):
        with checks.attempt():
            for j, code in list_readable(part.subjects):
                at = f"/combines/{i}/subjects/{j}"
                if code not in stored:
                    checks.add(Issue(at, "subject-unknown", "This tenant has no such subject."))
                elif stored[code]["derived"]:
                    checks.add(Issue(at, "subject-derived", "This subject is a conjunction itself."))
                elif code in seen:
                    checks.add(Issue(at, "subject-repeated", "The conjunction has this subject twice."))
                elif not is_partial(part):
                    required = least_weight is UNSET if part.required is UNSET else part.required
                    rows.append((stored[code]["no"], i, part.threshold, part.higher_threshold, part.weight, required))
                seen.add(code)
        with checks.attempt():
            total += part.weight
    if least_weight is not UNSET and least_weight > total:
        checks.add(Issue("/leastWeight", "weight-unreachable", f"All parts together weigh {total}."))
    return rows


async def insert_parts(connection: Connection, tenant_id: UUID, subject_id: UUID, rows: Sequence[tuple[Any, ...]]) -> None:
    await connection.execute(_INSERT, tenant_id, subject_id, *transpose(rows, 6))
