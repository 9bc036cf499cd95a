"""Gives a new record some of the rows of the record that it is split from.

Judgements follow by window, with their history. Where the spells are those of a merged record, the merge is undone:
`record_changes` says which judgements and which of their versions were its own.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from domain.assessment.judgements import judgements
from domain.assessment.stored_merges import StoredMerge
from domain.assessment.targets import targets
from domain.roster.unite_spells import DatedSpell
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
_READ_SINCE = f"""
SELECT a.academic_year, a.window_no, a.subject_no, a.aspect_no FROM judgements a
WHERE {_OF_RECORD} AND a.window_no = ANY ($3) AND a.received_at >= $4 AND NOT EXISTS (
    SELECT 1 FROM judgement_history b WHERE b.tenant_id = $1 AND b.pupil_id = $2 AND {_SAME_KEY} AND b.received_at < $4
)
UNION
SELECT a.academic_year, a.window_no, a.subject_no, a.aspect_no FROM judgement_history a
WHERE {_OF_RECORD} AND a.window_no = ANY ($3) AND a.received_at >= $4 AND NOT EXISTS (
    SELECT 1 FROM judgements b WHERE b.tenant_id = $1 AND b.pupil_id = $2 AND {_SAME_KEY}
) AND NOT EXISTS (
    SELECT 1 FROM judgement_history b WHERE b.tenant_id = $1 AND b.pupil_id = $2 AND {_SAME_KEY} AND b.received_at < $4
)
"""
"""The keys of judgements of which no version is older than the merge: those that stand, and those that were withdrawn."""
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
    """Gives the new record the judgements of these windows. Where a merge is undone, the judgements that the record itself
    had before it stay; the merged record's, and what was recorded since for the first time, are the new one's.
    """
    arguments = (tenant_id, pupil_id, new_id)
    if merge is None:
        for statement in _MOVE_WINDOWS:
            await connection.execute(statement, *arguments, list(window_numbers))
        return
    own = [tuple(line) for line in merge.judgements if line[1] in window_numbers]
    torn = [line for line in own if line[4]]
    if torn:
        for statement in _TEAR:
            await connection.execute(statement, *arguments, *transpose(torn, 6))
    whole = [tuple(line[:4]) for line in own if not line[4]]
    since = await connection.fetch(_READ_SINCE, tenant_id, pupil_id, list(window_numbers), merge.merged_at)
    whole += {tuple(row) for row in since} - {tuple(line[:4]) for line in own}
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


_IS_THEN = "s.school_id = m.school_id AND s.from_on <= COALESCE(m.to_on, 'infinity') AND COALESCE(s.to_on, 'infinity') >= m.from_on"
_MOVE_MEMBERS = f"""
WITH s AS (SELECT * FROM unnest($4::boolean[], $5::uuid[], $6::date[], $7::date[]) AS g (is_new, school_id, from_on, to_on))
UPDATE group_members m SET pupil_id = $3 WHERE m.tenant_id = $1 AND m.pupil_id = $2 AND (
    m.group_id = ANY ($8::uuid[])
    OR (EXISTS (SELECT 1 FROM s WHERE s.is_new AND s.school_id = m.school_id)
        AND NOT EXISTS (SELECT 1 FROM s WHERE NOT s.is_new AND s.school_id = m.school_id))
    OR (EXISTS (SELECT 1 FROM s WHERE s.is_new AND {_IS_THEN}) AND NOT EXISTS (SELECT 1 FROM s WHERE NOT s.is_new AND {_IS_THEN}))
)
"""


async def split_memberships(
    connection: Connection,
    tenant_id: UUID,
    pupil_ids: tuple[UUID, UUID],
    spells: tuple[Sequence[DatedSpell], Sequence[DatedSpell]],
    group_ids: Sequence[UUID | None],
) -> None:
    """Gives the new record its memberships: those in these groups, and those at a school and time where it alone was on roll.

    `pupil_ids` and `spells` are the record's and the new one's.
    """
    lines = [(is_new, s.where, s.from_on, s.to_on) for is_new, own in zip((False, True), spells, strict=True) for s in own]
    await connection.execute(_MOVE_MEMBERS, tenant_id, *pupil_ids, *transpose(lines, 4), group_ids)
