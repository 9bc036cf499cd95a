"""Brings texts that older programs have stored up to the rules of this one: references, names with their keys, codes.

`migrate` runs it after the migrations (migrations/after.py). Run again, it changes nothing. What would become the same as
another row's is never merged: it stays and is reported.
"""

from collections.abc import Callable

from domain.declare.errors import DatabaseError
from domain.roster.stored_codes import clean_codes
from domain.roster.stored_names import renew_names
from domain.roster.stored_references import clean_references
from domain.store.database import Connection

_TABLES = ("external_ids", "pupils", "groups", "windows", "school_settings", "school_versions", "data_issues", "enrolments")
_HIDDEN = """
SELECT c.relname FROM unnest($1::text[]) AS g (name) JOIN pg_class c ON c.oid = g.name::regclass
WHERE row_security_active(c.oid) AND NOT EXISTS (
    SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd = '*' AND pg_get_expr(p.polqual, p.polrelid) = 'true'
        AND EXISTS (SELECT 1 FROM unnest(p.polroles) AS r WHERE r = 0 OR pg_has_role(r, 'USAGE'))
) ORDER BY 1
"""


async def renew_texts(connection: Connection, report: Callable[[str], None]) -> None:
    """Renews all stored texts, and reports what was changed and what cannot be. The connection is the owner's.

    Raises DatabaseError where row-level security would hide rows: a statement then finds too few and says nothing.
    """
    if hidden := [row["relname"] for row in await connection.fetch(_HIDDEN, list(_TABLES))]:
        raise DatabaseError(
            f"Row-level security hides rows of {', '.join(hidden)} from this role: its policy maintenance is missing."
        )
    await clean_references(connection, report)
    await renew_names(connection, report)
    await clean_codes(connection, report)
