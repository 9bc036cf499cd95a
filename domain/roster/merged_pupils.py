"""Merged pupils: which record an id leads to whose record was merged into another.

The id is 410 `pupil-merged` to who reaches the remaining record. To anybody else it is an id that does not exist.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.errors import Issue, NotFound, PupilMerged
from domain.declare.scopes import Scope
from domain.read.query import Parameter, Query, RowQuery
from domain.store.database import Connection, Database
from domain.write.batch import Batch

_REPLACEMENTS = f"""
SELECT c.other_id, c.pupil_id FROM record_changes c JOIN pupils p ON p.tenant_id = c.tenant_id AND p.id = c.pupil_id
WHERE c.other_id = ANY ($2::uuid[]) AND c.kind = 'merged' AND {reaches_pupil_sql("$1", "p", "id", "$3")}
"""


class PupilKeyOfRow(NamedTuple):
    """The pupil's id in the key of a row that a query selects: at which position of the queries, and with which scope."""

    position: int
    scope: Scope
    value: UUID | Parameter


def list_pupil_keys(queries: Sequence[Query]) -> tuple[PupilKeyOfRow, ...]:
    """Returns the pupils' ids in the keys of pupils and of rows about pupils, without the values of the request."""
    keys = []
    for position, query in enumerate(queries):
        if isinstance(query, RowQuery):
            for column, value in query.key_values:
                if column.key == "pupil_id" or (query.resource.name == "pupil" and column.key == "id"):
                    bare = Parameter(None, value.text_index, value.decode) if isinstance(value, Parameter) else value
                    keys.append(PupilKeyOfRow(position, query.resource.scope, bare))
    return tuple(keys)


async def refuse_merged(
    database: Database, caller: Caller, keys: Sequence[PupilKeyOfRow], texts: Sequence[str], bodies: Sequence[bytes | None]
) -> None:
    """Raises PupilMerged where a row that was not found is about a pupil who was merged into one within reach."""
    for position, scope, value in keys:
        if bodies[position] is None:
            pupil_id = value.decode(texts[value.text_index]) if isinstance(value, Parameter) else value

            async def work(connection: Connection, pupil_id: UUID = pupil_id, scope: Scope = scope) -> None:
                await refuse_merged_pupil(connection, caller, pupil_id, scope)

            await database.run_transaction(caller.client_id, work)


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


async def refuse_merged_pupil(connection: Connection, caller: Caller, pupil_id: UUID, scope: Scope) -> None:
    """Raises PupilMerged if the pupil was merged into one that the caller reaches with this scope."""
    if remaining := (await find_replacements(connection, caller, [pupil_id], scope)).get(pupil_id):
        raise PupilMerged(str(remaining))


async def make_not_found(connection: Connection, caller: Caller, pupil_id: UUID, scope: Scope) -> NotFound:
    """Returns the error of a pupil that a command did not find; raises PupilMerged where the pupil was merged."""
    await refuse_merged_pupil(connection, caller, pupil_id, scope)
    return NotFound()
