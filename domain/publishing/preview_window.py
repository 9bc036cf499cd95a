"""Asks for the preview of a publication: what an edition of the window would hide, and why."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller, make_scope_error
from domain.assessment.publications import QUEUED
from domain.declare.errors import Conflict, Forbidden, Invalid, NotFound
from domain.declare.inputs import DryRun, Input, Output, describe
from domain.declare.scopes import Scope
from domain.publishing.installed import require_installed
from domain.publishing.publish_window import (
    LEVEL,
    MOST,
    SEED,
    SMALLEST,
    WINDOW,
    check_protection,
    choose_protection,
    refuse_planned,
)
from domain.store.database import Connection
from domain.support import clock
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable


class PreviewRequest(Input, kw_only=True):
    """How the window would be published."""

    level: Annotated[
        Literal["department", "strict"] | UnsetType, describe("As of a publication; without it that of the trust's last one.")
    ] = UNSET
    sizes_from: Annotated[
        Annotated[int, Meta(ge=SMALLEST, le=MOST)] | UnsetType, describe("The smallest group whose size is published.")
    ] = UNSET
    attainment_from: Annotated[
        Annotated[int, Meta(ge=SMALLEST, le=MOST)] | UnsetType,
        describe("The smallest group, by pupils and by marks, whose attainment is published."),
    ] = UNSET


class PreviewNow(Output, kw_only=True):
    """A preview that was asked for."""

    id: Annotated[str, describe("The window's id, by which the preview is read.")]
    state: str
    dry_run: DryRun = UNSET


_INSERT = f"""
INSERT INTO publication_previews (tenant_id, id, window_no, level, sizes_from, attainment_from, seed, state, client_id)
VALUES ($1, gen_random_uuid(), $2, $3, $4, $5, $6, '{QUEUED}', $7)
"""


@command(
    scope=Scope.AGGREGATES_INTERNAL, path="publication-preview", at_school=False, fails=(Invalid, NotFound, Conflict, Forbidden)
)
async def preview_window(connection: Connection, caller: Caller, action: Action[PreviewRequest]) -> PreviewNow:
    """Find out what an edition of a window would hide and why. Nothing is published; the window's last preview is replaced.

    It needs aggregates:internal at every school of the trust. GET of the same URL tells how far it is, and the result.
    """
    require_installed()
    window = await connection.fetchrow(WINDOW, caller.client_id, action.id, clock.read_now(), Scope.AGGREGATES_INTERNAL.value)
    if window is None:
        raise NotFound()
    if not window["counts_all"]:
        raise make_scope_error({"preview": f"{Scope.AGGREGATES_INTERNAL} at every school of the trust"})
    tenant_id, no = window["tenant_id"], window["no"]
    stored = await connection.fetchrow(LEVEL, tenant_id)
    checks = Checks()
    with checks.attempt():
        refuse_planned(window)
    with checks.attempt():
        check_protection(stored, action.fields)
    checks.refuse_if_any()
    require_readable(action.fields)
    SchoolLocks(connection, tenant_id)
    await connection.execute("DELETE FROM publication_previews WHERE tenant_id = $1 AND window_no = $2", tenant_id, no)
    values = choose_protection(stored, action.fields, window["threshold"])
    await connection.execute(_INSERT, tenant_id, no, *values, SEED, caller.client_id)
    return PreviewNow(id=str(action.id), state=QUEUED)
