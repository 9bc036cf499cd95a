"""Brings the references that clients' systems use for pupils up to the rules of today: no blanks at the ends, one blank
between words, Unicode's NFC.

A reference that was stored before in another way could not be found any more. Where it would then be another child's,
nothing is changed: it is a data issue, since which child is meant nobody can say.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple
from uuid import UUID

from domain.declare.ids import new_id
from domain.declare.type_numbers import DATA_ISSUE
from domain.roster.record_pupils.changes import touch_pupils
from domain.store.database import Connection, transpose
from domain.support.texts import clean_text
from domain.write.locks import SchoolLocks

COLLIDES = "reference-collides"
"""The kind of the data issue."""

_MAY_BE_UNCLEAN = "value ~ '^ | $|  |[^ -~]'"
_FIND = f"""
SELECT tenant_id, school_id, array_agg(value) AS texts FROM external_ids WHERE {_MAY_BE_UNCLEAN} GROUP BY tenant_id, school_id ORDER BY 1, 2
"""
_READ = (
    "SELECT source, kind, value, id FROM external_ids WHERE tenant_id = $1 AND school_id = $2 AND value = ANY ($3) ORDER BY value"
)
_DELETE = """
DELETE FROM external_ids x USING unnest($3::uuid[], $4::text[], $5::text[]) AS g (source, kind, value)
WHERE x.tenant_id = $1 AND x.school_id = $2 AND x.source = g.source AND x.kind = g.kind AND x.value = g.value
"""
_INSERT = """
INSERT INTO external_ids (tenant_id, school_id, source, kind, value, id)
SELECT $1, $2, * FROM unnest($3::uuid[], $4::text[], $5::text[], $6::uuid[]) ON CONFLICT DO NOTHING
"""
_RESOLVE = """
DELETE FROM data_issues d WHERE d.tenant_id = $1 AND d.school_id = $2 AND d.kind = $3
    AND NOT EXISTS (SELECT 1 FROM unnest($4::uuid[], $5::text[]) AS g (client_id, pupil_ids)
        WHERE g.client_id = d.client_id AND string_to_array(g.pupil_ids, ' ')::uuid[] = d.pupil_ids)
"""
_SETTLE = """
DELETE FROM data_issues d WHERE d.kind = $1
    AND NOT EXISTS (SELECT 1 FROM unnest($2::uuid[], $3::uuid[]) AS g (tenant_id, school_id) WHERE g.tenant_id = d.tenant_id AND g.school_id = d.school_id)
"""
_LIST = """
INSERT INTO data_issues (tenant_id, school_id, kind, client_id, id, pupil_ids)
SELECT $1, $2, $3, g.client_id, g.id, string_to_array(g.pupil_ids, ' ')::uuid[]
FROM unnest($4::uuid[], $5::text[], $6::uuid[]) AS g (client_id, pupil_ids, id) ON CONFLICT DO NOTHING
"""


class _Reference(NamedTuple):
    source: UUID
    kind: str
    value: str
    pupil_id: UUID


async def clean_references(connection: Connection, report: Callable[[str], None]) -> None:
    """Cleans every stored reference, and reports how many were cleaned and how many cannot be.

    The connection is the owner's. Each school is a transaction.
    """
    cleaned = 0
    colliding: list[tuple[UUID, UUID, int]] = []
    for tenant_id, school_id, texts in await connection.fetch(_FIND):
        unclean = [text for text in texts if clean_text(text) not in ("", text)]
        if not unclean:
            continue
        async with connection.transaction():
            count, collisions = await _clean_school(connection, tenant_id, school_id, unclean)
        cleaned += count
        if collisions:
            colliding.append((tenant_id, school_id, collisions))
    await connection.execute(_SETTLE, COLLIDES, *transpose([row[:2] for row in colliding], 2))
    if cleaned:
        report(f"Removed blanks from {cleaned:,} {'reference' if cleaned == 1 else 'references'} of pupils, or wrote them in NFC.")
    for _, school_id, collisions in colliding:
        report(
            f"{collisions:,} {'reference' if collisions == 1 else 'references'} of school {school_id} would be another child's without blanks"
            f" and in NFC, and {'stays' if collisions == 1 else 'stay'}: see the data issues of kind {COLLIDES}."
        )


async def _clean_school(connection: Connection, tenant_id: UUID, school_id: UUID, unclean: Sequence[str]) -> tuple[int, int]:
    """Cleans these references of a school; returns how many were, and how many collide with another child's."""
    texts = sorted({*unclean, *map(clean_text, unclean)})
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock([school_id], [row["id"] for row in await connection.fetch(_READ, tenant_id, school_id, texts)])
    groups: defaultdict[tuple[UUID, str, str], list[_Reference]] = defaultdict(list)
    for row in await connection.fetch(_READ, tenant_id, school_id, texts):
        groups[row["source"], row["kind"], clean_text(row["value"])].append(_Reference(*row))
    gone: list[_Reference] = []
    written: list[_Reference] = []
    issues: set[tuple[UUID, str]] = set()
    collisions = 0
    for (source, kind, text), references in groups.items():
        others = [reference for reference in references if reference.value != text]
        pupil_ids = sorted({reference.pupil_id for reference in references})
        if len(pupil_ids) > 1:
            issues.add((source, " ".join(map(str, pupil_ids))))
            collisions += len(others)
        elif others:
            gone += others
            written.append(_Reference(source, kind, text, pupil_ids[0]))
    rows = [(source, pupil_ids, new_id(DATA_ISSUE)) for source, pupil_ids in sorted(issues)]
    await connection.execute(_RESOLVE, tenant_id, school_id, COLLIDES, *transpose([row[:2] for row in rows], 2))
    await connection.execute(_LIST, tenant_id, school_id, COLLIDES, *transpose(rows, 3))
    if gone:
        await connection.execute(_DELETE, tenant_id, school_id, *transpose([reference[:3] for reference in gone], 3))
        await connection.execute(_INSERT, tenant_id, school_id, *transpose([tuple(reference) for reference in written], 4))
        await touch_pupils(connection, tenant_id, [reference.pupil_id for reference in written])
        await locks.increment_versions()
    return len(gone), collisions
