"""Locks a target, so that nothing sent changes it, and unlocks it. Both say why, and stand in its history."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.assessment.record_targets import TARGET_HISTORY
from domain.declare.errors import Conflict, Invalid, Issue, NotFound
from domain.declare.inputs import DryRun, Input, LongText, Output, Text, describe
from domain.declare.scopes import Scope
from domain.store.database import Connection
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable


class TargetLock(Input, kw_only=True):
    """Why a target is locked or unlocked."""

    reason: Annotated[LongText, describe("Why, for whoever reads the history.")]
    actor: Annotated[Text | None, describe("Who decided it, as the sender knows them: a staff code.")] = None


class TargetNow(Output, kw_only=True):
    """A target, and whether it is locked."""

    id: str
    locked: bool
    version: int
    dry_run: DryRun = UNSET


@command(scope=Scope.TARGETS_WRITE, fails=(Invalid, NotFound, Conflict))
async def lock_target(connection: Connection, caller: Caller, action: Action[TargetLock]) -> TargetNow:
    """Lock a target: nothing that is sent changes it until it is unlocked."""
    return await _lock(connection, caller, action, locks=True)


@command(scope=Scope.TARGETS_WRITE, fails=(Invalid, NotFound, Conflict))
async def unlock_target(connection: Connection, caller: Caller, action: Action[TargetLock]) -> TargetNow:
    """Unlock a target, so that it can be changed again."""
    return await _lock(connection, caller, action, locks=False)


_FIND = (
    f"SELECT t.tenant_id, t.school_id, t.locked_at FROM targets t WHERE t.id = $2 AND {reaches_pupil_sql('$1', 't', scope='$3')}"
)
_CHANGE = """
UPDATE targets t SET locked_at = CASE WHEN $3 THEN clock_timestamp() END, lock_reason = $4, locked_by = $5, version = version + 1,
    changed_at = GREATEST(clock_timestamp(), t.received_at, t.changed_at), xid = pg_current_xact_id()
WHERE tenant_id = $1 AND id = $2 RETURNING version
"""


async def _lock(connection: Connection, caller: Caller, action: Action[TargetLock], *, locks: bool) -> TargetNow:
    arguments = (caller.client_id, action.id, Scope.TARGETS_WRITE.value)
    unlocked = await connection.fetchrow(_FIND, *arguments)
    if unlocked is None:
        raise NotFound()
    await SchoolLocks(connection, unlocked["tenant_id"]).lock([unlocked["school_id"]], [])
    stored = await connection.fetchrow(f"{_FIND} FOR UPDATE", *arguments)
    if stored is None:
        raise NotFound()
    checks = Checks()
    with checks.attempt():
        _check_state(stored, locks=locks)
    checks.refuse_if_any()
    require_readable(action.fields)
    tenant_id: UUID = stored["tenant_id"]
    await connection.execute(TARGET_HISTORY, tenant_id, [action.id], await connection.fetchval("SELECT clock_timestamp()"))
    version = await connection.fetchval(_CHANGE, tenant_id, action.id, locks, action.fields.reason, action.fields.actor)
    return TargetNow(id=str(action.id), locked=locks, version=version)


def _check_state(stored: Any, *, locks: bool) -> None:
    if (stored["locked_at"] is not None) == locks:
        message = f"The target is {'locked' if locks else 'not locked'} already."
        raise Conflict(message, code="target-state", issues=(Issue("", "target-state", message),))
