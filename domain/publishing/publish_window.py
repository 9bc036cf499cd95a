"""Publishes a window: its figures are frozen, protected and then read by whoever has aggregates:read. Withdraws a publication."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller, make_scope_error
from domain.access.reach import reaches_sql
from domain.assessment.publications import KINDS, LEVELS, PROTECTING, PUBLISHED, QUEUED, WITHDRAWN, note_publication_change
from domain.assessment.window_state import state_sql
from domain.declare.errors import Conflict, Forbidden, Invalid, Issue, NotFound
from domain.declare.ids import new_id
from domain.declare.inputs import DryRun, Input, LongText, Output, Text, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import PUBLICATION
from domain.publishing.installed import require_installed
from domain.publishing.same_pupils import find_same_pupils
from domain.store.database import Connection
from domain.store.ledger_notes import note
from domain.store.ledger_reapply import Reapplied
from domain.support import clock
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable

SMALLEST, SMALLEST_STRICT = 6, 11
"""The smallest group that is published: of any figure, and of attainment at the level strict."""
MOST = 1000
"""What these numbers are raised to at most."""
SEED = 1


class Protection(Protocol):
    """The fields of a request that say how a publication is protected."""

    level: Literal["department", "strict"] | UnsetType
    sizes_from: int | UnsetType
    attainment_from: int | UnsetType


class WindowPublication(Input, kw_only=True):
    """How a window is published."""

    kind: Annotated[
        Literal["provisional", "revised", "final"], describe("What readers may expect of it. An open window is provisional.")
    ]
    level: Annotated[
        Literal["department", "strict"] | UnsetType,
        describe(
            "department: figures of groups from 6 pupils on; strict: attainment from 11 pupils and 11 marks on."
            " Without it that of the trust's last publication, at first department. It is never lowered."
        ),
    ] = UNSET
    sizes_from: Annotated[
        Annotated[int, Meta(ge=SMALLEST, le=MOST)] | UnsetType,
        describe("The smallest group whose size is published, where it is more than the level says. It is never lowered."),
    ] = UNSET
    attainment_from: Annotated[
        Annotated[int, Meta(ge=SMALLEST, le=MOST)] | UnsetType,
        describe(
            "The smallest group, by pupils and by marks, whose attainment is published, where it is more than the level says; never lowered."
        ),
    ] = UNSET
    days_after_closing: Annotated[
        Annotated[int, Meta(ge=0, le=365)] | UnsetType,
        describe("So many days after the window has closed; without it at once. The window may be planned or open."),
    ] = UNSET
    reason: Annotated[LongText | UnsetType, describe("Why, for whoever reads its history.")] = UNSET
    actor: Annotated[Text | None, describe("Who decided it, as the sender knows them: a staff code.")] = None


class PublicationWithdrawal(Input, kw_only=True):
    """Why a publication is withdrawn."""

    reason: Annotated[LongText, describe("Why, for whoever reads its history.")]
    actor: Annotated[Text | None, describe("Who decided it, as the sender knows them: a staff code.")] = None


class PublicationNow(Output, kw_only=True):
    """A publication, and what has become of it."""

    id: str
    edition: int
    state: str
    version: int
    dry_run: DryRun = UNSET


WINDOW = f"""
SELECT w.tenant_id, w.no, w.census_on, {state_sql("$3::timestamptz")} AS state, counts_all_schools(w.tenant_id) AS counts_all,
    (SELECT suppression_threshold FROM tenants t WHERE t.id = w.tenant_id) AS threshold
FROM windows w WHERE w.id = $2 AND {reaches_sql("$1", "w.tenant_id", "w.tenant_id", "$4")} FOR KEY SHARE OF w
"""
"""Whoever deletes it meanwhile is waited for, or waits."""
_EDITIONS = """
SELECT p.no, p.kind, p.state, p.published_at, EXISTS (
    SELECT 1 FROM edition_bases b WHERE b.tenant_id = $1 AND b.publication_id = p.id) AS has_basis
FROM publications p WHERE p.tenant_id = $1 AND p.window_no = $2 ORDER BY p.no
"""
LEVEL = """
SELECT max(level) AS level, max(sizes_from) AS sizes_from, max(attainment_from) AS attainment_from FROM publications
WHERE tenant_id = $1 AND (published_at IS NOT NULL OR state = 'queued') HAVING count(*) > 0
"""
"""Of the two levels the stricter one comes last in the alphabet too."""
_INSERT = f"""
INSERT INTO publications (tenant_id, id, window_no, no, kind, level, sizes_from, attainment_from, seed, state, client_id, days_after_closing)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '{QUEUED}', $10, $11)
"""


@command(scope=Scope.PUBLICATIONS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict, Forbidden))
async def publish_window(connection: Connection, caller: Caller, action: Action[WindowPublication]) -> PublicationNow:
    """Publish a window's results: the figures are frozen, protected as one whole, and then read by clients with aggregates:read.

    A row of a later edition in which only a few pupils changed keeps the figures last shown, and says so. It needs
    aggregates:internal at every school of the trust. GET /v1/publications/{id} tells how far it is.
    """
    require_installed()
    arguments = caller.client_id, action.id, clock.read_now(), Scope.PUBLICATIONS_WRITE.value
    window = await connection.fetchrow(WINDOW, *arguments)
    if window is None:
        raise NotFound()
    if not window["counts_all"] or Scope.AGGREGATES_INTERNAL not in caller.scopes:
        raise make_scope_error({"publishing": f"{Scope.AGGREGATES_INTERNAL} at every school of the trust"})
    tenant_id, no = window["tenant_id"], window["no"]
    checks = Checks()
    kind = getattr(action.fields, "kind", None)
    with checks.attempt():
        if getattr(action.fields, "days_after_closing", UNSET) is UNSET:
            _check_window(window, kind)
    with checks.attempt():
        await _check_editions(connection, tenant_id, no, kind)
    stored = await connection.fetchrow(LEVEL, tenant_id)
    with checks.attempt():
        check_protection(stored, action.fields)
    checks.refuse_if_any()
    require_readable(action.fields)
    level, sizes_from, attainment_from = choose_protection(stored, action.fields, window["threshold"])
    SchoolLocks(connection, tenant_id)
    publication_id = new_id(PUBLICATION)
    edition = 1 + (
        await connection.fetchval("SELECT max(no) FROM publications WHERE tenant_id = $1 AND window_no = $2", tenant_id, no) or 0
    )
    values = tenant_id, publication_id, no, edition, action.fields.kind, level, sizes_from, attainment_from, SEED
    days = None if action.fields.days_after_closing is UNSET else action.fields.days_after_closing
    await connection.execute(_INSERT, *values, caller.client_id, days)
    await note_publication_change(connection, tenant_id, publication_id, 1, "requested", caller.client_id, action.fields)
    return PublicationNow(id=str(publication_id), edition=edition, state=QUEUED, version=1)


def check_protection(stored: Any, fields: Protection) -> None:
    """Raises Conflict for a level or a number below that of the trust's last publication."""
    issues = []
    level = getattr(fields, "level", UNSET)
    if stored is not None and level is not UNSET and LEVELS.index(level) < LEVELS.index(stored["level"]):
        message = f"The trust publishes at the level {stored['level']}, which is never lowered."
        issues.append(Issue("/level", "protection-lowered", message))
    for name, at in (("sizes_from", "/sizesFrom"), ("attainment_from", "/attainmentFrom")):
        number = getattr(fields, name, UNSET)
        if stored is not None and isinstance(number, int) and number < stored[name]:
            issues.append(Issue(at, "protection-lowered", f"The trust publishes from {stored[name]} on, which is never lowered."))
    if issues:
        raise Conflict(issues[0].message, code="protection-lowered", issues=tuple(issues))


def choose_protection(stored: Any, fields: Protection, threshold: int) -> tuple[str, int, int]:
    """Returns the level and the smallest numbers: the highest of what is asked for, what the level says and what the trust had before."""
    before: Any = stored or {"level": LEVELS[0], "sizes_from": SMALLEST, "attainment_from": SMALLEST}
    level = before["level"] if fields.level is UNSET else fields.level
    sizes = max(SMALLEST, threshold, before["sizes_from"], 0 if fields.sizes_from is UNSET else fields.sizes_from)
    least = SMALLEST_STRICT if level == "strict" else SMALLEST
    attainment = max(sizes, least, before["attainment_from"], 0 if fields.attainment_from is UNSET else fields.attainment_from)
    return level, sizes, attainment


def refuse_planned(window: Any) -> None:
    """Raises Conflict for a window that has not opened."""
    if window["state"] == "planned":
        raise Conflict("The window is planned: it has no results yet.", code="window-state")


def _check_window(window: Any, kind: str | None) -> None:
    refuse_planned(window)
    if window["state"] == "open" and kind not in (None, "provisional"):
        message = f"The window is open; only a window that is closed or locked can be published as {kind}."
        raise Conflict(message, code="window-state")


async def _check_editions(connection: Connection, tenant_id: UUID, no: int, kind: str | None) -> None:
    """Raises Conflict where what is kept of earlier editions does not allow another one, or another window is about the same pupils."""
    editions = await connection.fetch(_EDITIONS, tenant_id, no)
    if any(row["state"] in (QUEUED, PROTECTING) for row in editions):
        raise Conflict("The window is being published.", code="publication-running")
    shown = [row for row in editions if row["published_at"] is not None]
    if lacking := [row["no"] for row in shown if not row["has_basis"]]:
        message = f"The window has edition {lacking[0]}, of which the frozen figures are no longer kept: what differs from it cannot be protected."
        raise Conflict(message, code="edition-exists")
    read = [row["kind"] for row in shown if row["state"] == PUBLISHED]
    if kind in KINDS and read and KINDS.index(kind) < KINDS.index(read[-1]):
        message = f"The window's last edition is {read[-1]}, which none that is {kind} follows."
        raise Conflict(message, code="edition-kind")
    if (other := await find_same_pupils(connection, tenant_id, no, QUEUED, PROTECTING)) is not None:
        message = f"The window {other} has an edition of the same pupils on the same census day; both together are not protected."
        raise Conflict(message, code="census-day-published")


_FIND = f"""
SELECT p.tenant_id, p.no, p.state, p.version FROM publications p
WHERE p.id = $2 AND {reaches_sql("$1", "p.tenant_id", "p.tenant_id", "$3")} FOR UPDATE OF p
"""
_IS_READ = f"SELECT 1 FROM publications WHERE tenant_id = $1 AND id = $2 AND state <> '{WITHDRAWN}' FOR UPDATE"
_WITHDRAW = f"""
UPDATE publications SET state = '{WITHDRAWN}', withdrawn_at = clock_timestamp(), version = version + 1
WHERE tenant_id = $1 AND id = $2 RETURNING version
"""
_HIDE = "SELECT hide_withdrawn_figures($1, $2)"
"""Later editions of the window that still show its figures show them no more."""


@command(scope=Scope.PUBLICATIONS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict))
async def withdraw_publication(connection: Connection, caller: Caller, action: Action[PublicationWithdrawal]) -> PublicationNow:
    """Withdraw a publication at once: nobody reads its figures any more, nor in later editions. One that is queued is never made."""
    found = await connection.fetchrow(_FIND, caller.client_id, action.id, Scope.PUBLICATIONS_WRITE.value)
    if found is None:
        raise NotFound()
    checks = Checks()
    with checks.attempt():
        if found["state"] not in (PUBLISHED, QUEUED):
            message = f"The publication is {found['state']}; only one that is queued or published can be withdrawn."
            raise Conflict(message, code="publication-state")
    checks.refuse_if_any()
    require_readable(action.fields)
    tenant_id = found["tenant_id"]
    schools = await connection.fetch("SELECT id FROM schools WHERE tenant_id = $1 ORDER BY id", tenant_id)
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock([row["id"] for row in schools], [])
    version = await connection.fetchval(_WITHDRAW, tenant_id, action.id)
    await connection.execute(_HIDE, tenant_id, action.id)
    await note_publication_change(connection, tenant_id, action.id, version, "withdrawn", caller.client_id, action.fields)
    note("publication", {"tenant": str(tenant_id), "publication": str(action.id)})
    return PublicationNow(id=str(action.id), edition=found["no"], state=WITHDRAWN, version=version)


async def reapply_publication(connection: Connection, facts: Mapping[str, Any]) -> Reapplied:
    """Withdraws a publication, as an entry of the ledger says."""
    found = await connection.fetchval(_IS_READ, UUID(facts["tenant"]), UUID(facts["publication"]))
    if found is None:
        return Reapplied.NOTHING_TO_DO
    await connection.fetchval(_WITHDRAW, UUID(facts["tenant"]), UUID(facts["publication"]))
    await connection.execute(_HIDE, UUID(facts["tenant"]), UUID(facts["publication"]))
    return Reapplied.DONE
