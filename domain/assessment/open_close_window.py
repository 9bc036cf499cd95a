"""Opens, closes and reopens an assessment window."""

from typing import Any
from uuid import UUID

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.assessment.windows import windows
from domain.declare.errors import Conflict, NotFound
from domain.declare.ids import parse_id
from domain.declare.inputs import Input, Output
from domain.declare.scopes import Scope
from domain.store.database import Connection
from domain.write.aggregates import rebuild
from domain.write.command import command
from domain.write.locks import SchoolLocks


class WindowRef(Input, kw_only=True):
    """A window by its id."""

    id: str


class WindowNow(Output, kw_only=True):
    """A window and the state it is in now."""

    id: str
    code: str
    state: str
    version: int


_PIN = """
INSERT INTO pins (tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no)
SELECT DISTINCT ON (s.id, c.subject_no, c.aspect_no) $1, $2, s.id, c.subject_no, c.aspect_no, v.no
FROM collects c
JOIN schools s ON s.tenant_id = $1 AND c.school_id IN (s.id, $1)
JOIN LATERAL (SELECT no FROM scheme_versions v WHERE v.tenant_id = $1 AND v.scheme_id = c.scheme_id ORDER BY version DESC LIMIT 1) v ON true
WHERE c.tenant_id = $1 AND c.window_no = $2
ORDER BY s.id, c.subject_no, c.aspect_no, c.school_id = s.id DESC
ON CONFLICT DO NOTHING
"""


@command(scope=Scope.WINDOWS_WRITE, fails=(NotFound, Conflict))
async def open_window(connection: Connection, caller: Caller, ref: WindowRef) -> WindowNow:
    """Open a planned window: pin each school's scheme versions and count who is eligible."""
    return await _change_state(connection, caller, ref, ("planned",), "open")


@command(scope=Scope.WINDOWS_WRITE, fails=(NotFound, Conflict))
async def close_window(connection: Connection, caller: Caller, ref: WindowRef) -> WindowNow:
    """Close an open window: from now on it refuses changes, except values recorded before, until acceptUntil."""
    return await _change_state(connection, caller, ref, ("open",), "closed")


@command(scope=Scope.WINDOWS_WRITE, fails=(NotFound, Conflict))
async def reopen_window(connection: Connection, caller: Caller, ref: WindowRef) -> WindowNow:
    """Open a closed window again."""
    return await _change_state(connection, caller, ref, ("closed",), "open")


_FIND = f"SELECT w.tenant_id FROM windows w WHERE w.id = $2 AND {reaches_sql('$1', 'w.tenant_id', 'w.tenant_id', '$3')}"
_ROW = (
    f"SELECT {', '.join(column.name for column in windows.columns)}, frequency_reasons"
    " FROM windows WHERE tenant_id = $1 AND id = $2 FOR UPDATE"
)


async def lock_window(connection: Connection, caller: Caller, window_id: UUID | None) -> tuple[Any, SchoolLocks]:
    """Locks all schools of the window's tenant, and with them every judgement, and the window's row; returns the row
    and the locks.

    Raises NotFound.
    """
    unlocked = await connection.fetchrow(_FIND, caller.client_id, window_id, Scope.WINDOWS_WRITE.value)
    if unlocked is None:
        raise NotFound()
    tenant_id = unlocked["tenant_id"]
    school_ids = [row["id"] for row in await connection.fetch("SELECT id FROM schools WHERE tenant_id = $1 ORDER BY id", tenant_id)]
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock(school_ids, [])
    window = await connection.fetchrow(_ROW, tenant_id, window_id)
    if window is None:
        raise NotFound()
    return window, locks


async def _change_state(connection: Connection, caller: Caller, ref: WindowRef, before: tuple[str, ...], after: str) -> WindowNow:
    window, locks = await lock_window(connection, caller, parse_id(ref.id))
    tenant_id, no, state = window["tenant_id"], window["no"], window["state"]
    if state not in before:
        raise Conflict(
            f"The window is {state}; only a window that is {' or '.join(before)} can become {after}.", code="window-state"
        )
    row = await connection.fetchrow(
        "UPDATE windows SET state = $3, closed_at = CASE $3 WHEN 'closed' THEN clock_timestamp() END, version = version + 1"
        " WHERE tenant_id = $1 AND no = $2 RETURNING id, code, state, version",
        *(tenant_id, no, after),
    )
    if after == "open":
        await connection.execute(_PIN, tenant_id, no)
        await rebuild(locks, [no])
    return describe_window(row)


def describe_window(row: Any) -> WindowNow:
    return WindowNow(id=str(row["id"]), code=row["code"], state=row["state"], version=row["version"])
