"""Grants: what a school, a trust or the operator of the installation has approved for a client, and for what purpose.

A scope alone is never enough: a client sees a row where a grant in force gives it the scope at the row's school. The
operator role writes grants, from the command line. The same transaction derives the client's reach.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias, get_args
from uuid import UUID

from domain.assessment.tenant_setup import prepare_tenant
from domain.clients.clients import lock_client
from domain.declare.errors import Conflict, Issue, NotFound, make_invalid
from domain.declare.ids import new_id
from domain.declare.scopes import Scope
from domain.declare.type_numbers import GRANT
from domain.store.database import Connection
from domain.support.suggestions import Suggestions

Target: TypeAlias = Literal["installation", "trusts", "schools", "trust", "school"]
TARGETS: tuple[Target, ...] = get_args(Target)
KEYS = {"school": "URN", "trust": "GIAS group UID"}


@dataclass(frozen=True)
class GrantRequest:
    """The target and the scopes of a grant to make. `key` is a school's URN or a trust's GIAS group UID, and None for
    other targets."""

    target: Target
    key: int | None
    scopes: tuple[Scope, ...]


@dataclass(frozen=True)
class Grant:
    """A stored grant. `target` is written as parse_grant reads it. It is in force between its dates unless it is
    revoked."""

    id: UUID
    client_id: UUID
    target: str
    scopes: list[str]
    purpose: str
    agreement_version: str | None
    approved_by: str
    approved_at: datetime
    starts_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


def parse_grant(text: str) -> GrantRequest:
    """Reads TARGET=SCOPES, such as `school:125123=pupils:read,judgements:write`, `trust:4128=all` or
    `installation=schools:write`.

    `all` means every scope that exists when the grant is made. Raises ValueError, which names everything that is wrong.
    """
    target_text, equals, scopes_text = text.partition("=")
    name, colon, key = target_text.strip().partition(":")
    suggestions = Suggestions()
    wrong = [] if equals else ["TARGET=SCOPES is expected, such as school:125123=pupils:read,judgements:write"]
    target = next((target for target in TARGETS if target == name), None)
    if target is None:
        wrong.append(f"there is no target {name!r}.{suggestions.suggest(name, TARGETS)} The targets are {', '.join(TARGETS)}")
    elif target in KEYS and not (key.isascii() and key.isdigit() and len(key) <= 9):
        wrong.append(f"{target} needs its {KEYS[target]}, a number, as in {target}:125123")
    elif colon and target not in KEYS:
        wrong.append(f"{target} takes no number")
    names = [scope.strip() for scope in scopes_text.split(",") if scope.strip()]
    if equals and not names:
        wrong.append("no scope is named")
    known_names = [scope.value for scope in Scope]
    wrong += [
        f"there is no scope {scope!r}.{suggestions.suggest(scope, known_names)}"
        for scope in names
        if scope not in known_names and scope != "all"
    ]
    if wrong or target is None:
        problems = "; ".join(problem.rstrip(".") for problem in wrong)
        raise ValueError(f"{text}: {problems}" + ("" if problems.endswith("?") else "."))
    scopes = tuple(scope for scope in Scope if "all" in names or scope.value in names)
    return GrantRequest(target, int(key) if target in KEYS else None, scopes)


async def approve_grant(
    connection: Connection,
    client_id: UUID,
    request: GrantRequest,
    *,
    purpose: str,
    approved_by: str,
    agreement_version: str | None = None,
    expires_at: datetime | None = None,
) -> UUID:
    """Stores a grant, derives the client's reach, and prepares a tenant that is reached for the first time. Returns the
    grant's id.

    Raises NotFound without such a client, Conflict where it is revoked, and Invalid with every issue.
    """
    async with connection.transaction():
        client = await lock_client(connection, client_id)
        if client.revoked_at is not None:
            raise Conflict(f"The client {client.name!r} is revoked.", code="client-revoked")
        target_id, tenant_id, issues = await _find_target(connection, request)
        issues += _require_texts({"purpose": purpose, "approvedBy": approved_by})
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= datetime.now(UTC)):
            issues.append(
                Issue("/expiresAt", "wrong-value", "A grant expires at an instant, with its time zone, that is still to come.")
            )
        if issues:
            raise make_invalid(issues)
        grant_id = new_id(GRANT)
        await connection.execute(
            "INSERT INTO grants (id, client_id, target, target_id, scopes, purpose, agreement_version, approved_by, expires_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *(grant_id, client_id, request.target, target_id, [*request.scopes]),
            *(purpose, agreement_version, approved_by, expires_at),
        )
        if tenant_id is not None:
            await prepare_tenant(connection, tenant_id)
        await _derive_reach(connection, client_id)
        return grant_id


async def revoke_grant(connection: Connection, grant_id: UUID) -> None:
    """Ends a grant and the reach it gave. Revoking it again changes nothing. Raises NotFound."""
    async with connection.transaction():
        client_id = await connection.fetchval("SELECT client_id FROM grants WHERE id = $1", grant_id)
        if client_id is None:
            raise NotFound
        await lock_client(connection, client_id)
        await connection.execute("UPDATE grants SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL", grant_id)
        await _derive_reach(connection, client_id)


_GRANTS = """
SELECT g.id, g.client_id, g.target || COALESCE(':' || s.urn, ':' || t.group_uid, '') AS target, g.scopes, g.purpose, g.agreement_version,
    g.approved_by, g.approved_at, g.starts_at, g.expires_at, g.revoked_at
FROM grants g
LEFT JOIN schools s ON g.target = 'school' AND s.id = g.target_id
LEFT JOIN trusts t ON g.target = 'trust' AND t.id = g.target_id
WHERE g.client_id = $1
ORDER BY g.id
"""


async def list_grants(connection: Connection, client_id: UUID) -> list[Grant]:
    """Returns every grant of a client, oldest first, with those that have expired or are revoked."""
    return [Grant(**row) for row in await connection.fetch(_GRANTS, client_id)]


async def _find_target(connection: Connection, request: GrantRequest) -> tuple[UUID | None, UUID | None, list[Issue]]:
    """Returns the ids of the school or trust and of the tenant that controls its data; None for a target of many."""
    if request.key is None:
        return None, None, []
    query = {
        "school": "SELECT id, tenant_id FROM schools WHERE urn = $1",
        "trust": "SELECT id, id AS tenant_id FROM trusts WHERE group_uid = $1",
    }
    row = await connection.fetchrow(query[request.target], request.key)
    if row is None:
        message = f"There is no {request.target} with the {KEYS[request.target]} {request.key} in the register. Import GIAS first."
        return None, None, [Issue("/target", f"{request.target}-not-found", message)]
    return row["id"], row["tenant_id"], []


def _require_texts(texts: dict[str, str]) -> list[Issue]:
    return [Issue(f"/{name}", "required", f"{name} is required.") for name, text in texts.items() if not text.strip()]


async def _derive_reach(connection: Connection, client_id: UUID) -> None:
    await connection.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)
