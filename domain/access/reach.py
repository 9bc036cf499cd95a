"""The tables and SQL conditions that limit every query to the rows within the caller's reach.

A row is within reach if a grant in force gives the client the needed scope at the row's school. The table `reach` is
derived from the grants (migration 0002). Row-level security enforces the same rule independently (migration 0005).
"""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    DateTime,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
)

from domain.declare.ids import NIL
from domain.declare.predicates import RowPredicate, TenantRows
from domain.declare.scopes import Scope
from domain.declare.type_numbers import TRUST
from domain.store.metadata import metadata

reach = Table(
    "reach",
    metadata,
    Column("client_id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("grant_id", Uuid, primary_key=True),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("starts_at", DateTime(timezone=True), nullable=False),
    Column("ends_at", DateTime(timezone=True)),
)

shared_pupils = Table(
    "shared_pupils",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("pupil_id", Uuid, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    comment="A second school that sees a dual-registered pupil",
)

CALLER = bindparam("caller", type_=Uuid)
TOKEN_SCOPES = bindparam("token_scopes", type_=ARRAY(Text))
"""The scopes of the caller's token, for rows of which several scopes see different ones."""


def is_in_force(r: Any) -> ColumnElement[bool]:
    """Returns the condition that a row of `reach` is in force now."""
    return and_(r.starts_at <= func.now(), r.ends_at.is_(None) | (r.ends_at > func.now()))


def _write_in_force(r: str) -> str:
    return f"{r}.starts_at <= now() AND ({r}.ends_at IS NULL OR {r}.ends_at > now())"


IN_FORCE = _write_in_force("r")
"""The same condition for a row `r`, in SQL text."""

_TRUST_IDS = f"7{TRUST:03x}"
"""The part of an id that says that it is a trust's."""
IS_SCHOOL = f"r.tenant_id <> '{NIL}' AND substr(r.school_id::text, 15, 4) <> '{_TRUST_IDS}'"
"""The condition that a row `r` of `reach` is of a school, in SQL text; others are of trusts, which may have no school, and of the
installation. It reads no other table, since every request depends on it."""


def set_caller_first(select: str) -> str:
    """Returns a statement that sets its first parameter as the caller before it reads anything, as `domain.read.statement` does it.
    The condition of `select` holds `c.s IS NOT NULL OFFSET 0`, so that the planner keeps the order.
    """
    return f"SELECT x.* FROM (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) c CROSS JOIN LATERAL ({select}) x"


_REACH, _SHARED = "reach_of_caller", "shared_with_caller"
"""The aliases of these tables inside the conditions in SQL text."""


def _refuse_inner_names(alias: str, table: Table, *expressions: str) -> None:
    """Raises ValueError where an expression names the table inside the condition or, without an alias, a column of it.

    PostgreSQL takes the innermost: `r.tenant_id = r.tenant_id` is true of every row.
    """
    inner = re.compile(rf"(?<![\w.$])(?:{'|'.join((alias, *table.c.keys()))})\b")
    for expression in expressions:
        if found := inner.search(expression):
            raise ValueError(f"{found[0]} in {expression} would be the one inside the condition. Use an alias of your own.")


def reaches_sql(client: str, tenant_id: str, school_id: str, scope: str | None = None) -> str:
    """Returns `rows_of_school` as SQL text: a grant in force gives the client this scope (None: any) at the school.

    All parameters are SQL expressions, with an alias before each column. Raises ValueError where the condition would take
    one for its own.
    """
    r = _REACH
    _refuse_inner_names(r, reach, client, tenant_id, school_id, scope or "")
    has_scope = f" AND {scope} = ANY ({r}.scopes)" if scope is not None else ""
    return (
        f"EXISTS (SELECT 1 FROM reach {r} WHERE {r}.client_id = {client} AND {r}.tenant_id = {tenant_id} AND {r}.school_id = {school_id}{has_scope}"
        f" AND {_write_in_force(r)})"
    )


def reaches_pupil_sql(client: str, row: str, pupil_id: str = "pupil_id", scope: str | None = None) -> str:
    """Returns `rows_of_pupil` as SQL text, for the alias of a row with columns tenant_id, school_id and `pupil_id`.

    Raises ValueError as `reaches_sql` does.
    """
    s = _SHARED
    _refuse_inner_names(s, shared_pupils, client, row, scope or "")
    shared = reaches_sql(client, f"{s}.tenant_id", f"{s}.school_id", scope)
    return (
        f"({reaches_sql(client, f'{row}.tenant_id', f'{row}.school_id', scope)} OR EXISTS ("
        f"SELECT 1 FROM shared_pupils {s} WHERE {s}.tenant_id = {row}.tenant_id AND {s}.pupil_id = {row}.{pupil_id} AND {shared}))"
    )


def has_grant(
    scope: Scope | None, match: Callable[[Any], ColumnElement[bool]], *, tests_each_row: bool = False
) -> ColumnElement[bool]:
    """Returns the condition that a grant in force gives the caller this scope (None: any).

    `match` makes the condition on the columns of `reach`. With `tests_each_row` PostgreSQL never joins, but tests row by row.
    """
    r = reach.alias()
    inner: Select[Any] = select(literal_column("1")).select_from(r).where(r.c.client_id == CALLER, match(r.c), is_in_force(r.c))
    if scope is not None:
        inner = inner.where(literal_column(f"'{scope.value}'", Text) == any_(r.c.scopes))
    if tests_each_row:
        inner = inner.offset(literal_column("0"))
    return exists(inner.correlate_except(r))


def holds_in_token(scope: Scope) -> ColumnElement[bool]:
    """Returns the condition that the caller's token has the scope."""
    return literal_column(f"'{scope.value}'", Text) == any_(TOKEN_SCOPES)


def is_on_installation(scope: Scope) -> ColumnElement[bool]:
    """Returns the condition that a grant in force gives the caller this scope on the installation."""
    return has_grant(scope, lambda r: r.tenant_id == literal_column(f"'{NIL}'::uuid", Uuid))


def rows_of_school(tenant_id: Column[UUID], school_id: Column[UUID], *, tests_each_row: bool = False) -> RowPredicate:
    """Returns the predicate for rows of a school. `tests_each_row` is that of `has_grant`."""

    def match(r: Any) -> ColumnElement[bool]:
        at_school: ColumnElement[bool] = (r.tenant_id == tenant_id) & (r.school_id == school_id)
        return at_school

    return lambda scope: has_grant(scope, match, tests_each_row=tests_each_row)


def rows_of_tenant(tenant_id: Column[UUID]) -> RowPredicate:
    """Returns the predicate for rows of a tenant: a grant for any of its schools suffices."""
    return TenantRows(lambda scope: has_grant(scope, lambda r: r.tenant_id == tenant_id))


def rows_of_registered_school(school_id: Column[UUID]) -> RowPredicate:
    """Returns the predicate for rows of the public register (GIAS) about one school."""
    return lambda scope: has_grant(scope, lambda r: r.school_id == school_id)


def rows_of_pupil(tenant_id: Column[UUID], school_id: Column[UUID], pupil_id: Column[UUID]) -> RowPredicate:
    """Returns the predicate for rows about a pupil, within reach at the main school or at a second school (dual
    registration).
    """

    def make_condition(scope: Scope | None) -> ColumnElement[bool]:
        s = shared_pupils.alias()
        of_pupil = (s.c.tenant_id == tenant_id) & (s.c.pupil_id == pupil_id)
        shared: Select[Any] = (
            select(literal_column("1"))
            .select_from(s)
            .where(of_pupil, has_grant(scope, lambda r: (r.tenant_id == tenant_id) & (r.school_id == s.c.school_id)))
        )
        return or_(rows_of_school(tenant_id, school_id)(scope), exists(shared.correlate_except(s)))

    return make_condition
