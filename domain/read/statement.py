"""A compiled statement, and what every statement begins with: the context of its caller."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Text,
    Uuid,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    table,
    true,
)
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect

from domain.access.reach import CALLER
from domain.store.database import Database

DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]


_numbers = count(1)
data_versions = table("data_versions", column("name", Text), column("version", BigInteger))


@dataclass(frozen=True, eq=False)
class Statement:
    """A compiled statement: SQL, and its bind names by position with the values that never change. `label_queries` read the texts of the references that
    its markers stand for; `is_uniform` says that it relies on Uniform, and answers in a column of its own whether that still holds; `has_state` that it
    tells in another what all that it answers depends on."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]
    label_query: "Statement | None" = None
    is_uniform: bool = False
    has_state: bool = False
    number: int = field(default_factory=_numbers.__next__)
    """Of this plan and no other: what is kept by it need not keep the plan."""

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """`values` are the caller and whatever else differs between requests of this shape."""
        return [values[name] if name in values else self.constants[name] for name in self.names]

    async def run(self, database: Database, values: Mapping[str, Any]) -> list[Any]:
        """The columns of the one row."""
        return list(await database.read(self.sql, *self.arguments(values)) or ())


def make_statement(
    columns: Sequence[ColumnElement[Any]],
    *,
    label_queries: Sequence[ColumnElement[Any]] = (),
    snapshot: bool = False,
    state: ColumnElement[Any] | None = None,
) -> Statement:
    """The statement that sets the caller's context, then computes these columns; for Uniform whether it holds, and for label_queries their version."""
    context = select(func.set_config(literal_column("'markonce.caller'"), cast(CALLER, Text), literal_column("true")).label("s"))
    c = context.offset(literal_column("0")).subquery("c")
    named = [column.label(f"r{i}") for i, column in enumerate(columns)]
    if snapshot:
        named.append(_SNAPSHOT_HOLDS.label("snapshot"))
    if state is not None:
        named.append(state.label("state"))
    if label_queries:
        named.append(_LABELS_VERSION.label("version"))
    body = select(*named).where(c.c.s.is_not(None)).offset(literal_column("0")).correlate(c).lateral("x")
    compiled = select(*body.c).select_from(c.join(body, true())).compile(dialect=DIALECT)
    names: list[str] = list(compiled.positiontup or ())
    texts = make_statement([*label_queries, _LABELS_VERSION]) if label_queries else None
    return Statement(compiled.string, tuple(names), compiled.params, texts, snapshot, state is not None)


_clients = table("clients", column("id", Uuid), column("reach_version", BigInteger))


_UNTIL = bindparam("until", type_=DateTime(timezone=True))


_SNAPSHOT_HOLDS = (
    select((_clients.c.reach_version == bindparam("reach_version", type_=BigInteger)) & (_UNTIL.is_(None) | (func.now() < _UNTIL)))
    .where(_clients.c.id == CALLER)
    .scalar_subquery()
)


_LABELS_VERSION = select(data_versions.c.version).where(data_versions.c.name == literal_column("'references'")).scalar_subquery()
