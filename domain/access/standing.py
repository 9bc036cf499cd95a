"""Whether a client may still call the API: it is not revoked, and grants in force give the scopes of its token.

Servers remember for a few seconds what they read of a client (`ReachSnapshot`). Statements and transactions notice that
it has changed; then this module asks again, so that a revoked client is refused from its first request on, and one
whose grants have ended gets an error in place of an empty answer.
"""

from collections.abc import Mapping
from uuid import UUID

from domain.access.caller import Need, make_ended_error, make_no_school_error
from domain.access.reach import IN_FORCE, IS_SCHOOL, set_caller_first
from domain.declare.errors import ClientRevoked
from domain.declare.ids import NIL
from domain.store.database import Database

_STANDING = set_caller_first(f"""
    SELECT r.scopes, r.at_schools, r.of_installation
    FROM clients CROSS JOIN LATERAL (
        SELECT array_agg(DISTINCT scope) FILTER (WHERE r.tenant_id <> $2) AS scopes, array_agg(DISTINCT scope) FILTER (WHERE {IS_SCHOOL}) AS at_schools,
            array_agg(DISTINCT scope) FILTER (WHERE r.tenant_id = $2) AS of_installation
        FROM reach r CROSS JOIN unnest(r.scopes) scope
        WHERE r.client_id = $1 AND {IN_FORCE}
    ) r WHERE id = $1 AND revoked_at IS NULL AND c.s IS NOT NULL OFFSET 0
""")


async def check_standing(database: Database, client_id: UUID, needs: Mapping[str, Need], *, installation: bool = False) -> None:
    """Raises ClientRevoked, and Forbidden where a grant that gave a needed scope has ended, or no school is within reach with it any more.

    `needs` maps each operation, resource or field to the scope it needs, on the `installation` alone if that is said. Without any, the client needs some
    scope.
    """
    row = await database.read(_STANDING, client_id, NIL)
    if row is None:
        raise ClientRevoked()
    of_installation = frozenset[str](row["of_installation"] or ())
    scopes = of_installation if installation else frozenset[str](row["scopes"] or ())
    at_schools = of_installation if installation else frozenset[str](row["at_schools"] or ())
    needs = {what: need for what, need in needs.items() if not (need.on_installation and need.scope in of_installation)}
    ended = {what: need.scope for what, need in needs.items() if not need.is_among(scopes)}
    if ended or not scopes | of_installation:
        raise make_ended_error(ended or {"request": "a scope"})
    without_school = {what: need.scope for what, need in needs.items() if need.at_school and not need.is_among(at_schools)}
    if without_school:
        raise make_no_school_error(without_school)
