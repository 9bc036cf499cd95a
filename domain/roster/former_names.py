"""The names and birthdays that a record of a pupil had, each of which a new identity retires.

Also those that were corrected long ago and those of records that were merged into it: a system that has never heard of the
correction still sends them, or has planned a row with them. A name that another stored pupil bears today is that child's,
and is not retired: of a twin whose name was once entered here by mistake, or a child who was split off.
"""

from collections.abc import Collection
from datetime import date
from typing import Any
from uuid import UUID

from domain.roster.retired import describe_names
from domain.store.database import Connection, transpose

_SURNAMES, _FORENAMES = (
    ("surname", "preferredSurname", "preferred_surname"),
    ("forename", "preferredForename", "preferred_forename"),
)
_BIRTHDAYS = ("dateOfBirth", "date_of_birth")
_FORMER = """
SELECT h.field, x.value FROM pupil_history h CROSS JOIN LATERAL (VALUES (h.from_value), (h.to_value)) x (value)
WHERE h.tenant_id = $1 AND h.pupil_id = $2 AND h.field = ANY ($3) AND x.value IS NOT NULL
UNION SELECT f.key, f.value FROM record_changes c CROSS JOIN LATERAL jsonb_each_text(c.details->'facts') f (key, value)
WHERE c.tenant_id = $1 AND c.pupil_id = $2 AND c.kind = 'merged' AND NOT c.details ? 'undone' AND f.key = ANY ($3) AND f.value IS NOT NULL
"""
_OTHERS = """
SELECT surname, preferred_surname, forename, preferred_forename, date_of_birth FROM pupils
WHERE tenant_id = $1 AND id <> $2 AND date_of_birth = ANY ($3)
UNION SELECT surname, NULL, forename, NULL, date_of_birth FROM read_identities($1, ARRAY(
    SELECT CASE WHEN c.pupil_id = $2 THEN c.other_id ELSE c.pupil_id END FROM record_changes c
    WHERE c.tenant_id = $1 AND $2 IN (c.pupil_id, c.other_id) AND c.kind = 'split'
))
"""


async def describe_former_names(connection: Connection, stored: Any, birthday: date) -> set[str]:
    """Returns the texts that are hashed of the names that the stored pupil has or had, each with each birthday that it has
    or had and with `birthday`, its next one. Two statements.
    """
    surnames, forenames = (
        {stored["surname"], stored["preferred_surname"], stored["former_surname"]},
        {stored["forename"], stored["preferred_forename"]},
    )
    present = describe_names(surnames, forenames, stored["date_of_birth"])
    birthdays = {stored["date_of_birth"], birthday}
    fields = [*_SURNAMES, *_FORENAMES, *_BIRTHDAYS]
    for field, value in await connection.fetch(_FORMER, stored["tenant_id"], stored["id"], fields):
        if field in _BIRTHDAYS:
            birthdays.add(date.fromisoformat(value))
        else:
            (surnames if field in _SURNAMES else forenames).add(value)
    texts = {text for day in birthdays for text in describe_names(surnames, forenames, day)}
    rows = await connection.fetch(_OTHERS, stored["tenant_id"], stored["id"], list(birthdays))
    return present | texts.difference(*map(_describe_row, rows))


def _describe_row(row: Any) -> set[str]:
    surnames, forenames = (row["surname"], row["preferred_surname"]), (row["forename"], row["preferred_forename"])
    return describe_names(surnames, forenames, row["date_of_birth"])


_PLANNED = """
SELECT planned_roll_id, n, (entry->>'dateOfBirth')::date AS date_of_birth, entry->>'surname' AS surname, entry->>'forename' AS forename,
    entry->>'preferredSurname' AS preferred_surname, entry->>'preferredForename' AS preferred_forename
FROM planned_pupils WHERE tenant_id = $1 AND entry->>'dateOfBirth' = ANY ($2)
"""
_DELETE_PLANNED = """
DELETE FROM planned_pupils x USING unnest($2::uuid[], $3::integer[]) AS g (planned_roll_id, n)
WHERE x.tenant_id = $1 AND x.planned_roll_id = g.planned_roll_id AND x.n = g.n
"""


async def delete_planned_names(connection: Connection, tenant_id: UUID, texts: Collection[str]) -> None:
    """Deletes the planned rows that bring one of these names with its birthday. At most two statements."""
    birthdays = sorted({text[-len("2000-01-01") :] for text in texts})
    rows = [
        (row["planned_roll_id"], row["n"])
        for row in await connection.fetch(_PLANNED, tenant_id, birthdays)
        if not _describe_row(row).isdisjoint(texts)
    ]
    if rows:
        await connection.execute(_DELETE_PLANNED, tenant_id, *transpose(rows, 2))
