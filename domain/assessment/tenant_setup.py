"""Gives a tenant its subjects, aspects and statutory schemes, copied from the templates, and new versions of them when
the templates have changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Column, DateTime, SmallInteger, Table, Text, Uuid

from domain.assessment.templates import Grade, SchemeTemplate, TemplateVersion, find_standards, load_templates
from domain.declare.ids import new_id
from domain.declare.type_numbers import ASPECT, SCHEME, SUBJECT
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

_TENANT = """
INSERT INTO tenants (id, kind) SELECT $1, CASE WHEN EXISTS (SELECT 1 FROM trusts WHERE id = $1) THEN 'trust' ELSE 'school' END
ON CONFLICT DO NOTHING RETURNING id
"""
_SUBJECTS = """
INSERT INTO subjects (tenant_id, id, no, code, name, derived, national_code, combines)
SELECT $1, id, no, code, name, derived, national_code, string_to_array(combines, ',')
FROM unnest($2::uuid[], $3::smallint[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::text[])
    AS g (id, no, code, name, derived, national_code, combines)
"""
_ASPECTS = """
INSERT INTO aspects (tenant_id, id, no, code, name, counted)
SELECT $1, * FROM unnest($2::uuid[], $3::smallint[], $4::text[], $5::text[], $6::boolean[])
"""


async def prepare_tenant(connection: Connection, tenant_id: UUID) -> None:
    """Inserts the tenant with its subjects, aspects and statutory schemes, unless it exists."""
    if await connection.fetchval(_TENANT, tenant_id) is None:
        return
    await connection.execute("SELECT make_identifier_key($1)", tenant_id)
    templates = load_templates()
    prepared = [template for template in templates.subjects if template.prepare]
    subjects = [
        (new_id(SUBJECT), no, s.code, s.name, s.derived, s.national_code, ",".join(s.combines) or None)
        for no, s in enumerate(prepared, 1)
    ]
    await connection.execute(_SUBJECTS, tenant_id, *transpose(subjects, 7))
    aspects = [(new_id(ASPECT), no, a.code, a.name, a.counted) for no, a in enumerate(templates.aspects)]
    await connection.execute(_ASPECTS, tenant_id, *transpose(aspects, 5))
    await write_schemes(connection, tenant_id, [copy_template(template) for template in templates.schemes if template.prepare])


@dataclass
class SchemeRows:
    """A scheme to insert, with its versions from the first on. `template` is the code of the template that it follows."""

    id: UUID
    code: str
    name: str
    versions: list[TemplateVersion]
    template: str | None = None
    derived: bool = False
    school_id: UUID | None = None


def copy_template(template: SchemeTemplate) -> SchemeRows:
    """Returns the rows of a scheme that follows a template."""
    versions = [*template.list_versions()]
    return SchemeRows(new_id(SCHEME), template.code, template.name, versions, template.code, template.derived)


_SCHEMES = """
INSERT INTO schemes (tenant_id, id, code, name, school_id, derived, template)
SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::boolean[], $7::text[])
"""
_VERSIONS = """
INSERT INTO scheme_versions (tenant_id, no, scheme_id, version, years, expected_status, higher_status, rounding)
SELECT $1, n.no + g.n, g.scheme_id, COALESCE(l.version, 0) + row_number() OVER (PARTITION BY g.scheme_id ORDER BY g.n),
    string_to_array(g.years, ',')::smallint[], g.expected_status, g.higher_status, g.rounding
FROM (SELECT COALESCE(max(no), 0) AS no FROM scheme_versions WHERE tenant_id = $1) n
CROSS JOIN unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::smallint[]) WITH ORDINALITY
    AS g (scheme_id, years, expected_status, higher_status, rounding, n)
LEFT JOIN LATERAL (SELECT max(version) AS version FROM scheme_versions v WHERE v.tenant_id = $1 AND v.scheme_id = g.scheme_id) l ON true
RETURNING no, version
"""
_GRADE_TYPES = {
    **{
        "code": "text",
        "label": "text",
        "rank": "smallint",
        "value": "numeric",
        "points": "numeric",
        "year_group": "text",
        "band": "text",
    },
    **{
        "eligible": "boolean",
        "valid": "boolean",
        "expected": "boolean",
        "higher": "boolean",
        "valid_from": "date",
        "valid_to": "date",
    },
}
_GRADES = f"""
INSERT INTO grades (tenant_id, scheme_version_no, no, {", ".join(_GRADE_TYPES)})
SELECT $1, * FROM unnest($2::smallint[], $3::smallint[], {", ".join(f"${i}::{type_}[]" for i, type_ in enumerate(_GRADE_TYPES.values(), 4))})
"""


async def write_schemes(connection: Connection, tenant_id: UUID, schemes: Sequence[SchemeRows]) -> None:
    """Inserts schemes with their versions. Grades are numbered from 1 in their order."""
    rows = [(s.id, s.code, s.name, s.school_id, s.derived, s.template) for s in schemes]
    await connection.execute(_SCHEMES, tenant_id, *transpose(rows, 6))
    await append_versions(connection, tenant_id, [(scheme.id, version) for scheme in schemes for version in scheme.versions])


async def append_versions(connection: Connection, tenant_id: UUID, versions: Sequence[tuple[UUID, TemplateVersion]]) -> list[int]:
    """Appends versions to schemes of a tenant; returns the version of each, counted from 1 in its scheme."""
    rows = [
        (scheme_id, None if v.years is None else ",".join(map(str, v.years)), v.expected, v.higher, v.rounding)
        for scheme_id, v in versions
    ]
    numbers = sorted((r["no"], r["version"]) for r in await connection.fetch(_VERSIONS, tenant_id, *transpose(rows, 5)))
    grades = [
        (no, n, *(getattr(grade, name) for name in _GRADE_TYPES))
        for (no, _), (_, version) in zip(numbers, versions, strict=True)
        for n, grade in enumerate(version.grades, 1)
    ]
    await connection.execute(_GRADES, tenant_id, *transpose(grades, 2 + len(_GRADE_TYPES)))
    return [version for _, version in numbers]


async def write_scheme(
    connection: Connection,
    tenant_id: UUID,
    code: str,
    name: str,
    school_id: UUID | None,
    grades: list[Grade],
    *,
    derived: bool = False,
    rounding: int | None = None,
) -> UUID:
    """Inserts a scheme with its first version; returns the scheme's id."""
    version = TemplateVersion(grades, None, *find_standards(grades), rounding)
    scheme = SchemeRows(new_id(SCHEME), code, name, [version], None, derived, school_id)
    await write_schemes(connection, tenant_id, [scheme])
    return scheme.id
