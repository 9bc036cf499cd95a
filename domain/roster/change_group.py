"""Changes or deletes one group. Its members change by record_groups."""

from typing import Any

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, Stale
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.roster.groups import Code, Kind, groups
from domain.store.database import Connection
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable
from domain.write.patch import Changed, Patch, PatchInput, Removal


class GroupChange(PatchInput, kw_only=True):
    """The fields of a group that may change. POST /v1/groups changes its members."""

    name: ShortText | UnsetType = UNSET
    code: Code | UnsetType = UNSET
    kind: Kind | UnsetType = UNSET


_READ = (
    f"SELECT {', '.join(f'g.{column.name}' for column in groups.columns)} FROM groups g"
    f" WHERE g.id = $2 AND {reaches_sql('$1', 'g.tenant_id', 'g.school_id', '$3')}"
)
_CHANGE = """
UPDATE groups SET name = $3, code = $4, kind = $5, version = version + 1, changed_at = clock_timestamp(), xid = pg_current_xact_id()
WHERE tenant_id = $1 AND id = $2
"""
_USED = "SELECT 1 FROM group_members WHERE tenant_id = $1 AND group_id = $2"
_TAKEN = "SELECT 1 FROM groups WHERE tenant_id = $1 AND school_id = $2 AND academic_year = $3 AND code = $4 AND id <> $5"


@command(scope=Scope.GROUPS_WRITE, fails=(Invalid, NotFound, Conflict, Stale))
async def update_group(connection: Connection, caller: Caller, patch: Patch[GroupChange]) -> Changed:
    """Change a group's name, code or kind."""
    stored = await lock_group(connection, caller, patch)
    checks, merged = Checks(), patch.merge_over(stored)
    with checks.attempt():
        patch.check_version(stored["version"])
    key = (stored["tenant_id"], stored["school_id"], stored["academic_year"])
    with checks.attempt():
        code = patch.fields.code
        if code not in (UNSET, stored["code"]) and await connection.fetchval(_TAKEN, *key, code, patch.id):
            message = "A group of this school and year has this code."
            raise Conflict(message, code="group-exists", issues=(Issue("/code", "group-exists", message),))
    checks.refuse_if_any()
    require_readable(patch.fields)
    if all(stored[name] == value for name, value in merged.items()):
        return patch.make_result("unchanged", stored["version"])
    await connection.execute(_CHANGE, stored["tenant_id"], patch.id, merged["name"], merged["code"], merged["kind"])
    return patch.make_result("updated", stored["version"] + 1)


@command(scope=Scope.GROUPS_WRITE, fails=(NotFound, Conflict, Stale))
async def delete_group(connection: Connection, caller: Caller, patch: Patch[Removal]) -> Changed:
    """Delete a group that nobody is or was in."""
    stored = await lock_group(connection, caller, patch)
    checks = Checks()
    with checks.attempt():
        patch.check_version(stored["version"])
    with checks.attempt():
        if await connection.fetchval(_USED, stored["tenant_id"], patch.id):
            raise Conflict("Somebody is or was in this group; end their memberships instead.", code="group-in-use")
    checks.refuse_if_any()
    await connection.execute("DELETE FROM groups WHERE tenant_id = $1 AND id = $2", stored["tenant_id"], patch.id)
    return patch.make_result("deleted", stored["version"])


async def lock_group(connection: Connection, caller: Caller, patch: Patch[Any]) -> Any:
    """Locks the group's school and its row; returns the row. Raises NotFound."""
    arguments = (caller.client_id, patch.id, Scope.GROUPS_WRITE.value)
    unlocked = await connection.fetchrow(_READ, *arguments)
    if unlocked is None:
        raise NotFound()
    locks = SchoolLocks(connection, unlocked["tenant_id"])
    await locks.lock([unlocked["school_id"]], [])
    stored = await connection.fetchrow(f"{_READ} FOR UPDATE", *arguments)
    if stored is None:
        raise NotFound()
    return stored
