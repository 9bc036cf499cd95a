"""Releases a former UPN of a pupil, which was recorded in error, so that its owner can have it.

The pupil's own current UPN is not released: a correction replaces it, and it is then a former one.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Forbidden, Invalid, Issue, NotFound, PupilMerged, make_invalid
from domain.declare.inputs import DryRun, Input, Output, describe
from domain.declare.scopes import Scope
from domain.roster import upn as upn_rules
from domain.roster.merged_pupils import make_not_found
from domain.roster.record_pupils.changes import note_released_upns, touch_pupils
from domain.roster.upn import UpnText
from domain.store.database import Connection
from domain.write.action import Action
from domain.write.command import command
from domain.write.locks import SchoolLocks


class UpnRelease(Input, kw_only=True):
    """The UPN that was recorded in error."""

    upn: Annotated[UpnText, describe("A former UPN of the pupil.")]


class UpnReleased(Output, kw_only=True):
    """What became of the UPN (released or, where it was before, unchanged), and the pupil's version now."""

    id: str
    outcome: Literal["released", "unchanged"]
    version: int
    dry_run: DryRun = UNSET

    @property
    def has_written(self) -> bool:
        return self.outcome == "released"


_FIND = f"""
SELECT p.tenant_id, p.school_id, p.version, {reaches_sql("$1", "p.tenant_id", "p.school_id", "$4")} AS reaches_upn
FROM pupils p WHERE p.id = $2 AND {reaches_sql("$1", "p.tenant_id", "p.school_id", "$3")}
"""
_NUMBER = """
SELECT (SELECT u.current FROM upns u WHERE u.tenant_id = $1 AND u.pupil_id = $2 AND u.upn = $3) AS is_current, EXISTS (
    SELECT 1 FROM identity_history h WHERE h.tenant_id = $1 AND h.pupil_id = $2 AND h.upn = $3 AND h.kind = 'upn released'
) AS is_released
"""


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, PupilMerged, Forbidden))
async def release_pupil_upn(connection: Connection, caller: Caller, action: Action[UpnRelease]) -> UpnReleased:
    """Release a former UPN of a pupil, which was recorded in error. It then is nobody's, and goes to the next pupil who comes with it.

    It needs pupils:write and pupils:upn at the pupil's main school. Released twice, it is unchanged.
    """
    caller.require_scope(Scope.PUPILS_UPN, release_pupil_upn.operation)
    pupil = await _find_pupil(connection, caller, action)
    if pupil is None:
        raise await make_not_found(connection, caller, action.id, Scope.PUPILS_WRITE)
    locks = SchoolLocks(connection, pupil["tenant_id"])
    await locks.lock([pupil["school_id"]], [action.id])
    pupil = await _find_pupil(connection, caller, action)
    if pupil is None:
        raise await make_not_found(connection, caller, action.id, Scope.PUPILS_WRITE)
    key = (pupil["tenant_id"], action.id)
    upn = _read_upn(action.fields.upn)
    number = await connection.fetchrow(_NUMBER, *key, upn)
    assert number is not None
    if number["is_current"] is None and number["is_released"]:
        return UpnReleased(id=str(action.id), outcome="unchanged", version=pupil["version"])
    if number["is_current"] is not False:
        message = "The pupil has this UPN now. Correct it first; it is a former one then."
        raise _refuse("upn-not-former", message if number["is_current"] else "The pupil has no such former UPN.")
    await connection.execute("SELECT release_upns($1, $2, $3, $4)", key[0], [upn], [action.id], caller.client_id)
    note_released_upns(key[0], caller.client_id, [(upn, action.id)])
    await touch_pupils(connection, key[0], [action.id])
    return UpnReleased(id=str(action.id), outcome="released", version=pupil["version"] + 1)


async def _find_pupil(connection: Connection, caller: Caller, action: Action[UpnRelease]) -> Any:
    """Returns the pupil, or None out of reach; raises Forbidden where the caller may write but not see the UPN."""
    scopes = (Scope.PUPILS_WRITE.value, Scope.PUPILS_UPN.value)
    pupil = await connection.fetchrow(_FIND, caller.client_id, action.id, *scopes)
    if pupil is not None and not pupil["reaches_upn"]:
        operation = release_pupil_upn.operation
        message = f"{operation} needs {Scope.PUPILS_UPN} at the pupil's main school."
        raise Forbidden(message, issues=(Issue(operation, "scope-missing", message),))
    return pupil


def _read_upn(text: str) -> str:
    """Returns the UPN in canonical form. Raises Invalid."""
    try:
        return upn_rules.parse_upn(text).text
    except ValueError as problem:
        raise _refuse("upn-invalid", str(problem)) from problem


def _refuse(code: str, message: str) -> Invalid:
    return make_invalid([Issue("/upn", code, message)])
