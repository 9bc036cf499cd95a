"""Gives a new record some of the rows of the record that it is split from.

Judgements follow by window, with their history. Where the spells are those of a merged record, the merge is undone:
`record_changes` says which judgements and which of their versions were its own.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from domain.assessment.judgements import judgements
from domain.assessment.stored_merges import StoredMerge
from domain.assessment.targets import targets
from domain.store.database import Connection, transpose

_JUDGEMENT = ", ".join((*judgements.columns.keys(), "xid"))
_TARGET = ", ".join((*targets.columns.keys(), "xid"))
_TORN = """unnest($4::smallint[], $5::smallint[], $6::smallint[], $7::smallint[], $8::integer[], $9::integer[])
    AS b (academic_year, window_no, subject_no, aspect_no, before, length)"""
_SAME_KEY = (
    "a.academic_year = b.academic_year AND a.window_no = b.window_no AND a.subject_no = b.subject_no AND a.aspect_no = b.aspect_no"
)
_OF_RECORD = "a.tenant_id = $1 AND a.pupil_id = $2"


def _select(**replaced: str) -> str:
    return ", ".join({"xid": "pg_current_xact_id()", **replaced}.get(name, f"a.{name}") for name in _JUDGEMENT.split(", "))


_TEAR = (
    # the earlier versions of the merged record
    f"UPDATE judgement_history a SET pupil_id = $3, version = a.version - b.before FROM {_TORN}"
    f" WHERE {_OF_RECORD} AND {_SAME_KEY} AND a.version > b.before AND a.version < b.before + b.length",
    # its value stands: it goes, and the one that it replaced stands again
    f"UPDATE judgements a SET pupil_id = $3, version = a.version - b.before, xid = pg_current_xact_id() FROM {_TORN}"
    f" WHERE {_OF_RECORD} AND {_SAME_KEY} AND a.version = b.before + b.length",
    f"INSERT INTO judgements ({_JUDGEMENT}) SELECT {_select(version='b.before + b.length + 1')} FROM judgement_history a JOIN {_TORN} ON {_SAME_KEY}"
    f" WHERE {_OF_RECORD} AND $3::uuid IS NOT NULL AND a.version = b.before AND NOT EXISTS ("
    f"SELECT 1 FROM judgements j WHERE j.tenant_id = $1 AND j.pupil_id = $2 AND {_SAME_KEY.replace('a.', 'j.')})",
    # its value was replaced: it stands again, for the new record
    f"INSERT INTO judgements ({_JUDGEMENT}) SELECT {_select(pupil_id='$3', version='a.version - b.before')} FROM judgement_history a"
    f" JOIN {_TORN} ON {_SAME_KEY} WHERE {_OF_RECORD} AND a.version = b.before + b.length",
    f"DELETE FROM judgement_history a USING {_TORN} WHERE {_OF_RECORD} AND $3::uuid IS NOT NULL AND {_SAME_KEY} AND (a.version = b.before + b.length"
    f" OR (a.version = b.before AND EXISTS (SELECT 1 FROM judgements j WHERE j.tenant_id = $1 AND j.pupil_id = $2"
    f" AND {_SAME_KEY.replace('a.', 'j.')} AND j.version = b.before + b.length + 1 AND j.xid = pg_current_xact_id())))",
)
_MOVE_WINDOWS = (
    f"UPDATE judgements a SET pupil_id = $3, xid = pg_current_xact_id() WHERE {_OF_RECORD} AND a.window_no = ANY ($4)",
    f"UPDATE judgement_history a SET pupil_id = $3 WHERE {_OF_RECORD} AND a.window_no = ANY ($4)",
)
_MOVE_DISCOUNTS = "UPDATE discounts SET pupil_id = $3 WHERE tenant_id = $1 AND pupil_id = $2 AND window_no = ANY ($4)"
_KEYS = (
    "unnest($4::smallint[], $5::smallint[], $6::smallint[], $7::smallint[]) AS b (academic_year, window_no, subject_no, aspect_no)"
)
_MOVE_KEYS = (
    f"UPDATE judgements a SET pupil_id = $3, xid = pg_current_xact_id() FROM {_KEYS} WHERE {_OF_RECORD} AND {_SAME_KEY}",
    f"UPDATE judgement_history a SET pupil_id = $3 FROM {_KEYS} WHERE {_OF_RECORD} AND {_SAME_KEY}",
)


async def split_judgements(
    connection: Connection,
    tenant_id: UUID,
    pupil_id: UUID,
    new_id: UUID,
    window_numbers: Collection[int],
    merge: StoredMerge | None,
) -> None:
    """Gives the new record the judgements of these windows; of a merge that is undone, those of the merged record."""
    arguments = (tenant_id, pupil_id, new_id)
    if merge is None:
        await connection.execute(_MOVE_DISCOUNTS, *arguments, list(window_numbers))
        for statement in _MOVE_WINDOWS:
            await connection.execute(statement, *arguments, list(window_numbers))
        return
    own = [tuple(line) for line in merge.judgements if line[1] in window_numbers]
    torn = [line for line in own if line[4]]
    if torn:
        for statement in _TEAR:
            await connection.execute(statement, *arguments, *transpose(torn, 6))
    whole = [line[:4] for line in own if not line[4]]
    if whole:
        for statement in _MOVE_KEYS:
            await connection.execute(statement, *arguments, *transpose(whole, 4))


_RESTORE_TARGETS = f"""
INSERT INTO targets ({_TARGET})
SELECT DISTINCT ON (h.id) {", ".join({"xid": "pg_current_xact_id()"}.get(name, f"h.{name}") for name in _TARGET.split(", "))}
FROM target_history h WHERE h.tenant_id = $1 AND h.id = ANY ($2) AND NOT EXISTS (
    SELECT 1 FROM targets t WHERE t.tenant_id = $1 AND (t.id = h.id OR (t.pupil_id = h.pupil_id AND t.subject_no = h.subject_no
        AND t.aspect_no = h.aspect_no AND t.horizon_year = h.horizon_year AND t.horizon_point = h.horizon_point AND t.basis = h.basis))
) ORDER BY h.id, h.version DESC
"""
_DELETE_RESTORED = """
DELETE FROM target_history h USING targets t
WHERE h.tenant_id = $1 AND h.id = ANY ($2) AND t.tenant_id = $1 AND t.id = h.id AND t.version = h.version
"""


async def split_targets(
    connection: Connection,
    tenant_id: UUID,
    pupil_id: UUID,
    new_id: UUID,
    target_ids: Sequence[UUID],
    merge: StoredMerge | None,
) -> None:
    """Gives the new record these targets. Where a merge that is undone had replaced one by another, each record has its
    own again.
    """
    for table in ("targets", "target_history"):
        statement = f"UPDATE {table} SET pupil_id = $3 WHERE tenant_id = $1 AND pupil_id = $2 AND id = ANY ($4)"
        await connection.execute(statement, tenant_id, pupil_id, new_id, target_ids)
    if merge is not None and (replaced := merge.replaced_targets) and target_ids:
        await connection.execute(_RESTORE_TARGETS, tenant_id, replaced)
        await connection.execute(_DELETE_RESTORED, tenant_id, replaced)
