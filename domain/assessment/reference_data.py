"""Brings a database up to what this program knows of the sector: code lists, and the templates that tenants follow.

`migrate` runs it after the migrations (migrations/after.py). Run again, it changes nothing.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from domain.assessment.code_lists import codes, list_code_rows
from domain.assessment.horizons import write_horizon_function
from domain.assessment.templates import SchemeTemplate, TemplateVersion, load_templates
from domain.assessment.tenant_setup import append_versions, copy_template, write_schemes
from domain.declare.ids import new_id
from domain.declare.type_numbers import ASPECT
from domain.roster.years import YEARS, parse_year_group
from domain.store.database import Connection, transpose

Report = Callable[[str], None]


async def write_reference_data(connection: Connection, report: Report) -> None:
    """Writes the code lists where they differ, and appends new versions of prepared schemes. Each is a transaction."""
    async with connection.transaction():
        if await _write_codes(connection):
            report("Wrote the code lists.")
    async with connection.transaction():
        await connection.execute(write_horizon_function())
    async with connection.transaction():
        await _add_aspects(connection)
        await _number_aspects(connection)
    async with connection.transaction():
        await _unify_year_groups(connection, report)
    for template in load_templates().schemes:
        if template.prepare:
            count = await _follow_template(connection, template)
            if count:
                report(f"Wrote {template.code} anew for {count} {'tenant' if count == 1 else 'tenants'}.")


_WRITTEN = [column.name for column in codes.columns if column.server_default is None]  # the database fills the others
_NAMES = ", ".join(_WRITTEN)
_READ_CODES = f"SELECT {_NAMES} FROM codes ORDER BY list, no"
_INSERT_CODES = f"INSERT INTO codes ({_NAMES}) VALUES ({', '.join(f'${i}' for i in range(1, len(_WRITTEN) + 1))})"


async def _write_codes(connection: Connection) -> bool:
    """Writes the code lists where they differ from the stored ones; returns whether they did."""
    rows = sorted(list_code_rows(), key=lambda row: row[:2])
    if sorted((tuple(row) for row in await connection.fetch(_READ_CODES)), key=lambda row: row[:2]) == rows:
        return False
    await connection.execute("DELETE FROM codes")
    await connection.executemany(_INSERT_CODES, rows)
    return True


async def _add_aspects(connection: Connection) -> None:
    """Adds the aspects that the templates got since a tenant was prepared. One that it made itself with the same code stays its own."""
    for aspect in load_templates().aspects:
        await connection.execute(
            "INSERT INTO aspects (tenant_id, no, code, name, counted) SELECT t.id, (SELECT max(no) + 1 FROM aspects WHERE tenant_id = t.id), $1, $2, $3"
            " FROM tenants t WHERE NOT EXISTS (SELECT 1 FROM aspects WHERE tenant_id = t.id AND lower(code) = lower($1))"
            " AND EXISTS (SELECT 1 FROM aspects WHERE tenant_id = t.id)",
            *(aspect.code, aspect.name, aspect.counted),
        )


async def _number_aspects(connection: Connection) -> None:
    """Gives ids to aspects that a program wrote which knew of none."""
    rows = await connection.fetch("SELECT tenant_id, no FROM aspects WHERE id IS NULL FOR UPDATE")
    ids = [(row["tenant_id"], row["no"], new_id(ASPECT)) for row in rows]
    if ids:
        await connection.execute(
            "UPDATE aspects a SET id = g.id FROM unnest($1::uuid[], $2::smallint[], $3::uuid[]) AS g (tenant_id, no, id)"
            " WHERE a.tenant_id = g.tenant_id AND a.no = g.no",
            *transpose(ids, 3),
        )


async def _unify_year_groups(connection: Connection, report: Report) -> None:
    """Writes the year groups of grades in their canonical form, by which they are filtered. Older programs stored them as they
    were sent; a text that is no year group stays.
    """
    found = await connection.fetch("SELECT DISTINCT year_group FROM grades WHERE year_group <> ALL ($1)", list(YEARS))
    forms = []
    for row in found:
        with suppress(ValueError):
            forms.append((row["year_group"], parse_year_group(row["year_group"])))
    if forms:
        await connection.execute(
            "UPDATE grades g SET year_group = f.canonical FROM unnest($1::text[], $2::text[]) AS f (sent, canonical)"
            " WHERE g.year_group = f.sent",
            *transpose(forms, 2),
        )
        report(f"Wrote {len(forms)} {'form' if len(forms) == 1 else 'forms'} of year groups of grades as filters look for them.")


_STORED = """
SELECT t.id AS tenant_id, s.id AS scheme_id, s.template, v.no, v.years, v.expected_status, v.higher_status, g.grades
FROM tenants t
LEFT JOIN schemes s ON s.tenant_id = t.id AND s.code = $1
LEFT JOIN scheme_versions v ON v.tenant_id = t.id AND v.scheme_id = s.id
LEFT JOIN LATERAL (
    SELECT array_agg(concat_ws('|', code, label, rank, value::float, points::float, year_group, band, eligible, valid, expected, higher,
        valid_from, valid_to) ORDER BY no) AS grades
    FROM grades WHERE tenant_id = t.id AND scheme_version_no = v.no
) g ON true
ORDER BY t.id, v.no
"""
"""The versions of the scheme with this code in each tenant, with their grades."""
_DESCRIBE = """
SELECT array_agg(concat_ws('|', code, label, rank, value::float, points::float, year_group, band, eligible, valid, expected, higher,
    valid_from, valid_to) ORDER BY no) FROM unnest($1::text[], $2::text[], $3::smallint[], $4::numeric[], $5::numeric[], $6::text[], $7::text[],
    $8::boolean[], $9::boolean[], $10::boolean[], $11::boolean[], $12::date[], $13::date[])
    WITH ORDINALITY AS g (code, label, rank, value, points, year_group, band, eligible, valid, expected, higher, valid_from, valid_to, no)
"""


async def _follow_template(connection: Connection, template: SchemeTemplate) -> int:
    """Inserts the scheme where a tenant lacks it, or appends its versions that are not stored yet; returns in
    how many tenants something was written.

    A tenant's own scheme of the same code stays as it is.
    """
    versions = [*template.list_versions()]
    described = [await _describe(connection, version) for version in versions]
    stored: dict[UUID, list[Any]] = {}
    for row in await connection.fetch(_STORED, template.code):
        stored.setdefault(row["tenant_id"], []).append(row)
    count = 0
    for tenant_id, rows in stored.items():
        if rows[0]["scheme_id"] is None:
            async with connection.transaction():
                await write_schemes(connection, tenant_id, [copy_template(template)])
            count += 1
        elif rows[0]["template"] == template.code:
            known = [(row["years"], row["expected_status"], row["higher_status"], row["grades"]) for row in rows]
            missing = [version for version, facts in zip(versions, described, strict=True) if facts not in known]
            if missing:
                async with connection.transaction():
                    await append_versions(connection, tenant_id, [(rows[0]["scheme_id"], version) for version in missing])
                count += 1
    return count


async def _describe(connection: Connection, version: TemplateVersion) -> tuple[Any, ...]:
    """Returns a version as `_STORED` describes a stored one."""
    grades = [
        (
            *(g.code, g.label, g.rank, g.value, g.points, g.year_group, g.band, g.eligible, g.valid, g.expected, g.higher),
            *(g.valid_from, g.valid_to),
        )
        for g in version.grades
    ]
    return version.years, version.expected, version.higher, await connection.fetchval(_DESCRIBE, *transpose(grades, 13))
