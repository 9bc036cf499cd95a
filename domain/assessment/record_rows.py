"""The rows of two records of a pupil: what they are, and which school's scopes a change of both needs."""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Conflict, Forbidden, Issue, make_invalid
from domain.declare.scopes import Scope
from domain.store.database import Connection
from domain.write.dry_run import is_dry_run

NEEDED = (Scope.PUPILS_MERGE, Scope.PUPILS_UPN, Scope.JUDGEMENTS_WRITE)
"""Scopes that are needed at every school where a pupil of the change ever had a spell."""
TABLES = (
    *("pupils", "upns", "external_ids", "enrolments", "characteristics", "shared_pupils", "group_members", "pupil_rolls"),
    *("judgements", "judgement_history", "targets", "target_history", "discounts", "enrolment_history", "characteristic_history"),
)
"""Tables whose rows make a record."""

_FIND = f"SELECT p.* FROM pupils p WHERE p.id = ANY ($2::uuid[]) AND {reaches_sql('$1', 'p.tenant_id', 'p.school_id', '$3')}"
_MISSING = f"""
SELECT scope FROM unnest($3::text[]) AS scope WHERE EXISTS (
    SELECT 1 FROM unnest($4::uuid[]) AS s (school_id) WHERE NOT {reaches_sql("$1", "$2", "s.school_id", "scope")}
)
"""


async def find_records(connection: Connection, caller: Caller, pupil_ids: Collection[UUID]) -> dict[UUID, Any]:
    """Returns the rows of these pupils, of those whose main school is within reach with pupils:merge."""
    rows = await connection.fetch(_FIND, caller.client_id, list(pupil_ids), Scope.PUPILS_MERGE.value)
    return {row["id"]: row for row in rows}


async def find_schools_of(connection: Connection, tenant_id: UUID, pupil_ids: Collection[UUID]) -> set[UUID]:
    """Returns the schools where these pupils have or had a spell, also out of reach."""
    return set(await connection.fetchval("SELECT find_schools_of($1, $2)", tenant_id, list(pupil_ids)))


async def require_everywhere(
    connection: Connection, caller: Caller, tenant_id: UUID, school_ids: Collection[UUID], operation: str
) -> None:
    """Raises Forbidden unless the caller holds every needed scope at each of these schools, by its token and its grants."""
    for scope in NEEDED:
        caller.require_scope(scope, operation)
    missing = await connection.fetch(_MISSING, caller.client_id, tenant_id, [scope.value for scope in NEEDED], list(school_ids))
    if missing:
        message = "{} needs {} at every school where the pupil ever was on roll."
        issues = [Issue(operation, "scope-missing", message.format(operation, row["scope"])) for row in missing]
        raise Forbidden(" ".join(issue.message for issue in issues), issues=tuple(issues))


async def make_confirmation(
    connection: Connection, caller: Caller, tenant_id: UUID, pupil_ids: Iterable[UUID], wish: object
) -> str:
    """Returns the token that a dry run gives for its real call: a digest of the wish and of every row of the records.

    It holds as long as no row of them changes. The rows' transaction numbers, which no client sees, are in it.
    """
    ids = sorted(pupil_ids)
    rows = " UNION ALL ".join(
        f"SELECT t::text || t.xmin::text AS line FROM {table} t"
        f" WHERE t.tenant_id = $1 AND t.{ {'pupils': 'id', 'external_ids': 'id'}.get(table, 'pupil_id') } = ANY ($2)"
        for table in TABLES
    )
    lines = await connection.fetch(f"SELECT line FROM ({rows}) x ORDER BY line", tenant_id, ids)
    text = "\n".join([str(caller.client_id), *map(str, ids), repr(wish), *(row["line"] for row in lines)])
    return hashlib.sha256(text.encode()).hexdigest()


def check_confirmation(sent: object, confirmation: str) -> None:
    """Raises Invalid where a real call comes without the token of a dry run, and Conflict where the token is of other
    data.
    """
    if is_dry_run():
        return
    if not isinstance(sent, str):
        message = "Do a dry run first, and send its confirmation with the real request."
        raise make_invalid([Issue("/confirmation", "confirmation-required", message)])
    if sent != confirmation:
        message = "Something has changed since that dry run. Do it again, and look at what it says."
        issues = (Issue("/confirmation", "confirmation-outdated", message),)
        raise Conflict(message, code="confirmation-outdated", issues=issues)


def choose_main_school(spells: Iterable[Any], otherwise: UUID) -> UUID:
    """Returns the school of the newest main spell that has not ended, else the one that it was before."""
    current = [s for s in spells if s.value in ("C", "M") and s.to_on is None]
    return max(current, key=lambda s: (s.from_on, s.is_remaining)).where if current else otherwise
