"""Gives a new tenant its subjects, aspects and statutory schemes, copied from templates.json.

The templates are data of the sector: codes and thresholds change by editing the file and adding a scheme version.
"""

import json
from decimal import Decimal
from functools import cache
from pathlib import Path
from uuid import UUID

from msgspec import Struct, convert, field
from sqlalchemy import Column, DateTime, SmallInteger, Table, Text, Uuid

from domain.declare.ids import new_id
from domain.declare.type_numbers import SCHEME, SUBJECT
from domain.store.database import Connection, transpose
from domain.store.metadata import metadata

tenants = Table(
    "tenants",
    metadata,
    Column("id", Uuid, primary_key=True, comment="The id of a trust, or of a school that has none"),
    Column("kind", Text, nullable=False),
    Column("prepared_at", DateTime(timezone=True), nullable=False),
    Column("workload_budget", SmallInteger, nullable=False),
    Column("suppression_threshold", SmallInteger, nullable=False),
)


class Grade(Struct, rename="camel"):
    """A grade of a scheme. `rank` orders it, `value` counts in averages; `eligible` keeps the pupil in the denominator,
    `valid` is a counting value.
    """

    code: str
    label: str
    rank: int | None = None
    value: Decimal | None = None
    points: Decimal | None = None
    year_group: str | None = None
    band: str | None = None
    eligible: bool = True
    valid: bool = True
    expected: bool = False
    higher: bool = False


class ScoreRange(Struct, rename="camel"):
    """Whole scores from and to (inclusive), each a grade of its own."""

    from_: int
    to: int
    expected_from: int | None = None
    higher_from: int | None = None

    def list_grades(self) -> list[Grade]:
        def has_reached(score: int, threshold: int | None) -> bool:
            return threshold is not None and score >= threshold

        return [
            Grade(
                str(n), str(n), n, Decimal(n), expected=has_reached(n, self.expected_from), higher=has_reached(n, self.higher_from)
            )
            for n in range(self.from_, self.to + 1)
        ]


class SchemeTemplate(Struct, rename="camel"):
    """A scheme to copy. Every tenant starts with those that have `prepare`."""

    code: str
    name: str
    source: str
    grades: list[Grade]
    range: ScoreRange | None = None
    prepare: bool = False
    derived: bool = False

    def list_grades(self) -> list[Grade]:
        return (self.range.list_grades() if self.range else []) + self.grades


class CodeTemplate(Struct):
    """A subject or an aspect."""

    code: str
    name: str
    derived: bool = False
    counted: bool = False


class TenantTemplates(Struct):
    subjects: list[CodeTemplate]
    aspects: list[CodeTemplate]
    schemes: list[SchemeTemplate] = field(default_factory=list)

    def find_scheme(self, code: str) -> SchemeTemplate | None:
        return next((template for template in self.schemes if template.code == code), None)


@cache
def load_templates() -> TenantTemplates:
    return convert(json.loads((Path(__file__).parent / "templates.json").read_text()), TenantTemplates)


_TENANT = """
INSERT INTO tenants (id, kind) SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM trusts WHERE id = $1) THEN 'trust' ELSE 'school' END
ON CONFLICT DO NOTHING RETURNING id
"""


async def prepare_tenant(connection: Connection, tenant_id: UUID) -> None:
    """Inserts the tenant with its subjects, aspects and statutory schemes, unless it exists."""
    if await connection.fetchval(_TENANT, tenant_id) is None:
        return
    templates = load_templates()
    subjects = [(new_id(SUBJECT), no, s.code, s.name, s.derived) for no, s in enumerate(templates.subjects, 1)]
    await connection.execute(
        "INSERT INTO subjects (tenant_id, id, no, code, name, derived)"
        " SELECT $1, * FROM unnest($2::uuid[], $3::smallint[], $4::text[], $5::text[], $6::boolean[])",
        *(tenant_id, *transpose(subjects, len(subjects[0]))),
    )
    aspects = [(no, a.code, a.name, a.counted) for no, a in enumerate(templates.aspects)]
    await connection.execute(
        "INSERT INTO aspects (tenant_id, no, code, name, counted) SELECT $1, * FROM unnest($2::smallint[], $3::text[], $4::text[], $5::boolean[])",
        *(tenant_id, *transpose(aspects, len(aspects[0]))),
    )
    for template in templates.schemes:
        if template.prepare:
            await write_scheme(
                connection, tenant_id, template.code, template.name, None, template.list_grades(), derived=template.derived
            )


_GRADE_NAMES = ("code", "label", "rank", "value", "points", "year_group", "band", "eligible", "valid", "expected", "higher")
_GRADE_TYPES = ("text", "text", "smallint", "numeric", "numeric", "text", "text", "boolean", "boolean", "boolean", "boolean")


async def write_scheme(
    connection: Connection,
    tenant_id: UUID,
    code: str,
    name: str,
    school_id: UUID | None,
    grades: list[Grade],
    *,
    derived: bool = False,
) -> UUID:
    """Inserts a scheme with its first version; returns the scheme's id. Grades are numbered from 1 in this order."""
    scheme_id = new_id(SCHEME)
    await connection.execute(
        "INSERT INTO schemes (tenant_id, id, code, name, school_id, derived) VALUES ($1, $2, $3, $4, $5, $6)",
        *(tenant_id, scheme_id, code, name, school_id, derived),
    )
    version_no = await connection.fetchval(
        "INSERT INTO scheme_versions (tenant_id, no, scheme_id, version)"
        " SELECT $1, COALESCE(max(no), 0) + 1, $2, 1 FROM scheme_versions WHERE tenant_id = $1 RETURNING no",
        *(tenant_id, scheme_id),
    )
    rows = [(no, *(getattr(grade, column) for column in _GRADE_NAMES)) for no, grade in enumerate(grades, 1)]
    arrays = ", ".join(f"${i}::{type_}[]" for i, type_ in enumerate(("smallint", *_GRADE_TYPES), 3))
    await connection.execute(
        f"INSERT INTO grades (tenant_id, scheme_version_no, no, {', '.join(_GRADE_NAMES)}) SELECT $1, $2, * FROM unnest({arrays})",
        *(tenant_id, version_no, *transpose(rows, len(rows[0]))),
    )
    return scheme_id
