"""How a request names a tenant: a trust by its id or GIAS group UID, or a school that has no trust."""

from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import IN_FORCE, reaches_sql
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import parse_id
from domain.declare.inputs import RuledInput
from domain.declare.scopes import Scope
from domain.roster.school_refs import SchoolRef, find_school
from domain.store.database import Connection
from domain.write.checks import Checks


def _check_one_name(ref: Any) -> str | None:
    return "Name the trust by exactly one of id and groupUid" if (ref.id is UNSET) == (ref.group_uid is UNSET) else None


class TrustRef(RuledInput, kw_only=True):
    """A trust, by exactly one of its names."""

    rules = (_check_one_name,)

    id: str | UnsetType = UNSET
    group_uid: str | int | UnsetType = UNSET


def check_one_tenant(ref: Any) -> str | None:
    return "Name exactly one of trust and school" if (ref.trust is UNSET) == (ref.school is UNSET) else None


class TenantRef(RuledInput, kw_only=True):
    """Whoever controls the data: a trust, or a school that has none."""

    rules = (check_one_tenant,)

    trust: TrustRef | UnsetType = UNSET
    school: SchoolRef | UnsetType = UNSET


_FIND_TRUST = f"""
SELECT t.id FROM trusts t WHERE (t.id = $2 OR t.group_uid = $3) AND {reaches_sql("$1", "t.id", "t.id", "$4")}
"""


async def find_tenant(connection: Connection, caller: Caller, scope: Scope, ref: TenantRef, pointer: str) -> UUID:
    """Returns the tenant's id; raises Invalid with this JSON pointer unless the caller holds the scope over the whole
    tenant.
    """
    if ref.trust is not UNSET:
        uid = str(ref.trust.group_uid) if ref.trust.group_uid is not UNSET else ""
        trust_id = parse_id(ref.trust.id) if ref.trust.id is not UNSET else None
        group_uid = int(uid) if uid.isascii() and uid.isdigit() and len(uid) < 9 else None
        tenant_id = await connection.fetchval(_FIND_TRUST, caller.client_id, trust_id, group_uid, scope.value)
        if tenant_id is None:
            raise make_invalid(
                [Issue(f"{pointer}/trust", "trust-not-found", f"There is no such trust over which this client holds {scope}.")]
            )
        return UUID(str(tenant_id))
    assert ref.school is not UNSET
    school = await find_school(connection, caller, scope, ref.school, f"{pointer}/school")
    if school.tenant_id != school.id:
        raise make_invalid(
            [Issue(f"{pointer}/school", "school-not-a-tenant", "A trust controls this school's data; name the trust.")]
        )
    return school.id


_TENANTS = f"""
SELECT DISTINCT r.tenant_id FROM reach r WHERE r.client_id = $1 AND $2 = ANY (r.scopes) AND r.school_id = r.tenant_id AND {IN_FORCE} LIMIT 2
"""


async def list_tenants(connection: Connection, caller: Caller, scope: Scope) -> list[UUID]:
    """Returns the tenants over which the caller holds the scope as a whole, the installation among them; two where there are more."""
    return [UUID(str(row["tenant_id"])) for row in await connection.fetch(_TENANTS, caller.client_id, scope.value)]


async def find_named_tenant(connection: Connection, caller: Caller, scope: Scope, named: Any, checks: Checks) -> UUID:
    """Returns the tenant that the field `tenant` of an input names. Where it is none, that is an issue of `checks`, and the
    only tenant over which the caller holds the scope is returned, for the other checks alone; without one, the request is
    refused.
    """
    with checks.attempt():
        return await find_tenant(connection, caller, scope, named.tenant, "/tenant")
    tenant_ids = await list_tenants(connection, caller, scope)
    if len(tenant_ids) != 1:
        checks.refuse()
    return tenant_ids[0]
