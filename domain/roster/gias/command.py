"""The register import as a client asks for it: only with imports:write on the installation itself."""

from collections.abc import Sequence
from datetime import date

from domain.access.caller import Caller, make_scope_error
from domain.access.reach import IN_FORCE
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import NIL
from domain.declare.scopes import Scope
from domain.roster.gias import parse
from domain.roster.gias.apply import ImportReport, apply_gias
from domain.store.database import Connection, Database
from domain.support.slices import run_in_thread

IMPORT = "importGias"
"""The operation, as a refusal names it."""

_MAY = f"""
SELECT 1 FROM reach r WHERE r.client_id = $1 AND r.tenant_id = $2 AND $3 = ANY (r.scopes) AND {IN_FORCE}
"""


async def import_gias(database: Database, caller: Caller, files: Sequence[tuple[str, bytes]], as_of: date) -> ImportReport:
    """Reads GIAS files and brings the register up to them, in one transaction. Raises Forbidden without the scope on the installation."""
    caller.require_scope(Scope.IMPORTS_WRITE, IMPORT)
    extract = await run_in_thread(parse.read, files)
    if not (extract.establishments or extract.groups or extract.links):
        raise make_invalid(
            [Issue(f"/files/{i.file}", i.code, f"{i.message} (line {i.line}, {i.column})") for i in extract.issues],
            "No row could be read.",
        )

    async def work(connection: Connection) -> ImportReport:
        if await connection.fetchval(_MAY, caller.client_id, NIL, Scope.IMPORTS_WRITE.value) is None:
            raise make_scope_error({IMPORT: f"{Scope.IMPORTS_WRITE} on the installation"})
        return await apply_gias(connection, extract, as_of)

    return await database.run_transaction(caller.client_id, work)
