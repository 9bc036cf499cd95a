"""Brings stored codes and names of groups and windows, and short names of schools, up to the rules of today: no blanks at
the ends, one blank between words, Unicode's NFC.

A code that was stored before in another way could not be named any more. Where another row of its kind has the code
already, it stays and is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.store.database import Connection
from domain.support.texts import clean_text
from domain.write.locks import SchoolLocks


@dataclass(frozen=True)
class _Texts:
    """The texts of a table: `key` names its rows; a `code` is unique among the rows that agree in `within`.

    `schools` selects the schools whose answers show the row.
    """

    table: str
    noun: str
    key: str
    names: tuple[str, ...]
    schools: str
    code: str | None = None
    within: tuple[str, ...] = ()
    touch: str = "version = version + 1"

    @property
    def columns(self) -> tuple[str, ...]:
        return self.names if self.code is None else (self.code, *self.names)


_CHANGED = "version = version + 1, changed_at = clock_timestamp(), xid = pg_current_xact_id()"
_OWN_SCHOOL = "ARRAY[t.school_id]"
_ALL_SCHOOLS = "ARRAY(SELECT s.id FROM schools s WHERE s.tenant_id = t.tenant_id)"
_TABLES = (
    _Texts("groups", "group", "id", ("name",), _OWN_SCHOOL, "code", ("school_id", "academic_year"), _CHANGED),
    _Texts("windows", "window", "id", ("name",), _ALL_SCHOOLS, "code"),
    _Texts("school_settings", "school", "school_id", ("short_name",), _OWN_SCHOOL),
)
_MAY_BE_UNCLEAN = "t.{0} ~ '^ | $|  |[^ -~]'"


async def clean_codes(connection: Connection, report: Callable[[str], None]) -> None:
    """Cleans every stored code and name of these tables, each row in a transaction; reports how many were cleaned and
    which rows cannot be. The connection is the owner's.
    """
    for texts in _TABLES:
        unclean = " OR ".join(_MAY_BE_UNCLEAN.format(column) for column in texts.columns)
        found = f"SELECT t.tenant_id, t.{texts.key} AS id, {', '.join(texts.columns)} FROM {texts.table} t WHERE {unclean} ORDER BY 1, 2"
        cleaned = 0
        for row in await connection.fetch(found):
            if _list_changes(texts, row):
                async with connection.transaction():
                    changes = await _clean_row(connection, texts, row["tenant_id"], row["id"], report)
                cleaned += bool(changes)
        if cleaned:
            report(f"Removed blanks from texts of {cleaned:,} {texts.noun}{'' if cleaned == 1 else 's'}, or wrote them in NFC.")


async def _clean_row(
    connection: Connection, texts: _Texts, tenant_id: UUID, id_: UUID, report: Callable[[str], None]
) -> dict[str, str]:
    """Cleans the texts of one row, and increments the data versions of the schools that show it. Returns the new texts."""
    of_row = f"FROM {texts.table} t WHERE t.tenant_id = $1 AND t.{texts.key} = $2"
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock(await connection.fetchval(f"SELECT {texts.schools} {of_row}", tenant_id, id_) or [], [])
    row = await connection.fetchrow(f"SELECT {', '.join(texts.columns)} {of_row}", tenant_id, id_)
    changes = {} if row is None else _list_changes(texts, row)
    if texts.code in changes:
        same = " AND ".join(f"o.{column} = t.{column}" for column in ("tenant_id", *texts.within))
        taken = f"SELECT EXISTS (SELECT 1 FROM {texts.table} o WHERE {same} AND o.{texts.code} = $3) {of_row}"
        if await connection.fetchval(taken, tenant_id, id_, changes[texts.code]):
            report(f"The code of {texts.noun} {id_} would be that of another one without blanks and in NFC, and stays.")
            del changes[texts.code]
    if changes:
        written = ", ".join(f"{column} = ${n}" for n, column in enumerate(changes, 3))
        statement = f"UPDATE {texts.table} t SET {written}, {texts.touch} WHERE t.tenant_id = $1 AND t.{texts.key} = $2"
        await connection.execute(statement, tenant_id, id_, *changes.values())
        await locks.increment_versions()
    return changes


def _list_changes(texts: _Texts, row: Any) -> dict[str, str]:
    """Returns the texts of a row that are not clean, as they should be, by column."""
    cleaned = {column: clean_text(row[column]) for column in texts.columns if row[column] is not None}
    return {column: text for column, text in cleaned.items() if text not in ("", row[column])}
