"""Merged pupils: which record an id leads to whose record was merged into another.

The id is 410 `pupil-merged` to who reaches the remaining record. To anybody else it is an id that does not exist.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.errors import Issue, NotFound, PupilMerged
from domain.declare.resource import Resource
from domain.declare.scopes import Scope
from domain.read.query import ListQuery, NestedObject, OutputFields, PageRows, Parameter, Query, RowQuery, ToMany, ToOne
from domain.store.database import Connection, Database
from domain.write.batch import Batch

_REPLACEMENTS = f"""
SELECT c.other_id, c.pupil_id FROM record_changes c JOIN pupils p ON p.tenant_id = c.tenant_id AND p.id = c.pupil_id
WHERE c.other_id = ANY ($2::uuid[]) AND c.kind = 'merged' AND {reaches_pupil_sql("$1", "p", "id", "$3")}
"""


class PupilIdsOfRead(NamedTuple):
    """The pupils' ids that a read names: the key of a row, or the filter of a list.

    `position` is that of the query, `resource` whose rows it reads. `path` leads from the query's body to the rows of the
    list; it is None for a row.
    """

    position: int
    resource: Resource
    values: tuple[Any, ...]
    path: tuple[str, ...] | None = None

    def decode(self, texts: Sequence[str]) -> list[UUID]:
        """Returns the ids, of which those that are Parameters are in the request's texts."""
        values = (v.decode(texts[v.text_index]) if isinstance(v, Parameter) else v for v in self.values)
        ids = (_find_pupil_id(self.resource, value) for value in values)
        return [id_ for id_ in ids if id_ is not None]


def _find_pupil_id(resource: Resource, value: object) -> UUID | None:
    """Returns the pupil's id in a value, which is that id or the id of a row about a pupil."""
    if isinstance(value, UUID):
        return value
    keys = resource.identify(str(value)) or ()
    return next((key for column, key in keys if column.key == "pupil_id"), None)


def list_pupil_ids(queries: Sequence[Query]) -> tuple[PupilIdsOfRead, ...]:
    """Returns the ids of pupils that the queries name, without the values of the request."""
    found: list[PupilIdsOfRead] = []
    for position, query in enumerate(queries):
        if isinstance(query, RowQuery):
            for column, value in query.key_values:
                if column.key == "pupil_id" or (query.resource.name == "pupil" and column.key == "id"):
                    found.append(PupilIdsOfRead(position, query.resource, (_leave_value_out(value),)))
            found += _list_filters(position, query.fields, ())
        else:
            found += _list_filter(position, query, ())
    return tuple(found)


def _list_filters(position: int, fields: OutputFields, path: tuple[str, ...]) -> Iterator[PupilIdsOfRead]:
    """Yields the filters by pupils' ids of the lists that are nested in one row."""
    for key, output in fields:
        if isinstance(output, ToMany):
            yield from _list_filter(position, output.query, (*path, key))
        elif isinstance(output, ToOne | NestedObject):
            yield from _list_filters(position, output.fields, (*path, key))


def _list_filter(position: int, query: ListQuery, path: tuple[str, ...]) -> Iterator[PupilIdsOfRead]:
    """Yields the filters by pupils' ids of a list. A page after a cursor may be empty for another reason."""
    key = next((key for key, output in query.fields if isinstance(output, PageRows)), None)
    if key is None or query.after is not None:
        return
    has_pupil_in_id = query.resource.name == "pupil" or query.resource.parse_key is not None
    for condition in query.where:
        if condition.name == "pupilId" or (condition.name == "id" and has_pupil_in_id):
            yield PupilIdsOfRead(position, query.resource, tuple(map(_leave_value_out, condition.values)), (*path, key))


def _leave_value_out(value: Any) -> Any:
    return Parameter(None, value.text_index, value.decode) if isinstance(value, Parameter) else value


async def refuse_merged(
    database: Database, caller: Caller, reads: Sequence[PupilIdsOfRead], texts: Sequence[str], bodies: Sequence[bytes | None]
) -> None:
    """Raises PupilMerged where nothing was found by the id of a pupil who was merged into one within reach: no row, or no
    row of a list that is filtered by it.
    """
    for read in reads:
        body = bodies[read.position]
        if body is None if read.path is None else body is not None and _is_empty(body, read.path):
            pupil_ids, scope = read.decode(texts), read.resource.scope

            async def work(connection: Connection, pupil_ids: list[UUID] = pupil_ids, scope: Scope = scope) -> None:
                await refuse_merged_pupils(connection, caller, pupil_ids, scope)

            await database.run_transaction(caller.client_id, work)


def _is_empty(body: bytes, path: tuple[str, ...]) -> bool:
    """Whether the list at this path of a body has no rows. Bodies without any empty list are not decoded."""
    if b'":[]' not in body:
        return False
    value = msgspec.json.decode(body)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return bool(value == [])


async def find_replacements(connection: Connection, caller: Caller, pupil_ids: Sequence[UUID], scope: Scope) -> dict[UUID, UUID]:
    """Returns, of these ids, those of merged pupils, with the remaining ones that the caller reaches with this scope."""
    rows = await connection.fetch(_REPLACEMENTS, caller.client_id, pupil_ids, scope.value)
    return {row["other_id"]: row["pupil_id"] for row in rows}


async def tell_merged(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], ids: Mapping[int, UUID], scope: Scope
) -> None:
    """Says of rows that were rejected as pupil-not-found that the pupil was merged, where the caller reaches the
    remaining one. `ids` are the ids that the rows name, by index.
    """
    missing = {index for issue in batch.issues if issue.code == "pupil-not-found" and (index := batch.find_index(issue)) in ids}
    if not missing:
        return
    replacements = await find_replacements(connection, caller, [ids[index] for index in missing], scope)
    for n, issue in enumerate(batch.issues):
        index = batch.find_index(issue)
        if index in missing and issue.code == "pupil-not-found" and (remaining := replacements.get(ids[index])) is not None:
            batch.issues[n] = Issue(issue.at, "pupil-merged", f"This pupil was merged into {remaining}. Use that id.")


async def refuse_merged_pupils(connection: Connection, caller: Caller, pupil_ids: Sequence[UUID], scope: Scope) -> None:
    """Raises PupilMerged if one of the pupils was merged into one that the caller reaches with this scope."""
    if replacements := await find_replacements(connection, caller, pupil_ids, scope):
        raise PupilMerged(str(next(replacements[id_] for id_ in pupil_ids if id_ in replacements)))


async def make_not_found(connection: Connection, caller: Caller, pupil_id: UUID, scope: Scope) -> NotFound:
    """Returns the error of a pupil that a command did not find; raises PupilMerged where the pupil was merged."""
    await refuse_merged_pupils(connection, caller, [pupil_id], scope)
    return NotFound()
