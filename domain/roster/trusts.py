"""Academy trusts and the table of dated memberships, from Get Information About Schools (GIAS): a public register that
no tenant owns.
"""

from sqlalchemy import Column, Date, FetchedValue, ForeignKey, Integer, Table, Text, UniqueConstraint, Uuid

from domain.access.reach import has_grant
from domain.declare.predicates import TenantRows
from domain.declare.resource import Field, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import TRUST
from domain.declare.vocabulary import declare_range
from domain.roster import school_numbers
from domain.store.metadata import metadata

trusts = Table(
    "trusts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("group_uid", Integer, nullable=False, unique=True),
    Column("group_id", Text),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("companies_house_number", Text),
    Column("ukprn", Text),
    Column("opened_on", Date),
    Column("closed_on", Date),
    Column("name_key", Text, nullable=False, server_default=FetchedValue()),
)

memberships = Table(
    "memberships",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("trust_id", Uuid, ForeignKey("trusts.id"), nullable=False),
    Column("school_id", Uuid, ForeignKey("schools.id"), nullable=False),
    Column("joined_on", Date),
    Column("left_on", Date),
    UniqueConstraint("school_id", "trust_id", "joined_on", postgresql_nulls_not_distinct=True),
)

TRUSTS = Resource(
    name="trust",
    plural="trusts",
    doc="A multi-academy or single-academy trust of which the caller reaches at least one school, or the trust itself.",
    source=trusts,
    type_number=TRUST,
    scope=Scope.TRUSTS_READ,
    order=("id",),
    reach=TenantRows(lambda scope: has_grant(scope, lambda r: r.tenant_id == trusts.c.id)),
    is_register=True,
    fields={
        "id": Field(trusts.c.id, "Stable id."),
        "groupUid": Field(trusts.c.group_uid, "GIAS group unique identifier.", vocabulary=declare_range(1)),
        "groupId": Field(trusts.c.group_id, "GIAS group id, such as TR02541.", vocabulary=school_numbers.GROUP_ID),
        "name": Field(trusts.c.name, "Name as registered.", sort_key=trusts.c.name_key),
        "kind": Field(trusts.c.kind, "multi-academy or single-academy.", vocabulary=school_numbers.TRUST_KIND),
        "status": Field(trusts.c.status, "open or closed.", vocabulary=school_numbers.TRUST_STATUS),
        "companiesHouseNumber": Field(
            trusts.c.companies_house_number, "Number at Companies House.", vocabulary=school_numbers.COMPANY_NUMBER
        ),
        "ukprn": Field(trusts.c.ukprn, "UK provider reference number.", vocabulary=school_numbers.UKPRN),
        "openedOn": Field(trusts.c.opened_on, "When the trust was opened."),
        "closedOn": Field(trusts.c.closed_on, "When the trust was closed."),
    },
)
