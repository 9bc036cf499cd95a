"""Which extracts of GIAS may be imported: none that is older than the last one, unless the importer insists."""

from datetime import date, timedelta

from domain.declare.errors import Issue, make_invalid
from domain.store.database import Connection
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
        await connection.execute(_RECORD, as_of, last is not None and as_of < last)
