"""Which extracts of GIAS may be imported: none that is older than the last one, unless the importer insists.

The day is in the ledger too: in a register of before, a school that has left a trust belongs to it still.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from domain.declare.errors import Issue, make_invalid
from domain.store.database import Connection
from domain.store.ledger_notes import note
from domain.store.ledger_reapply import MustBeImported, Reapplied
from domain.support import clock

_LOCK = "LOCK TABLE register_imports IN SHARE ROW EXCLUSIVE MODE"
_LAST = "SELECT as_of FROM register_imports ORDER BY imported_at DESC LIMIT 1"
_RECORD = "INSERT INTO register_imports (as_of, forced) VALUES ($1, $2)"


async def record_extract_day(connection: Connection, as_of: date, *, force: bool) -> None:
    """Records that an extract of this day is imported in this transaction.

    Raises Invalid for a day after tomorrow and, unless `force`, for one before that of the last import.
    """
    if as_of > clock.read_today() + timedelta(days=1):
        raise make_invalid([Issue("/asOf", "as-of-implausible", "asOf lies after tomorrow: it is the day of the extract.")])
    await connection.execute(_LOCK)
    last = await connection.fetchval(_LAST)
    if last is not None and as_of < last and not force:
        message = f"The register is of an extract of {last}, and this one is older. Import a newer one, or send force=true (on the command line, --force)."
        raise make_invalid([Issue("/asOf", "gias-extract-older", message)])
    if as_of != last:
        is_older = last is not None and as_of < last
        await connection.execute(_RECORD, as_of, is_older)
        if not is_older:
            note("register", {"asOf": as_of.isoformat()})


async def require_register(connection: Connection, facts: Mapping[str, Any]) -> Reapplied:
    """Raises MustBeImported where the register is of an extract before the one that an entry of the ledger says was imported."""
    day, last = date.fromisoformat(facts["asOf"]), await connection.fetchval(_LAST)
    if last is None or last < day:
        raise MustBeImported(
            f"The register is {'empty' if last is None else f'of an extract of {last}'}, and one of {day} was imported after this backup: a school that"
            " has left a trust since then would be read by it. Import that one or a newer one: `python -m api import gias … --as-of DAY`."
        )
    return Reapplied.NOTHING_TO_DO
