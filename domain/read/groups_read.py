"""GroupsRead: of which groups of collected values a body holds rows, and how often it was given to its client.

A group is what one school collects in one window, of one subject and aspect. The statement that writes the rows writes their groups beside them, in
a placeholder; they are decoded when the counts are flushed, so that a read costs one addition. The audit of collections (docs/glossary.md) goes by them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, FromClause, Text, cast, func, literal_column

from domain.declare.resource import Resource
from domain.read.json_sql import concatenate, quote
from domain.read.placeholders import GROUPS, write_placeholder
from domain.read.query import NestedObject, OutputFields, PageRows, Query, RowQuery, ToMany, ToOne

_WINDOW, _SUBJECT = 1 << 32, 1 << 16
"""By what the numbers of a window and a subject are multiplied in the code of a group."""


class CollectedGroup(NamedTuple):
    """A group that was read of, in numbers, and through which resource."""

    tenant_id: str
    school_id: str
    window_no: int
    subject_no: int
    aspect_no: int
    resource: str


class PooledGroup(NamedTuple):
    """A group that an aggregate pools, by codes: of all of its aspects the main one."""

    school_id: str
    window_code: str
    subject_code: str


class GroupsRead:
    """The groups of a body of one client. `reads` counts how often it was given to the client since the last flush.

    `decode` makes the groups, and `weight` is about how many bytes they take.
    """

    __slots__ = ("_decode", "_decoded", "reads", "weight")

    def __init__(self, decode: "Callable[[], Iterable[CollectedGroup | PooledGroup]]", weight: int) -> None:
        self._decode: Callable[[], Iterable[CollectedGroup | PooledGroup]] | None = decode
        self._decoded: tuple[CollectedGroup | PooledGroup, ...] = ()
        self.reads, self.weight = 0, 200 + weight

    def list_groups(self) -> "tuple[CollectedGroup | PooledGroup, ...]":
        """Returns each group once. The first call decodes them."""
        if self._decode is not None:
            self._decoded, self._decode = tuple(dict.fromkeys(self._decode())), None
        return self._decoded


def _decode_placeholders(texts: list[bytes], tenant_id: UUID | None) -> Iterator[CollectedGroup]:
    """Yields the groups of placeholders, as PostgreSQL wrote them. `tenant_id` is that of every row, where the statement is bound to one."""
    for text in dict.fromkeys(texts):
        resource, tenants, schools, codes = text[1:].decode().split("|")
        of_rows: Iterable[str] = _split(tenants) if tenants else repeat(str(tenant_id))
        for tenant, school, code in set(zip(of_rows, _split(schools), _split(codes), strict=False)):
            window_no, rest = divmod(int(code), _WINDOW)
            subject_no, aspect_no = divmod(rest, _SUBJECT)
            yield CollectedGroup(tenant, school, window_no, subject_no, aspect_no, resource)


def _split(array: str) -> list[str]:
    """Returns the elements of an array without quotes, as PostgreSQL writes it."""
    return array[1:-1].split(",")


def join_groups(parts: "Sequence[GroupsRead]") -> "GroupsRead | None":
    """Returns the groups of a body with these parts, None without any."""
    if len(parts) == 1:
        return parts[0]
    of_parts = [part.list_groups for part in parts]
    weight = sum(part.weight for part in parts)
    return GroupsRead(lambda: chain.from_iterable(decode() for decode in of_parts), weight) if parts else None


def list_groups(groups: Iterable[CollectedGroup]) -> GroupsRead | None:
    """Returns the groups of a body, None without any."""
    listed = tuple(groups)
    return GroupsRead(lambda: listed, 200 * len(listed)) if listed else None


def pool_groups(schools: Sequence[str], rows: Iterable[tuple[str | None, str, tuple[str, ...]]]) -> GroupsRead | None:
    """Returns the groups that a body of aggregates pools, None without any. `rows` are its school, which is None where it pools all `schools`,
    window and subjects."""
    pooled = tuple(dict.fromkeys(rows))
    return GroupsRead(partial(_decode_pooled, schools, pooled), 100 * (len(schools) + len(pooled))) if pooled else None


def _decode_pooled(schools: Sequence[str], rows: Iterable[tuple[str | None, str, tuple[str, ...]]]) -> Iterator[PooledGroup]:
    for school, window, subjects in rows:
        for school_id in schools if school is None else (school,):
            for subject in subjects:
                yield PooledGroup(school_id, window, subject)


def make_groups_read(texts: list[bytes], tenant_id: UUID | None) -> GroupsRead | None:
    """Returns the groups of a body with these placeholders, None without any."""
    return GroupsRead(partial(_decode_placeholders, texts, tenant_id), sum(map(len, texts)) + 50 * len(texts)) if texts else None


def holds_groups(queries: Sequence[Query]) -> bool:
    """Whether what the queries return may hold rows of groups."""
    return any(
        (isinstance(query, RowQuery) and query.resource.collected is not None) or _have_groups(query.fields, query.resource)
        for query in queries
    )


def _have_groups(fields: OutputFields, resource: Resource) -> bool:
    for _, field in fields:
        match field:
            case PageRows(fields=inner):
                if resource.collected is not None or _have_groups(inner, resource):
                    return True
            case NestedObject(fields=inner):
                if _have_groups(inner, resource):
                    return True
            case ToOne(resource=target, fields=inner):
                if target.collected is not None or _have_groups(inner, target):
                    return True
            case ToMany(query=query):
                if _have_groups(query.fields, query.resource):
                    return True
    return False


def write_groups(resource: Resource, rows: FromClause, tenant: ColumnElement[Any] | None, on: Any = None) -> ColumnElement[str]:
    """Returns in SQL the placeholder of the groups of these rows; an empty text without any. With `on`, which selects those of a page,
    it is an aggregate."""
    assert resource.collected is not None
    school, window_no, subject_no, aspect_no = (rows.c[name] for name in resource.collected)
    code = cast(window_no, BigInteger) * literal_column(str(_WINDOW)) + (subject_no * literal_column(str(_SUBJECT)) + aspect_no)

    def list_values(value: ColumnElement[Any]) -> ColumnElement[str]:
        if on is not None:
            return cast(func.array_agg(value).filter(on), Text)
        return concatenate([quote("{"), cast(value, Text), quote("}")])

    tenants = quote("") if tenant is not None else list_values(rows.c.tenant_id)
    text = concatenate([tenants, quote("|"), list_values(school), quote("|"), list_values(code)])
    return func.coalesce(write_placeholder(GROUPS + f"{resource.plural}|".encode(), text), quote(""))
