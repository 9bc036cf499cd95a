"""Imports GIAS files for a client that holds imports:write on the installation."""

from collections.abc import Sequence
from datetime import date

from domain.access.caller import Caller, Need, make_scope_error
from domain.access.reach import IN_FORCE
from domain.access.standing import check_standing
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import NIL
from domain.declare.scopes import Scope
from domain.roster.gias import parse
from domain.roster.gias.apply import apply_gias
from domain.roster.gias.extract_day import record_extract_day
from domain.roster.gias.report import ImportReport
from domain.store.database import Connection, Database
from domain.support.slices import run_in_thread

IMPORT = "importGias"
"""The operation's name in error messages."""

_HAS_SCOPE = f"""
SELECT 1 FROM reach r WHERE r.client_id = $1 AND r.tenant_id = $2 AND $3 = ANY (r.scopes) AND {IN_FORCE}
"""


def require_import_scope(caller: Caller) -> None:
    """Raises Forbidden unless the caller has the scope, at a school or on the installation."""
    if Scope.IMPORTS_WRITE not in caller.of_installation:
        caller.require_scope(Scope.IMPORTS_WRITE, IMPORT)


async def import_gias(
    database: Database, caller: Caller, files: Sequence[tuple[str, bytes]], as_of: date, force: bool
) -> ImportReport:
    """Parses GIAS files and applies them to the register in one transaction; returns the report.

    Raises Forbidden without the scope on the installation, and Invalid if no row could be parsed or, unless `force`, if
    the extract is older than the last one.
    """
    require_import_scope(caller)
    if Scope.IMPORTS_WRITE in caller.of_installation:
        await check_standing(database, caller.client_id, {IMPORT: Need(Scope.IMPORTS_WRITE)}, installation=True)
    extract = await run_in_thread(parse.parse_gias, files)
    if not (extract.establishments or extract.groups or extract.links):
        raise make_invalid(
            [
                Issue(f"/files/{issue.file}", issue.code, f"{issue.message} (line {issue.line}, {issue.column})")
                for issue in extract.issues
            ],
            "No row could be read.",
        )

    async def work(connection: Connection) -> ImportReport:
        if await connection.fetchval(_HAS_SCOPE, caller.client_id, NIL, Scope.IMPORTS_WRITE.value) is None:
            raise make_scope_error({IMPORT: f"{Scope.IMPORTS_WRITE} on the installation"})
        await record_extract_day(connection, as_of, force=force)
        return await apply_gias(connection, extract, as_of)

    return await database.run_transaction(caller.client_id, work)
