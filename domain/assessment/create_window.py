"""Creates an assessment window, which is planned until its opensAt."""

from contextlib import suppress
from dataclasses import fields
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from domain.access.caller import Caller
from domain.assessment.new_window import NewWindow
from domain.assessment.open_close_window import WindowNow, describe_window, lock_all_schools
from domain.assessment.pin_schemes import pin_schemes
from domain.assessment.seasons import find_season
from domain.assessment.statutory_windows import (
    check_against_template,
    check_predicted,
    check_reasons,
    check_season,
    fill_from_template,
    inherit_reasons,
    require_unused,
    switch_on_subjects,
)
from domain.assessment.stopped_collections import refuse_stopped
from domain.assessment.templates import describe_conjunction, describe_unknown_code
from domain.assessment.tenant_setup import prepare_tenant
from domain.assessment.window_state import state_sql
from domain.assessment.window_templates import WindowTemplate
from domain.assessment.window_terms import WindowTerms, check_window_terms
from domain.assessment.workload_budget import Workload, check_workload_budget
from domain.declare.errors import Conflict, Invalid, Issue
from domain.declare.ids import new_id, parse_id
from domain.declare.scopes import Scope
from domain.declare.type_numbers import WINDOW
from domain.roster.school_refs import find_schools, make_school_issue
from domain.roster.tenant_ref import find_named_tenant
from domain.store.database import Connection, transpose
from domain.support import clock
from domain.support.suggestions import Suggestions
from domain.write.aggregates import rebuild
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import UNREADABLE, Unreadable, is_partial, list_readable, require_readable


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, Conflict))
async def create_window(connection: Connection, caller: Caller, window: NewWindow) -> WindowNow:
    """Plan a window for a trust or school: pin each school's scheme versions and count who is eligible. It accepts nothing before it opens."""
    checks = Checks()
    template = fill_from_template(window, checks)
    tenant_id = await find_named_tenant(connection, caller, Scope.WINDOWS_WRITE, window, checks)
    await prepare_tenant(connection, tenant_id)
    locks = await lock_all_schools(connection, tenant_id)
    year, year_groups, season = await _check_terms(connection, tenant_id, window, template, checks)
    if template is not None and year is not None:
        await switch_on_subjects(connection, tenant_id, template, year)
        checks.add(*check_against_template(window, template, year))
    lines = await resolve_collected(connection, caller, tenant_id, window, checks)
    checks.add(*check_predicted(list_readable(getattr(window, "collects", None) or []), year_groups))
    with checks.attempt():
        if await connection.fetchval("SELECT 1 FROM windows WHERE tenant_id = $1 AND code = $2", tenant_id, window.code):
            message = "A window with this code exists."
            raise Conflict(message, code="window-exists", issues=(Issue("/code", "window-exists", message),))
    with checks.attempt():
        if template is not None and year is not None:
            await require_unused(connection, tenant_id, template, year, lines)
    with checks.attempt():
        if template is None and season is not None:
            await refuse_stopped(connection, tenant_id, season, lines, "/collects")
        if template is None and window.frequency_reasons is None and year is not None and season is not None:
            workload = Workload(tenant_id, year, season, year_groups, [line[:3] for line in lines])
            await check_workload_budget(connection, workload, "/frequencyReasons")
    checks.refuse_if_any()
    require_readable(window)
    row = await _insert(connection, tenant_id, window, template, (year, season, year_groups))
    await connection.execute(
        "INSERT INTO collects (tenant_id, window_no, subject_no, aspect_no, school_id, scheme_id)"
        " SELECT $1, $2, * FROM unnest($3::smallint[], $4::smallint[], $5::uuid[], $6::uuid[])",
        *(tenant_id, row["no"], *transpose(lines, 4)),
    )
    await pin_schemes(locks, row["no"])
    await rebuild(locks, [row["no"]])
    return describe_window(row)


async def _check_terms(
    connection: Connection, tenant_id: UUID, window: NewWindow, template: WindowTemplate | None, checks: Checks
) -> tuple[int | None, list[str], str | None]:
    """Returns the calendar year in which the academic year starts, the canonical year groups and the season, where they can be read."""
    season: str | None = None
    with suppress(Unreadable):
        census_on = window.census_on
        if census_on is not UNSET:
            season = find_season(census_on) if window.season is UNSET else window.season
            checks.add(*check_season(season, census_on))
    if season is not None:
        await inherit_reasons(connection, tenant_id, window, template, season)
    values = {name: getattr(window, name, UNREADABLE) for name in window.__struct_fields__}
    missing = [name for name in _NEEDED if values[name] is UNSET]
    checks.add(*(Issue(f"/{_PUBLIC[name]}", "required", f"{_PUBLIC[name]} is required.") for name in missing))
    year, year_groups, issues = check_window_terms(copy_terms(window))
    checks.add(*issues, *await _check_own_facts(connection, window, year), *check_reasons(values))
    return year, year_groups, season


_NEEDED = ("name", "census_on", "purpose", "decision", "year_groups", "collects")
"""Fields that a window needs, whether the request, the template or the newest window of the kind says them."""
_PUBLIC = dict(zip(NewWindow.__struct_fields__, NewWindow.__struct_encode_fields__, strict=True))


async def _insert(
    connection: Connection, tenant_id: UUID, window: NewWindow, template: WindowTemplate | None, terms: tuple[Any, ...]
) -> Any:
    """Inserts the row of a window; `terms` are its year, season and year groups."""
    year, season, year_groups = terms
    reasons = None if window.frequency_reasons is None else msgspec.json.encode(window.frequency_reasons).decode()
    audience = None if window.audience is UNSET else window.audience
    row = await connection.fetchrow(
        _INSERT,
        *(tenant_id, new_id(WINDOW), window.code, window.name, year, window.census_on, window.opens_at, window.closes_at),
        *(window.accept_until, template is not None, window.purpose, window.decision, reasons, year_groups, clock.read_now()),
        *(None if template is None else template.code, season, audience, None if template is None else template.source),
    )
    assert row is not None
    return row


def copy_terms(window: NewWindow) -> WindowTerms:
    """Returns the terms of a window, as far as they can be read."""
    values = {item.name: getattr(window, item.name, UNREADABLE) for item in fields(WindowTerms)}
    return WindowTerms(**{name: UNREADABLE if value is UNSET else value for name, value in values.items()})


async def _check_own_facts(connection: Connection, window: NewWindow, year: int | None) -> list[Issue]:
    """Returns what is wrong with the code and the academic year, whatever the tenant."""
    issues = []
    if year is not None and not await connection.fetchval("SELECT 1 FROM academic_years WHERE year = $1", year):
        message = "This academic year is not prepared; the operator's `migrate` adds years."
        issues.append(Issue("/academicYear", "academic-year-not-prepared", message))
    if parse_id(getattr(window, "code", "")) is not None:
        issues.append(Issue("/code", "wrong-value", "A code is no id: URLs take either."))
    return issues


_INSERT = f"""
INSERT INTO windows AS w (tenant_id, id, no, code, name, academic_year, census_on, opens_at, closes_at, accept_until, statutory, purpose, decision,
    frequency_reasons, year_groups, template, season, audience, source)
SELECT $1, $2, COALESCE(max(no), 0) + 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb, $14, $16, $17, $18, $19 FROM windows WHERE tenant_id = $1
RETURNING id, no, code, {state_sql("$15::timestamptz")} AS state, version
"""
CollectedLine = tuple[int, int, UUID, UUID]
"""The numbers of a subject and an aspect, a school (or the tenant) and a scheme."""


_SUBJECTS = "SELECT code, no, derived, retired FROM subjects WHERE tenant_id = $1 ORDER BY no"
_ASPECTS = "SELECT code, no, false AS derived, retired FROM aspects WHERE tenant_id = $1 ORDER BY no"
_SCHEMES = "SELECT code, id, derived, retired, school_id FROM schemes WHERE tenant_id = $1 ORDER BY code"


async def resolve_collected(
    connection: Connection, caller: Caller, tenant_id: UUID, window: NewWindow, checks: Checks
) -> list[CollectedLine]:
    """Returns the lines of a window, and adds an issue for everything that cannot be resolved.

    The school of a line is the tenant where the line is for all schools that have no line of their own.
    """
    subjects = {row["code"]: row for row in await connection.fetch(_SUBJECTS, tenant_id)}
    aspects = {row["code"]: row for row in await connection.fetch(_ASPECTS, tenant_id)}
    schemes = {row["code"]: row for row in await connection.fetch(_SCHEMES, tenant_id)}
    lines = list_readable(getattr(window, "collects", None) or [])
    schools_of = {i: list_readable(getattr(line, "schools", None) or []) for i, line in lines}
    refs = [ref for pairs in schools_of.values() for _, ref in pairs if not is_partial(ref)]
    schools = iter(await find_schools(connection, caller, Scope.WINDOWS_WRITE, refs))
    schemes_of_lines: dict[tuple[int, int, UUID], UUID] = {}
    suggestions = Suggestions()
    for i, line in lines:
        pointer, issues = f"/collects/{i}", list[Issue]()
        for name, rows in (("subject", subjects), ("scheme", schemes), ("aspect", aspects)):
            code = getattr(line, name, None)
            if code is not None and (code not in rows or rows[code]["retired"]):
                usable = [other for other, row in rows.items() if not row["retired"] and not row["derived"]]
                unknown, message = describe_unknown_code(name, code, usable, suggestions)
                issues.append(
                    Issue(f"{pointer}/{name}", unknown, f"This {name} is retired. {message}" if code in rows else message)
                )
            elif code is not None and rows[code]["derived"]:
                reason = describe_conjunction(code) if name == "subject" else None
                reason = reason or f"This {name} is computed from others and cannot be collected."
                issues.append(Issue(f"{pointer}/{name}", f"{name}-derived", reason))
        school_ids: list[UUID] = [] if schools_of[i] else [tenant_id]
        for j, school in zip([j for j, ref in schools_of[i] if not is_partial(ref)], schools, strict=False):
            if school is None or school.tenant_id != tenant_id:
                issues.append(make_school_issue(f"{pointer}/schools/{j}", Scope.WINDOWS_WRITE))
            else:
                school_ids.append(school.id)
        owner = schemes[line.scheme]["school_id"] if getattr(line, "scheme", None) in schemes else None
        if owner is not None and school_ids != [owner]:
            message = "This scheme is one school's own: a line for that school alone may name it."
            issues.append(Issue(f"{pointer}/scheme", "scheme-of-school", message))
        checks.add(*issues)
        if issues or is_partial(line):
            continue
        for school_id in school_ids:
            key = (subjects[line.subject]["no"], aspects[line.aspect]["no"], school_id)
            if key in schemes_of_lines:
                message = "This subject and aspect is collected twice for the same school."
                checks.add(Issue(pointer, "collected-twice", message))
            schemes_of_lines[key] = schemes[line.scheme]["id"]
    return [(*key, scheme_id) for key, scheme_id in schemes_of_lines.items()]
