"""The clients of a tenant, or of the installation, as a resource: those that the caller's clients:write is about.

Secrets are no part of it: they are shown once, where they are made.
"""

from sqlalchemy import ARRAY, Column, DateTime, MetaData, Table, Text, Uuid

from domain.access.reach import has_grant
from domain.clients.clients import MAX_NAME
from domain.declare.predicates import TenantRows
from domain.declare.resource import Field, Filter, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT
from domain.declare.vocabulary import declare_ids, declare_list
from domain.roster.text_order import sort_by_text

own_clients = Table(
    "own_clients",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("auth_method", Text, nullable=False),
    Column("origins", ARRAY(Text), nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Column("made_by", Uuid),
    comment="A view over the clients, which says once more whose the caller may see",
)
c = own_clients.c

CLIENTS = Resource(
    name="client",
    plural="clients",
    versioned=False,
    doc="A client of the trust, of the school that has none, or of the installation: it was made there, and is listed, rotated and revoked there alone.",
    source=own_clients,
    type_number=CLIENT,
    scope=Scope.CLIENTS_WRITE,
    order=("tenant_id", "id"),
    # whatever the caller holds elsewhere, each row is tested for this scope, over the tenant as a whole
    reach=TenantRows(
        lambda _: has_grant(Scope.CLIENTS_WRITE, lambda r: (r.tenant_id == c.tenant_id) & (r.school_id == c.tenant_id))
    ),
    may_be_of_installation=True,
    fields={
        "id": Field(c.id, "Stable id, which is also the client_id of OAuth. Whoever gives it a grant names it."),
        "name": Field(
            c.name,
            "Name, unique among the clients of the tenant that are not revoked.",
            sort_key=sort_by_text(c.name),
            longest=MAX_NAME,
        ),
        "authMethod": Field(c.auth_method, "How it authenticates.", vocabulary=declare_list("client_secret", "private_key_jwt")),
        "origins": Field(c.origins, "Origins of its browser apps, such as https://app.example.", filter=Filter.NOWHERE),
        "createdAt": Field(c.created_at, "When it was made."),
        "revokedAt": Field(c.revoked_at, "When it was revoked: since then it gets no token and reaches nothing."),
        "madeBy": Field(
            c.made_by, "Id of the client that made it; null for the command line.", vocabulary=declare_ids(CLIENT, "client")
        ),
    },
)
