"""Secret links to calendars: who has the link reads when windows open and close, and nothing else.

The secret is 256 random bits, of which the hash alone is stored. A link ends when it is revoked, and with the right of its maker to read windows
there.
"""

from collections.abc import Mapping
from typing import Any, Self
from uuid import UUID

from msgspec import UNSET, UnsetType, structs
from sqlalchemy import Column, DateTime, Index, LargeBinary, Table, Uuid

from domain.access.caller import Caller
from domain.access.reach import CALLER, IN_FORCE, rows_of_tenant
from domain.assessment.calendar import CalendarOf, find_calendar, read_calendar
from domain.declare.errors import Conflict, NotFound
from domain.declare.ids import new_id
from domain.declare.inputs import DryRun, Input, Output
from domain.declare.predicates import TenantRows
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CALENDAR_LINK
from domain.roster.schools import schools
from domain.store.database import Connection, Database
from domain.store.ledger_notes import note
from domain.store.ledger_reapply import Reapplied
from domain.store.metadata import metadata
from domain.support.keys import hash_secret, make_secret
from domain.write.action import Action
from domain.write.command import command
from domain.write.dry_run import is_dry_run

calendar_links = Table(
    "calendar_links",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("school_id", Uuid, comment="Null where the calendar is that of the whole trust"),
    Column("client_id", Uuid, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Index("calendar_links_by_id", "id"),
    Index("calendar_links_by_hash", "sha256"),
)
c = calendar_links.c
_of_tenant = rows_of_tenant(c.tenant_id)

CALENDAR_LINKS = Resource(
    name="calendarLink",
    plural="calendarLinks",
    slug="calendar-links",
    doc="A secret link to a calendar that this client has made. The secret itself is said once, when it is made.",
    source=calendar_links,
    type_number=CALENDAR_LINK,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "id"),
    reach=TenantRows(lambda scope: _of_tenant(scope) & (c.client_id == CALLER)),
    versioned=False,
    fields={
        "id": Field(c.id, "Stable id."),
        "schoolId": Field(c.school_id, "Id of the school whose calendar it is; null where it is that of the trust."),
        "madeAt": Field(c.made_at, "When it was made."),
        "revokedAt": Field(c.revoked_at, "When it was revoked; null while it may be used."),
    },
    links={"school": Link("school", ((c.school_id, schools.c.id),), "The school whose calendar it is.")},
)


class LinkRequest(Input, kw_only=True):
    """Nothing else is needed."""


class CalendarLinkNow(Output, kw_only=True):
    """A secret link: its id, and the path of its URL, which is said here once and by no later answer."""

    id: str
    path: str | UnsetType = UNSET
    revoked: bool
    dry_run: DryRun = UNSET

    def drop_secrets(self) -> Self:
        """Returns the answer as it is stored under an Idempotency-Key."""
        return structs.replace(self, path=UNSET)


_INSERT = "INSERT INTO calendar_links (tenant_id, id, school_id, client_id, sha256) VALUES ($1, $2, $3, $4, $5)"
_OWN = f"""
SELECT l.tenant_id FROM calendar_links l WHERE l.id = $1 AND l.client_id = $2 AND EXISTS (
    SELECT 1 FROM reach r WHERE r.client_id = $2 AND r.tenant_id = l.tenant_id AND {IN_FORCE}
)
"""
_REVOKE = """
UPDATE calendar_links SET revoked_at = clock_timestamp() WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING id
"""


@command(scope=Scope.WINDOWS_READ, at_school=False, fails=(NotFound,))
async def create_trust_calendar_link(connection: Connection, caller: Caller, action: Action[LinkRequest]) -> CalendarLinkNow:
    """Make a secret link to the calendar of a trust, for programs that send no token. It ends when it is revoked or this client's grant ends."""
    return await _make(connection, caller, await find_calendar(connection, caller.client_id, "trust", action.id))


@command(scope=Scope.WINDOWS_READ, fails=(NotFound,))
async def create_school_calendar_link(connection: Connection, caller: Caller, action: Action[LinkRequest]) -> CalendarLinkNow:
    """Make a secret link to the calendar of a school, for programs that send no token. It ends when it is revoked or this client's grant ends."""
    return await _make(connection, caller, await find_calendar(connection, caller.client_id, "school", action.id))


async def _make(connection: Connection, caller: Caller, of: CalendarOf) -> CalendarLinkNow:
    link_id, (secret, digest) = new_id(CALENDAR_LINK), make_secret()
    await connection.execute(_INSERT, of.tenant_id, link_id, of.school_id, caller.client_id, digest)
    path = UNSET if is_dry_run() else f"/v1/calendars/{secret}"
    return CalendarLinkNow(id=str(link_id), path=path, revoked=False)


@command(scope=Scope.WINDOWS_READ, at_school=False, fails=(NotFound, Conflict))
async def revoke_calendar_link(connection: Connection, caller: Caller, action: Action[LinkRequest]) -> CalendarLinkNow:
    """Revoke a secret link that this client has made: it is found no more."""
    tenant_id = await connection.fetchval(_OWN, action.id, caller.client_id)
    if tenant_id is None:
        raise NotFound()
    if await connection.fetchval(_REVOKE, tenant_id, action.id) is None:
        raise Conflict("This link is revoked already.", code="link-revoked")
    note("calendar-link", {"tenant": str(tenant_id), "link": str(action.id)})
    return CalendarLinkNow(id=str(action.id), revoked=True)


async def reapply_calendar_link(connection: Connection, facts: Mapping[str, Any]) -> Reapplied:
    """Revokes a secret link, as an entry of the ledger says."""
    revoked = await connection.fetchval(_REVOKE, UUID(facts["tenant"]), UUID(facts["link"]))
    return Reapplied.NOTHING_TO_DO if revoked is None else Reapplied.DONE


_FIND = "SELECT tenant_id, school_id, client_id FROM find_calendar_link($1)"


async def read_linked_calendar(database: Database, secret: str) -> tuple[CalendarOf, list[Any]]:
    """Returns the calendar that a secret leads to, as its maker reads it. Raises NotFound where it leads to none any more."""
    async with database.without_caller() as connection:
        link = await connection.fetchrow(_FIND, hash_secret(secret))
    if link is None:
        raise NotFound()
    client_id: UUID = link["client_id"]
    if link["school_id"] is not None:
        return await read_calendar(database, client_id, "school", link["school_id"])
    return await read_calendar(database, client_id, "trust", link["tenant_id"])
