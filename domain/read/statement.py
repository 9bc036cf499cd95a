"""Compiled read statements. Each sets the context of row-level security itself, before it reads anything."""

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
from domain.read.json_sql import concatenate
from domain.read.time_binds import NOW, TODAY, bind_time
from domain.store.database import Database

DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]


_numbers = count(1)
data_versions = table("data_versions", column("name", Text), column("version", BigInteger))


_window_instants = table("window_instants", column("at", DateTime(timezone=True)))
_LAST_INSTANT = select(func.max(_window_instants.c.at)).where(_window_instants.c.at <= NOW).scalar_subquery()

INSTALLATION_VERSION = concatenate(
    [
        cast(select(func.sum(data_versions.c.version)).scalar_subquery(), Text),
        literal_column("'.'", Text),
        cast(TODAY, Text),
        literal_column("'.'", Text),
        cast(func.coalesce(func.extract("epoch", _LAST_INSTANT), literal_column("0")), Text),
    ]
)
"""The version of what every response depends on: the labels, the public register, today's date and the newest instant
at which a window of any tenant opened, closed or stopped accepting.
"""


@dataclass(frozen=True, eq=False)
class Statement:
    """A compiled statement that returns one row: SQL, the names of its bind parameters by position, and the values that
    are constant.

    The row ends with up to three columns beside the texts. If the statement relies on a ReachSnapshot
    (`checks_snapshot`), a column says whether the snapshot is current. If it has a data version (`has_version`), a
    column returns it. If its JSON holds placeholders of labels, `label_query` reads the labels, and a column returns
    their version.
    """

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]
    label_query: "Statement | None" = None
    checks_snapshot: bool = False
    has_version: bool = False
    name: str = "read"
    """What it reads, for traces."""
    number: int = field(default_factory=_numbers.__next__)
    """Identifies the statement in keys of caches, which then do not keep the statement alive."""

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """Returns the arguments by position. `values` are the caller and the values of the request, by bind name."""
        values = {**bind_time(), **values}
        return [values[name] if name in values else self.constants[name] for name in self.names]

    async def run(self, database: Database, values: Mapping[str, Any]) -> list[Any]:
        """Runs the statement and returns the columns of its one row; an empty list if there is no row."""
        return list(await database.read(self.sql, *self.bind(values), name=self.name, may_lag=True) or ())


def make_statement(
    columns: Sequence[ColumnElement[Any]],
    *,
    label_queries: Sequence[ColumnElement[Any]] = (),
    checks_snapshot: bool = False,
    data_version: ColumnElement[Any] | None = None,
    name: str = "read",
) -> Statement:
    """Compiles a statement that sets the caller's context and then computes these columns.

    The context is set in a subquery that the rest is joined to laterally, so PostgreSQL runs it first.
    """
    context = select(func.set_config(literal_column("'markonce.caller'"), cast(CALLER, Text), literal_column("true")).label("s"))
    c = context.offset(literal_column("0")).subquery("c")
    named = [column.label(f"r{i}") for i, column in enumerate(columns)]
    if checks_snapshot:
        named.append(_IS_SNAPSHOT_CURRENT.label("snapshot"))
    if data_version is not None:
        named.append(data_version.label("data_version"))
    if label_queries:
        named.append(INSTALLATION_VERSION.label("label_version"))
    body = select(*named).where(c.c.s.is_not(None)).offset(literal_column("0")).correlate(c).lateral("x")
    compiled = select(*body.c).select_from(c.join(body, true())).compile(dialect=DIALECT)
    names: list[str] = list(compiled.positiontup or ())
    label_query = make_statement([*label_queries, INSTALLATION_VERSION], name="read labels") if label_queries else None
    return Statement(compiled.string, tuple(names), compiled.params, label_query, checks_snapshot, data_version is not None, name)


_clients = table("clients", column("id", Uuid), column("reach_version", BigInteger))


_UNTIL = bindparam("until", type_=DateTime(timezone=True))


_IS_SNAPSHOT_CURRENT = (
    select((_clients.c.reach_version == bindparam("reach_version", type_=BigInteger)) & (_UNTIL.is_(None) | (func.now() < _UNTIL)))
    .where(_clients.c.id == CALLER)
    .scalar_subquery()
)
