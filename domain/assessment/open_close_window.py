"""Opens and closes an assessment window before its time, reopens it, locks it for good and unlocks it."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.assessment.pin_schemes import pin_schemes
from domain.assessment.seasons import season_sql
from domain.assessment.statutory_windows import check_reasons
from domain.assessment.stopped_collections import AWAITING, describe_held
from domain.assessment.window_changes import note_change
from domain.assessment.window_state import state_sql
from domain.assessment.windows import windows
from domain.declare.errors import Conflict, Invalid, Issue, NotFound
from domain.declare.ids import parse_id
from domain.declare.inputs import DryRun, Input, Instant, LongText, Output, Text, describe
from domain.declare.scopes import Scope
from domain.store.database import Connection
from domain.support import clock
from domain.write.action import Action
from domain.write.aggregates import rebuild
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable


class WindowRef(Input, kw_only=True):
    """A window by its id."""

    id: str


class WindowOpening(Input, kw_only=True):
    """Why a window is opened that collects what was decided to stop. Any other window needs no reason."""

    reason: Annotated[
        LongText | UnsetType, describe("Why it is opened, for whoever reads its history. Needed where it collects what is to stop.")
    ] = UNSET
    actor: Annotated[Text | None, describe("Who decided it, as the sender knows them: a staff code.")] = None


class WindowReopening(Input, kw_only=True):
    """How long a window is open again."""

    closes_at: Annotated[
        Instant | UnsetType, describe("When it closes now; needed once closesAt has passed. An earlier acceptUntil moves there.")
    ] = UNSET
    reason: Annotated[LongText | UnsetType, describe("Why it is reopened, for whoever reads its history.")] = UNSET
    actor: Annotated[Text | None, describe("Who decided it, as the sender knows them: a staff code.")] = None


class WindowLock(Input, kw_only=True):
    """Why a window is locked or unlocked."""

    reason: Annotated[LongText, describe("Why, for whoever reads its history.")]
    actor: Annotated[Text | None, describe("Who decided it, as the sender knows them: a staff code.")] = None


class WindowNow(Output, kw_only=True):
    """A window and the state it is in now."""

    id: str
    code: str
    state: str
    version: int
    dry_run: DryRun = UNSET


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict))
async def open_window(connection: Connection, caller: Caller, action: Action[WindowOpening]) -> WindowNow:
    """Open a planned window before its opensAt, which becomes now. One that collects what was decided to stop needs a reason."""
    window, locks = await lock_window_row(connection, caller, action.id)
    checks, reason = Checks(), getattr(action.fields, "reason", UNSET)
    with checks.attempt():
        _check_state(window, "planned", "open")
        if window["stored_state"] == AWAITING and reason is UNSET:
            message = f"{await describe_held(connection, window)} It opens only with a reason."
            raise Conflict(message, code="collection-stopped", issues=(Issue("/reason", "collection-stopped", message),))
    checks.add(*check_reasons({"reason": reason}, ("reason",)))
    checks.refuse_if_any()
    require_readable(action.fields)
    row: Any = await connection.fetchrow(_OPEN, window["tenant_id"], window["no"], window["now"])
    await note_change(connection, window, row["version"], "opened", caller.client_id, action.fields)
    await pin_schemes(locks, window["no"])
    await rebuild(locks, [window["no"]])
    return describe_window(row)


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(NotFound, Conflict))
async def close_window(connection: Connection, caller: Caller, ref: WindowRef) -> WindowNow:
    """Close an open window before its closesAt. It then refuses changes, except values recorded before, until acceptUntil."""
    window, _ = await lock_window_row(connection, caller, parse_id(ref.id))
    _check_state(window, "open", "closed")
    row: Any = await connection.fetchrow(_CLOSE, window["tenant_id"], window["no"], window["now"])
    await note_change(connection, window, row["version"], "closed", caller.client_id)
    return describe_window(row)


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict))
async def reopen_window(connection: Connection, caller: Caller, action: Action[WindowReopening]) -> WindowNow:
    """Open a closed window again, until its closesAt or a new one."""
    window, locks = await lock_window_row(connection, caller, action.id)
    checks, closes_at = Checks(), window["closes_at"]
    with checks.attempt():
        _check_state(window, "closed", "open")
    with checks.attempt():
        is_new = action.fields.closes_at is not UNSET
        closes_at = closes_at if action.fields.closes_at is UNSET else action.fields.closes_at
        if closes_at <= window["now"] and (is_new or window["state"] == "closed"):
            message = "closesAt lies in the past." if is_new else "closesAt has passed: say when the window closes now."
            checks.add(Issue("/closesAt", "closes-in-past", message))
    checks.refuse_if_any()
    require_readable(action.fields)
    row: Any = await connection.fetchrow(_REOPEN, window["tenant_id"], window["no"], closes_at)
    await note_change(connection, window, row["version"], "reopened", caller.client_id, action.fields)
    await pin_schemes(locks, window["no"])
    await rebuild(locks, [window["no"]])
    return describe_window(row)


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict))
async def lock_window(connection: Connection, caller: Caller, action: Action[WindowLock]) -> WindowNow:
    """Lock a closed window: nothing of it changes any more, by merges and splits neither, until it is unlocked."""
    return await _settle(connection, caller, action, "closed", "locked")


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict))
async def unlock_window(connection: Connection, caller: Caller, action: Action[WindowLock]) -> WindowNow:
    """Unlock a window: it is closed again, and may be reopened."""
    return await _settle(connection, caller, action, "locked", "closed")


async def _settle(connection: Connection, caller: Caller, action: Action[WindowLock], needed: str, after: str) -> WindowNow:
    window, _ = await lock_window_row(connection, caller, action.id)
    checks = Checks()
    with checks.attempt():
        _check_state(window, needed, after)
    checks.refuse_if_any()
    require_readable(action.fields)
    row: Any = await connection.fetchrow(_SETTLE, window["tenant_id"], window["no"], after)
    outcome = "locked" if after == "locked" else "unlocked"
    await note_change(connection, window, row["version"], outcome, caller.client_id, action.fields)
    return describe_window(row)


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(NotFound, Conflict))
async def repin_window(connection: Connection, caller: Caller, ref: WindowRef) -> WindowNow:
    """Judge a planned or open window in the newest versions of its schemes. What is stored keeps its grades: each must
    be in the newest version too."""
    window, locks = await lock_window_row(connection, caller, parse_id(ref.id))
    if window["state"] not in ("planned", "open"):
        raise Conflict(f"The window is {window['state']}; only a planned or open window can be pinned anew.", code="window-state")
    rows = await connection.fetch("SELECT * FROM repin_window($1, $2)", window["tenant_id"], window["no"])
    missing = sorted({row["code"] for row in rows if not row["repinned"]})
    if missing:
        message = f"The newest versions of the schemes lack grades that are stored in this window: {', '.join(missing)}."
        raise Conflict(message, code="grade-missing", issues=(Issue("", "grade-missing", message),))
    if not rows:
        return describe_window(window)
    row: Any = await connection.fetchrow(_TOUCH, window["tenant_id"], window["no"], window["now"])
    await rebuild(locks, [window["no"]])
    return describe_window(row)


def _check_state(window: Any, needed: str, after: str) -> None:
    """Raises Conflict unless the window is in the state needed."""
    if window["state"] != needed:
        hint = " Reopen it, with a new closesAt." if (window["state"], after) == ("closed", "open") else ""
        message = f"The window is {window['state']}; only a window that is {needed} can become {after}.{hint}"
        raise Conflict(message, code="window-state")


_WINDOW_NOW = "id, code, state, version"
_TOUCH = f"""
UPDATE windows w SET version = version + 1 WHERE tenant_id = $1 AND no = $2 RETURNING id, code, version, {state_sql("$3::timestamptz")} AS state
"""
_OPEN = f"""
UPDATE windows SET state = 'open', opens_at = $3, version = version + 1 WHERE tenant_id = $1 AND no = $2 RETURNING {_WINDOW_NOW}
"""
_CLOSE = f"""
UPDATE windows SET state = 'closed', closed_at = $3, version = version + 1 WHERE tenant_id = $1 AND no = $2 RETURNING {_WINDOW_NOW}
"""
_SETTLE = f"""
UPDATE windows SET state = $3, closed_at = COALESCE(closed_at, closes_at), version = version + 1
WHERE tenant_id = $1 AND no = $2 RETURNING {_WINDOW_NOW}
"""
_REOPEN = f"""
UPDATE windows SET state = 'open', closed_at = NULL, closes_at = $3, accept_until = GREATEST(accept_until, $3), version = version + 1
WHERE tenant_id = $1 AND no = $2 RETURNING {_WINDOW_NOW}
"""


_FIND = f"SELECT w.tenant_id FROM windows w WHERE w.id = $2 AND {reaches_sql('$1', 'w.tenant_id', 'w.tenant_id', '$3')}"
_STORED_COLUMNS = ", ".join(f"w.{column.name}" for column in windows.columns if column.name != "state")
_ROW = f"""
SELECT {_STORED_COLUMNS}, w.frequency_reasons, w.state AS stored_state, {season_sql("w")} AS season_now, {state_sql("$3")} AS state, $3::timestamptz AS now
FROM windows w WHERE w.tenant_id = $1 AND w.id = $2 FOR UPDATE
"""


async def lock_all_schools(connection: Connection, tenant_id: UUID) -> SchoolLocks:
    """Locks every school of a tenant."""
    school_ids = [row["id"] for row in await connection.fetch("SELECT id FROM schools WHERE tenant_id = $1 ORDER BY id", tenant_id)]
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock(school_ids, [])
    return locks


async def lock_window_row(connection: Connection, caller: Caller, window_id: UUID | None) -> tuple[Any, SchoolLocks]:
    """Locks all schools of the window's tenant, and with them every judgement, and the window's row; returns the row
    with its state at `now`, which is read after the locks, and the locks.

    Raises NotFound.
    """
    unlocked = await connection.fetchrow(_FIND, caller.client_id, window_id, Scope.WINDOWS_WRITE.value)
    if unlocked is None:
        raise NotFound()
    tenant_id = unlocked["tenant_id"]
    locks = await lock_all_schools(connection, tenant_id)
    window = await connection.fetchrow(_ROW, tenant_id, window_id, clock.read_now())
    if window is None:
        raise NotFound()
    return window, locks


def describe_window(row: Any) -> WindowNow:
    return WindowNow(id=str(row["id"]), code=row["code"], state=row["state"], version=row["version"])
