"""Whether a client may still call the API: it is not revoked, and grants in force give the scopes of its token.

Servers remember for a few seconds what they read of a client (`ReachSnapshot`). Statements and transactions notice that
it has changed; then this module asks again, so that a revoked client is refused from its first request on, and one
whose grants have ended gets an error in place of an empty answer.
"""

from collections.abc import Mapping
from uuid import UUID

from domain.access.caller import make_ended_error, make_no_school_error
from domain.access.reach import IN_FORCE, REACHES_SCHOOL
from domain.declare.errors import ClientRevoked
from domain.declare.ids import NIL
from domain.declare.scopes import OF_TENANTS
from domain.store.database import Database

_STANDING = f"""
SELECT x.* FROM (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) c CROSS JOIN LATERAL (
    SELECT ARRAY (
        SELECT DISTINCT scope FROM reach r CROSS JOIN unnest(r.scopes) scope
        WHERE r.client_id = $1 AND (r.tenant_id = $2) = $3 AND {IN_FORCE}
    ) AS scopes, {REACHES_SCHOOL} AS reaches_school
    FROM clients WHERE id = $1 AND revoked_at IS NULL AND c.s IS NOT NULL OFFSET 0
) x
"""
"""The caller is set before anything is read, as `domain.read.statement` does it."""


async def check_standing(database: Database, client_id: UUID, needs: Mapping[str, str], *, installation: bool = False) -> None:
    """Raises ClientRevoked, and Forbidden where a grant that gave a needed scope has ended, or no school is within reach any more.

    `needs` maps each operation, resource or field to the scope it needs: at some school or trust, or on the
    installation. Without any, the client needs some scope.
    """
    row = await database.read(_STANDING, client_id, NIL, installation)
    if row is None:
        raise ClientRevoked()
    ended = {what: scope for what, scope in needs.items() if scope not in row["scopes"]}
    if ended or not row["scopes"]:
        raise make_ended_error(ended or {"request": "a scope"})
    without_school = {what: scope for what, scope in needs.items() if scope not in OF_TENANTS}
    if without_school and not row["reaches_school"] and not installation:
        raise make_no_school_error(without_school)
