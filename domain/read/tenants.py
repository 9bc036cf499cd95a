"""The tenant in statements: which tables are a tenant's, and how a statement names whose rows it reads.

PostgreSQL finds a tenant's rows by an index only where a condition names the tenant. A condition that only leads to the tenant, as that of the reach
does, is tested row by row from the first tenant of the table on.
"""

import operator
from typing import Any

from sqlalchemy import (
    BinaryExpression,
    ColumnClause,
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    SmallInteger,
    Subquery,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    literal_column,
    select,
    tuple_,
)

from domain.access.reach import CALLER, is_in_force, reach
from domain.declare.resource import Resource

TENANT = bindparam("tenant", type_=Uuid)
"""The only tenant within the caller's reach; in the query of labels, the tenant that they are of."""
NAME = "tenant_id"
"""The name of the column in every table."""
_ENDS = (
    (Uuid, "'00000000-0000-0000-0000-000000000000'::uuid", "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid"),
    (SmallInteger, "(-32768)::smallint", "32767::smallint"),
    (Integer, "(-2147483648)", "2147483647"),
    (DateTime, "'-infinity'::timestamptz", "'infinity'::timestamptz"),
)
"""By type, what is less and what is greater than every value that is stored."""


def is_owned(source: FromClause) -> bool:
    """Whether each row of a relation is a tenant's own. The register of schools is public."""
    return NAME in source.c and _tells_owner(source.c[NAME])


def _tells_owner(column: Any) -> bool:
    return not any(getattr(base.table, "info", {}).get("is_public", False) for base in column.base_columns)


def list_by_tenant(resource: Resource) -> bool:
    """Whether the default order of a resource begins with the tenant."""
    return resource.order[0] == NAME


def compares_tenants(element: Any) -> bool:
    """Whether an SQL element says that two relations have the same tenant."""
    return (
        isinstance(element, BinaryExpression)
        and element.operator is operator.eq
        and all(isinstance(side, ColumnClause) and side.key == NAME for side in (element.left, element.right))
    )


def bind_pair(pair: Any, tenant: ColumnElement[Any], bound: FromClause) -> ColumnElement[bool]:
    """Returns, in place of the condition that two relations have the same tenant, that each of them has this one.

    The rows of `bound` are known to be of the tenant, if it is owned.
    """
    sides = [side for side in (pair.left, pair.right) if side.table is not bound or not is_owned(bound)]
    if len(sides) < 2:
        return and_(*(side == tenant for side in sides))
    owned = [side for side in sides if _tells_owner(side)]
    return and_(*(side == tenant for side in owned), *(() if len(owned) == len(sides) else (pair,)))


def select_tenants(after: str | None = None, *, descending: bool = False) -> Subquery:
    """Returns the tenants within the caller's reach in order, each once. `after` is the name of the bind parameter of the first of
    them, as text.

    Since they are in order, PostgreSQL asks the next tenant only where those before it do not fill the page. So that it does not
    sort all of them first, it is told that there may be a limit, which is null.
    """
    r = reach.alias("r_of_tenants")
    tenants = select(r.c.tenant_id).distinct().where(r.c.client_id == CALLER, is_in_force(r.c))
    tenants = tenants.order_by(r.c.tenant_id.desc() if descending else r.c.tenant_id)
    if after is not None:
        first = cast(bindparam(after, type_=Text), Uuid)
        tenants = tenants.where(r.c.tenant_id <= first if descending else r.c.tenant_id >= first)
    return tenants.limit(bindparam("no_limit", None, type_=Integer)).subquery("tenants")


def write_position_in_tenant(
    tenant: ColumnElement[Any], keys: list[ColumnElement[Any]], bind: str, first: int, *, descending: bool
) -> ColumnElement[bool] | None:
    """Returns the condition that a row of a tenant comes after a position in the default order, in a form that an index serves.

    The tenant's part of the position is bound to `bind` with the number `first`, and those of the further keys to the numbers that follow. In any
    tenant but that of the position, every row comes after it. None for keys of types that have no end.
    """
    ends = next((ends for type_, *ends in _ENDS if isinstance(keys[0].type, type_)), None)
    if ends is None or any(getattr(key, "nullable", True) for key in keys):
        return None
    values: list[ColumnElement[Any]] = [
        cast(bindparam(f"{bind}_{first + 1 + i}", type_=Text), key.type) for i, key in enumerate(keys)
    ]
    is_there = tenant == cast(bindparam(f"{bind}_{first}", type_=Text), Uuid)
    values[0] = case((is_there, values[0]), else_=literal_column(ends[descending]))
    return tuple_(*keys) < tuple_(*values) if descending else tuple_(*keys) > tuple_(*values)
