"""Changes a school's own settings. Everything else about a school comes from GIAS."""

from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.declare.errors import Invalid, NotFound, Stale
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.roster.school_refs import SchoolRef, find_schools
from domain.roster.schools import DEFAULT_SETTINGS
from domain.store.database import Connection
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.patch import Changed, Patch, PatchInput


class SchoolChange(PatchInput, kw_only=True):
    """A school's own settings."""

    unknown: ClassVar[str] = "{fields} can be changed here; every other field of a school comes from the register (GIAS)."

    short_name: ShortText | UnsetType | None = UNSET
    max_leavers_percent: Annotated[int, Meta(ge=0, le=100)] | UnsetType = UNSET


_SETTINGS = "SELECT short_name, max_leavers_percent, version FROM school_settings WHERE tenant_id = $1 AND school_id = $2"
_SAVE = """
INSERT INTO school_settings (tenant_id, school_id, version, short_name, max_leavers_percent) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, school_id) DO UPDATE
SET version = excluded.version, short_name = excluded.short_name, max_leavers_percent = excluded.max_leavers_percent
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
    patch.check_version(version)
    settings = patch.merge_over(stored)
    if all(stored[name] == value for name, value in settings.items()):
        return patch.make_result("unchanged", version)
    await connection.execute(
        _SAVE, school.tenant_id, school.id, version + 1, settings["short_name"], settings["max_leavers_percent"]
    )
    return patch.make_result("updated", version + 1)
