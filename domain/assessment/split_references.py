"""Decides whose the references of a record are that is split.

A reference of another client may be either child's. Until that client says it again, it means nobody: a row that is
refused only waits, a judgement of the wrong child does harm.
"""

from collections.abc import Collection
from uuid import UUID

from domain.access.caller import Caller
from domain.assessment.stored_merges import Reference, StoredMerge
from domain.store.database import Connection, transpose

_READ = "SELECT source, school_id, value FROM external_ids WHERE tenant_id = $1 AND id = $2 AND kind = 'pupil'"
_NAMED = "unnest($3::uuid[], $4::uuid[], $5::text[]) AS g (source, school_id, value)"
_SAME = "x.tenant_id = $1 AND x.id = $2 AND x.kind = 'pupil' AND x.source = g.source AND x.school_id = g.school_id AND x.value = g.value"
_MOVE = f"UPDATE external_ids x SET id = $6 FROM {_NAMED} WHERE {_SAME}"
_DELETE = f"DELETE FROM external_ids x USING {_NAMED} WHERE {_SAME}"


async def split_references(
    connection: Connection,
    caller: Caller,
    tenant_id: UUID,
    pupil_ids: tuple[UUID, UUID],
    named: Collection[tuple[UUID, str]],
    left_schools: Collection[UUID],
    merge: StoredMerge | None,
) -> int:
    """Gives the new record its references, and takes those off both that may be either's; returns how many these are.

    `pupil_ids` are the record's and the new one's. The new record's are: the caller's own that the request names or that
    stand at schools where only the new record has spells, and those of the merged record where a merge is undone. What the
    other record had before that merge stays.
    """
    old_id, new_id = pupil_ids
    merged = merge.list_references("references") if merge is not None else set()
    remaining = merge.list_references("intoReferences") if merge is not None else set()
    moving: list[Reference] = []
    given_up: list[Reference] = []
    for source, school_id, value in await connection.fetch(_READ, tenant_id, old_id):
        reference = (source, school_id, value)
        is_own = source == caller.client_id
        if (is_own and (school_id, value) in named) or reference in merged:
            moving.append(reference)
        elif reference in remaining:
            continue
        elif not is_own:
            given_up.append(reference)
        elif school_id in left_schools:
            moving.append(reference)
    await connection.execute(_MOVE, tenant_id, old_id, *transpose(moving, 3), new_id)
    await connection.execute(_DELETE, tenant_id, old_id, *transpose(given_up, 3))
    return len(given_up)
