"""Discounts a pupil from the published results of a window, and withdraws a discount."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, UnsetType, structs

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.assessment.open_close_window import lock_window_row
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, make_invalid
from domain.declare.ids import NIL, new_id
from domain.declare.inputs import DryRun, Input, LongText, Output, Text, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import DISCOUNT
from domain.roster.pupil_keys import PupilKey, PupilRow, find_pupils, has_one_key, reject_malformed_keys
from domain.roster.school_refs import SchoolRef, resolve_schools
from domain.store.database import Connection
from domain.write.action import Action
from domain.write.aggregates import adjust_for_discount
from domain.write.batch import Batch
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import Unreadable, copy_fields, make_partial, require_readable


class WindowDiscount(Input, kw_only=True):
    """A pupil to leave out of a window's published results."""

    school: Annotated[
        SchoolRef | UnsetType, describe("The school where the pupil is or was on roll, unless the client reaches one school only.")
    ] = UNSET
    pupil: Annotated[PupilKey, describe("The pupil, by id, UPN or the sender's own reference.")]
    reason: Annotated[LongText, describe("Why the pupil is discounted, as the published results allow it.")]
    author: Annotated[Text, describe("Who decided it, as the sender knows them.")]


class DiscountWithdrawal(Input, kw_only=True):
    """Who withdraws a discount."""

    author: Annotated[Text, describe("Who withdraws it, as the sender knows them.")]


class DiscountNow(Output, kw_only=True):
    """A discount, and whether it is in force."""

    id: str
    in_force: bool
    version: int
    dry_run: DryRun = UNSET


_WRITE = f"""
INSERT INTO discounts (tenant_id, id, window_no, pupil_id, school_id, reason, author, client_id, created_at, recorded_at_school_id)
SELECT $1, $2, $3, p.id, p.school_id, $5, $6, $7, clock_timestamp(), $9 FROM pupils p
WHERE p.tenant_id = $1 AND p.id = $4 AND {reaches_pupil_sql("$7", "p", "id", "$8")}
RETURNING id, version
"""
_WITHDRAW = """
UPDATE discounts SET withdrawn_at = clock_timestamp(), withdrawn_by = $3, withdrawn_at_school_id = school_id, version = version + 1
WHERE tenant_id = $1 AND id = $2 RETURNING version
"""
_IN_FORCE = "SELECT 1 FROM discounts WHERE tenant_id = $1 AND window_no = $2 AND pupil_id = $3 AND withdrawn_at IS NULL"
_FIND = f"""
SELECT w.id AS window_id FROM discounts d JOIN windows w ON w.tenant_id = d.tenant_id AND w.no = d.window_no
WHERE d.id = $2 AND {reaches_pupil_sql("$1", "d", scope="$3")}
"""


@command(scope=Scope.WINDOWS_WRITE, fails=(Invalid, NotFound, Conflict))
async def create_window_discount(connection: Connection, caller: Caller, action: Action[WindowDiscount]) -> DiscountNow:
    """Discount a pupil from a window: published results leave the pupil out, and internal readers see both figures."""
    window, locks = await lock_window_row(connection, caller, action.id)
    checks = Checks()
    with checks.attempt():
        _refuse_locked(window)
    pupil_id = school_id = NIL
    with checks.attempt():
        pupil_id, school_id = await _find_pupil(connection, caller, window["tenant_id"], action.fields)
        if await connection.fetchval(_IN_FORCE, window["tenant_id"], window["no"], pupil_id):
            message = "The pupil is discounted from this window already."
            raise Conflict(message, code="discount-exists", issues=(Issue("/pupil", "discount-exists", message),))
    checks.refuse_if_any()
    require_readable(action.fields)
    discount_id, fields = new_id(DISCOUNT), action.fields
    async with adjust_for_discount(locks, pupil_id, window["no"]):
        row = await connection.fetchrow(
            _WRITE,
            *(window["tenant_id"], discount_id, window["no"], pupil_id, fields.reason, fields.author),
            *(caller.client_id, Scope.WINDOWS_WRITE.value, school_id),
        )
    if row is None:
        message = "The pupil's main school is not within the reach of this client."
        raise make_invalid([Issue("/pupil", "pupil-not-found", message)])
    return DiscountNow(id=str(discount_id), in_force=True, version=row["version"])


@command(scope=Scope.WINDOWS_WRITE, fails=(Invalid, NotFound, Conflict))
async def withdraw_discount(connection: Connection, caller: Caller, action: Action[DiscountWithdrawal]) -> DiscountNow:
    """Withdraw a discount: the pupil counts again. The discount stays readable."""
    window_id = await connection.fetchval(_FIND, caller.client_id, action.id, Scope.WINDOWS_WRITE.value)
    if window_id is None:
        raise NotFound()
    window, locks = await lock_window_row(connection, caller, window_id)
    checks = Checks()
    with checks.attempt():
        _refuse_locked(window)
    stored = await connection.fetchrow(
        "SELECT pupil_id, withdrawn_at FROM discounts WHERE tenant_id = $1 AND id = $2 FOR UPDATE", window["tenant_id"], action.id
    )
    if stored is None:
        raise NotFound()
    with checks.attempt():
        if stored["withdrawn_at"] is not None:
            raise Conflict("This discount is withdrawn already.", code="discount-withdrawn")
    checks.refuse_if_any()
    require_readable(action.fields)
    async with adjust_for_discount(locks, stored["pupil_id"], window["no"]):
        version = await connection.fetchval(_WITHDRAW, window["tenant_id"], action.id, action.fields.author)
    return DiscountNow(id=str(action.id), in_force=False, version=version)


def _refuse_locked(window: Any) -> None:
    """Raises Conflict for a window whose results are final."""
    if window["state"] == "locked":
        raise Conflict("The window is locked; its results no longer change.", code="window-state")


async def _find_pupil(connection: Connection, caller: Caller, tenant_id: UUID, fields: WindowDiscount) -> tuple[UUID, UUID]:
    """Returns the pupil that the input names, and the school. Raises Invalid."""
    batch: Batch[WindowDiscount, PupilRow] = Batch(fields, [], 1, name="pupil")
    pupil = getattr(fields, "pupil", None)
    batch.add_row(0, make_partial(PupilRow, {}) if pupil is None else copy_fields(pupil, PupilRow))
    schools = await resolve_schools(connection, caller, Scope.WINDOWS_WRITE, batch)
    pupil_ids: dict[int, UUID] = {}
    if schools and schools[0].tenant_id != tenant_id:
        batch.reject(0, "", "pupil-not-found", "The school is not of the window's trust.")
    elif not schools:
        reject_malformed_keys(batch, batch.list_all_rows())
    else:
        rows = [(at, row) for at, row in batch.list_all_rows() if has_one_key(row)]
        pupil_ids = await find_pupils(connection, caller, tenant_id, batch, schools, rows)
    if issues := batch.list_issues():
        raise make_invalid([structs.replace(issue, at=issue.at.replace("/pupil/0", "/pupil", 1)) for issue in issues])
    if not pupil_ids:
        raise Unreadable("pupil")
    return pupil_ids[0], schools[0].id
