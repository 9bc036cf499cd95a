"""Changes a school's own settings. Everything else about a school comes from GIAS."""

from typing import Annotated, ClassVar
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.declare.errors import Invalid, Issue, NotFound, Stale, make_invalid
from domain.declare.inputs import Text as ShortText
from domain.declare.inputs import describe
from domain.declare.scopes import Scope
from domain.roster.roll_year import correct_roll_year, read_roll_year
from domain.roster.school_refs import SchoolInReach, SchoolRef, find_schools
from domain.roster.schools import DEFAULT_SETTINGS
from domain.roster.years import AcademicYearText, parse_academic_year
from domain.store.database import Connection
from domain.support import clock
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable
from domain.write.patch import Changed, Patch, PatchInput


class SchoolChange(PatchInput, kw_only=True):
    """A school's own settings."""

    unknown: ClassVar[str] = "{fields} can be changed here; every other field of a school comes from the register (GIAS)."

    short_name: ShortText | UnsetType | None = UNSET
    max_leavers_percent: Annotated[int, Meta(ge=0, le=100)] | UnsetType = UNSET
    source_client: Annotated[
        ShortText | UnsetType | None,
        describe(
            "Id or name of the client that alone writes names, year groups, enrolments and characteristics from now on; null: any that may."
            " It must have the scope pupils:write at the school, and cannot be the caller."
        ),
    ] = UNSET
    roll_year: Annotated[
        AcademicYearText | UnsetType | None,
        describe(
            "Academic year of the newest roll, where a roll was sent with a wrong day: rolls of this year and later are taken again."
            " Null where there has been none."
        ),
    ] = UNSET


_SETTINGS = (
    "SELECT short_name, max_leavers_percent, source_client_id, version FROM school_settings WHERE tenant_id = $1 AND school_id = $2"
)
_SAVE = """
INSERT INTO school_settings (tenant_id, school_id, version, short_name, max_leavers_percent, source_client_id) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, school_id) DO UPDATE SET version = excluded.version, short_name = excluded.short_name,
    max_leavers_percent = excluded.max_leavers_percent, source_client_id = excluded.source_client_id
"""
_RESOLVE = """
DELETE FROM data_issues WHERE tenant_id = $1 AND school_id = $2 AND kind = 'not-source' AND client_id = COALESCE($3, client_id)
"""


@command(scope=Scope.SCHOOLS_WRITE, fails=(Invalid, NotFound, Stale))
async def update_school(connection: Connection, caller: Caller, patch: Patch[SchoolChange]) -> Changed:
    """Change a school's own settings. Everything else about a school comes from the register."""
    (school,) = await find_schools(connection, caller, Scope.SCHOOLS_WRITE, [SchoolRef(id=str(patch.id))])
    if school is None:
        raise NotFound()
    locks = SchoolLocks(connection, school.tenant_id)
    await locks.lock([school.id], [])
    row = await connection.fetchrow(_SETTINGS, school.tenant_id, school.id)
    stored = DEFAULT_SETTINGS if row is None else dict(row)
    version = stored["version"]
    checks = Checks()
    with checks.attempt():
        patch.check_version(version)
    stored = stored | {"roll_year": await read_roll_year(connection, school.tenant_id, school.id)}
    settings = patch.merge_over(stored | {"source_client": None})
    with checks.attempt():
        if patch.fields.roll_year is not UNSET:
            settings["roll_year"] = _parse_roll_year(patch.fields.roll_year)
    with checks.attempt():
        settings["source_client_id"] = await _find_source(connection, caller, school, patch, stored["source_client_id"])
    checks.refuse_if_any()
    require_readable(patch.fields)
    del settings["source_client"]
    if all(stored[name] == value for name, value in settings.items()):
        return patch.make_result("unchanged", version)
    source_id = settings["source_client_id"]
    values = (version + 1, settings["short_name"], settings["max_leavers_percent"], source_id)
    await connection.execute(_SAVE, school.tenant_id, school.id, *values)
    if source_id != stored["source_client_id"]:
        await connection.execute(_RESOLVE, school.tenant_id, school.id, source_id)
    if settings["roll_year"] != stored["roll_year"]:
        await correct_roll_year(connection, school.tenant_id, school.id, settings["roll_year"])
    return patch.make_result("updated", version + 1)


async def _find_source(
    connection: Connection, caller: Caller, school: SchoolInReach, patch: Patch[SchoolChange], stored_id: UUID | None
) -> UUID | None:
    """Returns the id of the source from now on. Raises Invalid.

    No client names itself, since it would then decide that nobody else is heard.
    """
    named = patch.fields.source_client
    if named is UNSET or named is None:
        return stored_id if named is UNSET else None
    source_id: UUID | None = await connection.fetchval("SELECT find_source_client($1, $2, $3)", school.tenant_id, school.id, named)
    if source_id == caller.client_id:
        message = "A client cannot name itself as the source. Another client of the school names it."
        raise make_invalid([Issue("/sourceClient", "source-is-caller", message)])
    if source_id is None:
        message = "No client with this id or name has the scope pupils:write at the school."
        raise make_invalid([Issue("/sourceClient", "client-unknown", message)])
    return source_id


def _parse_roll_year(text: str | None) -> int | None:
    """Returns the calendar year in which the academic year starts; raises Invalid unless it has begun."""
    if text is None:
        return None
    try:
        year = parse_academic_year(text)
    except ValueError as problem:
        raise make_invalid([Issue("/rollYear", "academic-year-invalid", str(problem))]) from problem
    if year > clock.find_start_year(clock.read_today()):
        raise make_invalid([Issue("/rollYear", "academic-year-invalid", "No roll can be of a year that has not begun.")])
    return year
