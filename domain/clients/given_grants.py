"""The grants that were given for a school or trust by its own clients, as a resource; those of the command line are of the
installation. Of the client that has one, its name is shown and nothing else.
"""

from uuid import UUID

from sqlalchemy import ARRAY, Column, DateTime, MetaData, Table, Text, Uuid

from domain.access.reach import has_grant
from domain.clients.clients import MAX_NAME
from domain.clients.grants import KINDS, TARGETS
from domain.declare.ids import get_type_number, parse_id
from domain.declare.predicates import TenantRows
from domain.declare.resource import Field, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, GRANT, SCHOOL, TRUST
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import Vocabulary, declare_ids, declare_list
from domain.roster.text_order import sort_by_text

STATES = ("in-force", "to-come", "unconfirmed", "expired", "revoked")


def _parse_target_id(value: UUID | str) -> UUID | str:
    parsed = parse_id(value) if isinstance(value, str) else value
    if parsed is None or get_type_number(parsed) not in (SCHOOL, TRUST):
        raise ValueError("It is the id of a school or of a trust.")
    return value


given_grants = Table(
    "given_grants",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("school_id", Uuid, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("client_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("target_id", Uuid),
    Column("target_name", Text),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("kind", Text),
    Column("agreement_version", Text),
    Column("approved_by", Text, nullable=False),
    Column("approved_at", DateTime(timezone=True), nullable=False),
    Column("starts_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("confirm_by", DateTime(timezone=True)),
    Column("given_by", Uuid),
    comment="A view over the grants, which says once more whose the caller may see",
)
g = given_grants.c

GRANTS = Resource(
    name="grant",
    plural="grants",
    versioned=False,
    doc="A grant that was given to a client here: by a client of the trust or school with grants:write, or on the installation by the command line.",
    source=given_grants,
    type_number=GRANT,
    scope=Scope.GRANTS_WRITE,
    order=("tenant_id", "id"),
    # whatever the caller holds elsewhere, each row is tested for this scope where the grant is
    reach=TenantRows(
        lambda _: has_grant(Scope.GRANTS_WRITE, lambda r: (r.tenant_id == g.tenant_id) & (r.school_id == g.school_id))
    ),
    may_be_of_installation=True,
    fields={
        "id": Field(g.id, "Stable id."),
        "state": Field(
            g.state,
            "in-force, to-come, expired, revoked, or unconfirmed: in force until confirmBy, since the client that gave it has ended.",
            vocabulary=declare_list(*STATES),
        ),
        "clientId": Field(g.client_id, "Id of the client that has it.", vocabulary=declare_ids(CLIENT, "client")),
        "clientName": Field(g.client_name, "Its name.", sort_key=sort_by_text(g.client_name), longest=MAX_NAME),
        "target": Field(
            g.target, "On what it is: a trust, a school, or as the command line names it.", vocabulary=declare_list(*TARGETS)
        ),
        "targetId": Field(g.target_id, "Id of the trust or school.", vocabulary=Vocabulary(_parse_target_id)),
        "targetName": Field(
            g.target_name,
            "Name of the trust or school, or a local authority's code.",
            sort_key=sort_by_text(g.target_name),
            longest=MAX_SHORT_TEXT,
        ),
        "scopes": Field(g.scopes, "The scopes that it gives.", vocabulary=declare_list(*(scope.value for scope in Scope))),
        "purpose": Field(g.purpose, "What the data is for.", sort_key=sort_by_text(g.purpose)),
        "kind": Field(g.kind, "What the client does with the data.", vocabulary=declare_list(*KINDS)),
        "agreementVersion": Field(g.agreement_version, "Version of the agreement that it rests on.", longest=MAX_SHORT_TEXT),
        "approvedBy": Field(g.approved_by, "Who approved it.", sort_key=sort_by_text(g.approved_by), longest=MAX_SHORT_TEXT),
        "approvedAt": Field(g.approved_at, "When it was given."),
        "startsAt": Field(g.starts_at, "Since when it is in force."),
        "expiresAt": Field(g.expires_at, "When it expires; null: it does not."),
        "revokedAt": Field(g.revoked_at, "When it was ended, or its client was revoked."),
        "confirmBy": Field(g.confirm_by, "When it ends, since its giver has ended, unless it is confirmed; null: it need not be."),
        "givenBy": Field(
            g.given_by, "Id of the client that gave it; null for the command line.", vocabulary=declare_ids(CLIENT, "client")
        ),
    },
)
