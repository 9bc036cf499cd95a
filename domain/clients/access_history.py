"""The history of grants and of clients: who gave, narrowed, extended, ended and confirmed a grant, who made, rotated and revoked a client, and when.

Triggers write it (migration 0084), so that the API, the command line and the ledger write it alike. A grant that expires by itself leaves no row: nobody
did it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Column, DateTime, Integer, MetaData, Table, Text, Uuid

from domain.access.client_names import find_client_name
from domain.access.reach import has_grant
from domain.clients.given_grants import given_grants
from domain.clients.own_clients import own_clients
from domain.declare.errors import NotFound
from domain.declare.predicates import TenantRows
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, GRANT
from domain.declare.vocabulary import VERSION, declare_ids, declare_list
from domain.roster.text_order import sort_by_text
from domain.store.database import Connection

grant_history = Table(
    "grant_history",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("school_id", Uuid, nullable=False),
    Column("grant_id", Uuid, nullable=False),
    Column("no", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("confirm_by", DateTime(timezone=True)),
    Column("changed_by", Uuid),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    comment="A view, which says once more whose the caller may see",
)
client_history = Table(
    "client_history",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("no", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("changed_by", Uuid),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    comment="A view, which says once more whose the caller may see",
)
g, c = grant_history.c, client_history.c


def _say_who(changed_by: Any) -> dict[str, Field]:
    """Returns the fields of who made a change."""
    name = find_client_name(changed_by)
    return {
        "client": Field(name, "Name of the client that made it; null for the command line.", sort_key=sort_by_text(name)),
        "clientId": Field(changed_by, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")),
    }


GRANT_CHANGES = Resource(
    name="grantChange",
    plural="grantChanges",
    slug="grant-changes",
    versioned=False,
    doc="A change of a grant that somebody made: when, by which client, and what the grant has had since.",
    source=grant_history,
    scope=Scope.GRANTS_WRITE,
    order=("tenant_id", "grant_id", "no"),
    reach=TenantRows(
        lambda _: has_grant(Scope.GRANTS_WRITE, lambda r: (r.tenant_id == g.tenant_id) & (r.school_id == g.school_id))
    ),
    may_be_of_installation=True,
    fields={
        "grantId": Field(g.grant_id, "The grant.", vocabulary=declare_ids(GRANT, "grant")),
        "no": Field(g.no, "1 for the first change of the grant, 2 for the next.", vocabulary=VERSION),
        "outcome": Field(
            g.outcome,
            "given, narrowed, extended, ended, unconfirmed (its giver has ended), confirmed; or recorded, as it was when the history began.",
            vocabulary=declare_list("given", "narrowed", "extended", "ended", "unconfirmed", "confirmed", "recorded"),
        ),
        "changedAt": Field(g.changed_at, "When it was made."),
        "scopes": Field(g.scopes, "The scopes since then.", vocabulary=declare_list(*(scope.value for scope in Scope))),
        "expiresAt": Field(g.expires_at, "When it expires since then; null: it does not."),
        "confirmBy": Field(g.confirm_by, "Until when it must be confirmed since then; null: it need not be."),
        **_say_who(g.changed_by),
    },
    links={
        "grant": Link(
            "grant",
            ((g.tenant_id, given_grants.c.tenant_id), (g.grant_id, given_grants.c.id)),
            "The grant.",
            reverse="history",
            reverse_doc="Who gave, narrowed, extended, ended and confirmed it, the first of them first.",
            nullable=False,
            target_in_reach=True,
        ),
    },
)

CLIENT_CHANGES = Resource(
    name="clientChange",
    plural="clientChanges",
    slug="client-changes",
    versioned=False,
    doc="A change of a client that somebody made: when, and by which client.",
    source=client_history,
    scope=Scope.CLIENTS_WRITE,
    order=("tenant_id", "client_id", "no"),
    reach=TenantRows(
        lambda _: has_grant(Scope.CLIENTS_WRITE, lambda r: (r.tenant_id == c.tenant_id) & (r.school_id == c.tenant_id))
    ),
    may_be_of_installation=True,
    fields={
        "changedClientId": Field(c.client_id, "The client that was changed.", vocabulary=declare_ids(CLIENT, "client")),
        "no": Field(c.no, "1 for the first change of the client, 2 for the next.", vocabulary=VERSION),
        "outcome": Field(
            c.outcome,
            "made, secret-rotated, keys-changed, origins-changed, revoked; or recorded, as it was when the history began.",
            vocabulary=declare_list("made", "secret-rotated", "keys-changed", "origins-changed", "revoked", "recorded"),
        ),
        "changedAt": Field(c.changed_at, "When it was made."),
        **_say_who(c.changed_by),
    },
    links={
        "changed": Link(
            "client",
            ((c.tenant_id, own_clients.c.tenant_id), (c.client_id, own_clients.c.id)),
            "The client that was changed.",
            reverse="history",
            reverse_doc="Who made it, rotated its secret, changed its keys and origins and revoked it, the first of them first.",
            nullable=False,
            target_in_reach=True,
        ),
    },
)


@dataclass(frozen=True)
class Change:
    """A change of a grant or client, for the command line. `client` is the name of the client that made it, None for the command line. `scopes`
    and `expires_at` are what a grant has had since."""

    outcome: str
    changed_at: datetime
    client: str | None
    scopes: list[str] | None = None
    expires_at: datetime | None = None


_CHANGES = """
SELECT h.outcome, h.changed_at, COALESCE(c.display_name, h.changed_by::text) AS client{more}
FROM {table} h LEFT JOIN clients c ON c.id = h.changed_by WHERE h.{key} = $1 ORDER BY h.no
"""


async def list_grant_changes(connection: Connection, grant_id: UUID) -> list[Change]:
    """Returns the changes of a grant, the first of them first. Raises NotFound."""
    query = _CHANGES.format(table="grant_changes", key="grant_id", more=", h.scopes, h.expires_at")
    rows = await connection.fetch(query, grant_id)
    if not rows:
        raise NotFound
    return [Change(**row) for row in rows]


async def list_client_changes(connection: Connection, client_id: UUID) -> list[Change]:
    """Returns the changes of a client, the first of them first."""
    rows = await connection.fetch(_CHANGES.format(table="client_changes", key="client_id", more=""), client_id)
    return [Change(**row) for row in rows]
