"""Brings the names of stored pupils up to the rules of this program: cleans them, and fills the keys by which they are
compared and sorted.

`migrate` runs it (migrations/after.py). A pupil whose names_rule is not NAMES_RULE has no keys yet, or those of other
rules; a release with other rules so fills them anew. Each batch is a transaction of one school, so that a run that was
cut short goes on where it was.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from domain.declare.errors import DatabaseError
from domain.roster.names import NAME_KEYS, NAMES_RULE, make_name_keys
from domain.roster.record_pupils.doubts import refresh_same_children
from domain.store.database import Connection, transpose
from domain.support.texts import clean_text
from domain.write.locks import SchoolLocks

ROWS = 1_000
"""Pupils of one batch at most."""
REPORTED_ROWS = 100_000
"""After how many pupils progress is reported."""
PASSES = 3
"""How often pupils are filled whom servers of an older release write meanwhile."""

_NAMES = ("surname", "forename", "preferred_surname", "preferred_forename")
_FIRST = UUID(int=0)
_FIND = """
SELECT tenant_id, school_id, id FROM pupils
WHERE (tenant_id, school_id, id) > ($1, $2, $3) AND names_rule <> $4 ORDER BY tenant_id, school_id, id LIMIT $5
"""
_COUNT = "SELECT count(*) FROM pupils WHERE names_rule <> $1"
_READ = f"SELECT id, {', '.join(_NAMES)} FROM pupils WHERE tenant_id = $1 AND id = ANY ($2) AND names_rule <> $3"
_CLEAN = f"""
UPDATE pupils p SET {", ".join(f"{name} = g.{name}" for name in _NAMES)}, version = version + 1, changed_at = clock_timestamp(), xid = pg_current_xact_id()
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[]) AS g (id, {", ".join(_NAMES)}) WHERE p.tenant_id = $1 AND p.id = g.id
"""
_FILL = f"""
UPDATE pupils p SET {", ".join(f"{name} = g.{name}" for name in NAME_KEYS)}
FROM unnest($2::uuid[], {", ".join(f"${n}::{'smallint' if name == 'names_rule' else 'text'}[]" for n, name in enumerate(NAME_KEYS, 3))})
    AS g (id, {", ".join(NAME_KEYS)}) WHERE p.tenant_id = $1 AND p.id = g.id
"""


async def renew_names(connection: Connection, report: Callable[[str], None]) -> None:
    """Renews the names of every pupil whose keys were not made by this program's rules, and reports how many.

    The connection is the owner's. Raises DatabaseError where rows stay as they are.
    """
    total = 0
    for _ in range(PASSES):
        expected = await connection.fetchval(_COUNT, NAMES_RULE)
        if not expected:
            break
        renewed = await _renew_once(connection, expected, report)
        if not renewed and await connection.fetchval(_COUNT, NAMES_RULE):
            raise DatabaseError(f"The keys of the names of {expected:,} pupils could not be filled.")
        total += renewed
    if total:
        report(f"Filled the keys by which names are found and sorted, of {_count_pupils(total)}.")
    if remaining := await connection.fetchval(_COUNT, NAMES_RULE):
        report(
            f"An older program has written {_count_pupils(remaining)} meanwhile: run migrate again when its servers have stopped."
        )


def _count_pupils(number: int) -> str:
    return f"{number:,} {'pupil' if number == 1 else 'pupils'}"


async def _renew_once(connection: Connection, expected: int, report: Callable[[str], None]) -> int:
    """Renews every pupil that is found in one walk through the table; returns how many."""
    total, reported = 0, 0
    position = _FIRST, _FIRST, _FIRST
    while rows := await connection.fetch(_FIND, *position, NAMES_RULE, ROWS):
        tenant_id, school_id = rows[0]["tenant_id"], rows[0]["school_id"]
        pupil_ids = [row["id"] for row in rows if (row["tenant_id"], row["school_id"]) == (tenant_id, school_id)]
        async with connection.transaction():
            total += await _renew_batch(connection, tenant_id, school_id, pupil_ids)
        position = tenant_id, school_id, pupil_ids[-1]
        if total - reported >= REPORTED_ROWS:
            reported = total
            report(f"Filling the keys of names: {total:,} of {expected:,} pupils.")
    return total


async def _renew_batch(connection: Connection, tenant_id: UUID, school_id: UUID, pupil_ids: list[UUID]) -> int:
    """Renews these pupils of a school, and increments the data versions of every school that may show them."""
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock([school_id], pupil_ids)
    stored = await connection.fetch(_READ, tenant_id, pupil_ids, NAMES_RULE)
    cleaned = {row["id"]: tuple(_clean_name(row[name]) for name in _NAMES) for row in stored}
    unclean = [(row["id"], *cleaned[row["id"]]) for row in stored if cleaned[row["id"]] != tuple(row[name] for name in _NAMES)]
    if unclean:  # first: the keys of names that an older program wrote are marked as outdated
        _check_count(len(unclean), await connection.execute(_CLEAN, tenant_id, *transpose(unclean, 5)))
    keys = [(id_, *make_name_keys(*names)) for id_, names in cleaned.items()]
    _check_count(len(keys), await connection.execute(_FILL, tenant_id, *transpose(keys, 1 + len(NAME_KEYS))))
    await refresh_same_children(connection, tenant_id, cleaned)
    if keys:
        await locks.increment_versions()
    return len(keys)


def _clean_name(name: Any) -> Any:
    """Returns the name as a program of today would have stored it; as it is where nothing would be left."""
    return name if name is None else clean_text(name) or name


def _check_count(expected: int, status: str) -> None:
    """Raises DatabaseError unless the statement with this status has written the expected number of rows."""
    if int(status.rsplit(" ", 1)[1]) != expected:
        raise DatabaseError(f"{expected:,} pupils were to be written, and the statement ended with {status}.")
