"""Who controls data, named in a body: a trust by its GIAS group UID or id, or a school that has no trust."""

from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import parse_id
from domain.declare.inputs import Input
from domain.declare.scopes import Scope
from domain.roster.schools import SchoolRef, find_school
from domain.store.database import Connection


class TrustRef(Input, kw_only=True):
    """A trust, by exactly one of its names."""

    id: str | UnsetType = UNSET
    group_uid: str | int | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.id is UNSET) == (self.group_uid is UNSET):
            raise ValueError("Name the trust by exactly one of id and groupUid")


class TenantRef(Input, kw_only=True):
    """Whoever controls the data: a trust, or a school that has none."""

    trust: TrustRef | UnsetType = UNSET
    school: SchoolRef | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.trust is UNSET) == (self.school is UNSET):
            raise ValueError("Name exactly one of trust and school")


_FIND_TRUST = f"""
SELECT t.id FROM trusts t WHERE (t.id = $2 OR t.group_uid = $3) AND {reaches_sql("$1", "t.id", "t.id", "$4")}
"""


async def find_tenant(connection: Connection, caller: Caller, scope: Scope, ref: TenantRef, at: str) -> UUID:
    """The tenant, where the caller holds the scope over the whole of it; Invalid, naming the place, otherwise."""
    if ref.trust is not UNSET:
        uid = str(ref.trust.group_uid) if ref.trust.group_uid is not UNSET else ""
        by_id = parse_id(ref.trust.id) if ref.trust.id is not UNSET else None
        by_uid = int(uid) if uid.isascii() and uid.isdigit() and len(uid) < 9 else None
        found = await connection.fetchval(_FIND_TRUST, caller.client_id, by_id, by_uid, scope.value)
        if found is None:
            raise make_invalid(
                [Issue(f"{at}/trust", "trust-not-found", f"There is no such trust over which this client holds {scope}.")]
            )
        return UUID(str(found))
    assert ref.school is not UNSET
    school = await find_school(connection, caller, scope, ref.school, f"{at}/school")
    if school.tenant_id != school.id:
        raise make_invalid([Issue(f"{at}/school", "school-not-a-tenant", "A trust controls this school's data; name the trust.")])
    return school.id
