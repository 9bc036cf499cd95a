"""Grants: what a school, a trust or the operator of the installation has approved for a client, and for what purpose.

A scope alone is never enough: a client sees a row where a grant in force gives it the scope at the row's school. The
functions here write grants as the operator, for the command line; clients give them by functions of the owner alone
(change_grant.py). The same transaction derives the client's reach.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args
from uuid import UUID

from domain.assessment.tenant_setup import prepare_tenant
from domain.clients.clients import find_unconfirmed, lock_client
from domain.clients.revocations import note_grants
from domain.declare.errors import Conflict, Issue, NotFound, make_invalid
from domain.declare.ids import new_id
from domain.declare.scopes import NAMED_ALONE, OF_INSTALLATION, Scope
from domain.declare.type_numbers import GRANT
from domain.store.database import Connection
from domain.support.suggestions import Suggestions

Target: TypeAlias = Literal["installation", "trusts", "schools", "localAuthority", "trust", "school"]
Kind: TypeAlias = Literal["front-end", "sync", "analytics"]
"""What a client does with the data: shows it to people, copies it to another system, or evaluates it."""
TARGETS: tuple[Target, ...] = get_args(Target)
KINDS: tuple[Kind, ...] = get_args(Kind)
LA_DIGITS = 3
"""Digits of the code of a local authority."""
KEYS = {"school": "URN", "trust": "GIAS group UID", "localAuthority": "code of three digits"}


@dataclass(frozen=True)
class GrantRequest:
    """The target and the scopes of a grant to make. `key` is a school's URN, a trust's GIAS group UID or a local
    authority's code, and None for other targets."""

    target: Target
    key: int | None
    scopes: tuple[Scope, ...]


@dataclass(frozen=True)
class Grant:
    """A stored grant. `target` is written as parse_grant reads it. It is in force between its dates unless it is
    revoked. `given_by` is the client that gave it, None for the command line. Where that client has ended, the grant ends
    at `confirm_by` unless it is confirmed; `expires_at` says so."""

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
    kind: Kind | None = None
    given_by: UUID | None = None
    confirm_by: datetime | None = None


def parse_grant(text: str) -> GrantRequest:
    """Reads TARGET=SCOPES, such as `school:125123=pupils:read,judgements:write`, `trust:4128=all` or
    `installation=schools:write`.

    `all` means every scope that exists when the grant is made, without those of NAMED_ALONE. Raises ValueError, which names
    everything that is wrong.
    """
    target_text, equals, scopes_text = text.partition("=")
    name, colon, key = target_text.strip().partition(":")
    suggestions = Suggestions()
    wrong = [] if equals else ["TARGET=SCOPES is expected, such as school:125123=pupils:read,judgements:write"]
    target = next((target for target in TARGETS if target == name), None)
    if target is None:
        wrong.append(f"there is no target {name!r}.{suggestions.suggest(name, TARGETS)} The targets are {', '.join(TARGETS)}")
    elif target == "localAuthority" and not (key.isascii() and key.isdigit() and len(key) == LA_DIGITS):
        wrong.append(f"{target} needs its {KEYS[target]}, as in {target}:936")
    elif target in KEYS and not (key.isascii() and key.isdigit() and len(key) <= 9):
        wrong.append(f"{target} needs its {KEYS[target]}, a number, as in {target}:125123")
    elif colon and target not in KEYS:
        wrong.append(f"{target} takes no number")
    if equals and not scopes_text.replace(",", "").strip():
        wrong.append("no scope is named")
    scopes, wrong_scopes = read_scopes(scopes_text)
    wrong += wrong_scopes
    if wrong or target is None:
        raise ValueError(f"{text}: {_join_sentences(wrong)}")
    return GrantRequest(target, int(key) if target in KEYS else None, scopes)


def read_scopes(text: str) -> tuple[tuple[Scope, ...], list[str]]:
    """Returns the scopes that a text names with commas, in their order, and what is wrong with it."""
    names = [scope.strip() for scope in text.split(",") if scope.strip()]
    suggestions, known_names = Suggestions(), [scope.value for scope in Scope]
    wrong = [
        f"there is no scope {scope!r}.{suggestions.suggest(scope, known_names)}"
        for scope in names
        if scope not in known_names and scope != "all"
    ]
    has_all = "all" in names
    return tuple(scope for scope in Scope if scope in names or (has_all and scope not in NAMED_ALONE)), wrong


def find_useless_scopes(request: GrantRequest) -> list[str]:
    """Returns the scopes of a grant on the installation that give nothing there, which reaches the register, clients and
    operations alone."""
    return sorted({*request.scopes} - OF_INSTALLATION) if request.target == "installation" else []


def has_ended(grant: Grant) -> bool:
    """Whether a grant has ended or expired."""
    return grant.revoked_at is not None or (grant.expires_at is not None and grant.expires_at <= datetime.now(UTC))


def _join_sentences(wrong: list[str]) -> str:
    problems = "; ".join(problem.rstrip(".") for problem in wrong)
    return problems + ("" if problems.endswith("?") else ".")


async def approve_grant(
    connection: Connection,
    client_id: UUID,
    request: GrantRequest,
    *,
    purpose: str,
    approved_by: str,
    agreement_version: str | None = None,
    expires_at: datetime | None = None,
    kind: Kind | None = None,
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
        if expires_at is not None:
            issues += check_expiry(expires_at)
        if issues:
            raise make_invalid(issues)
        grant_id = new_id(GRANT)
        authority = f"{request.key:0{LA_DIGITS}}" if request.target == "localAuthority" else None
        await connection.execute(
            "INSERT INTO grants (id, client_id, target, target_id, scopes, purpose, agreement_version, approved_by, expires_at, kind, local_authority)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            *(grant_id, client_id, request.target, target_id, [*request.scopes]),
            *(purpose, agreement_version, approved_by, expires_at, kind, authority),
        )
        if tenant_id is not None:
            await prepare_tenant(connection, tenant_id)
        await _derive_reach(connection, client_id)
        return grant_id


def check_expiry(expires_at: datetime) -> list[Issue]:
    """Returns the issue of an instant at which no grant can expire."""
    if expires_at.tzinfo is not None and expires_at > datetime.now(UTC):
        return []
    return [
        Issue(
            "/expiresAt",
            "wrong-value",
            "It would have expired already: name a day or an instant, with its time zone, that is still to come.",
        )
    ]


async def revoke_grant(connection: Connection, grant_id: UUID) -> list[UUID]:
    """Ends a grant and the reach it gave. Ending it again changes nothing. Returns what `narrow_grant` does. Raises NotFound."""
    return await _change_grant(connection, grant_id, "revoked_at = COALESCE(g.revoked_at, now())")


async def narrow_grant(
    connection: Connection, grant_id: UUID, scopes: Collection[Scope] | None = None, expires_at: datetime | None = None
) -> list[UUID]:
    """Leaves a grant these of its scopes, and lets it expire sooner; None leaves either as it is. Returns the ids of the grants
    that its client gave and holds no more, which end in 30 days unless they are confirmed.

    Raises NotFound, Conflict where the grant has ended, and Invalid with every issue.
    """
    grant = await _lock_grant(connection, grant_id)
    issues = [] if expires_at is None else check_expiry(expires_at)
    if expires_at is not None and grant.expires_at is not None and expires_at > grant.expires_at:
        issues.append(Issue("/expiresAt", "grant-too-wide", "The grant expires sooner. Extend it instead."))
    more = sorted({scope.value for scope in scopes or ()}.difference(grant.scopes))
    issues += [Issue("/scopes", "grant-too-wide", f"The grant does not hold {scope}: add a grant instead.") for scope in more]
    if scopes is not None and not scopes:
        issues.append(Issue("/scopes", "required", "A grant keeps a scope. End it instead."))
    if issues:
        raise make_invalid(issues)
    names = grant.scopes if scopes is None else [scope.value for scope in Scope if scope in scopes]
    changes = (
        "scopes = $2, expires_at = LEAST(g.expires_at, $3::timestamptz),"
        " approved_until = CASE WHEN g.confirm_by IS NOT NULL THEN LEAST(g.approved_until, $3::timestamptz) END"
    )  # LEAST passes over what is null
    return await _change_grant(connection, grant_id, changes, names, expires_at)


async def extend_grant(connection: Connection, grant_id: UUID, expires_at: datetime | None) -> None:
    """Lets a grant expire later, or never (None). Raises NotFound, Conflict where it has ended or awaits confirmation, and
    Invalid."""
    grant = await _lock_grant(connection, grant_id)
    if grant.confirm_by is not None:
        raise make_unconfirmed_error()
    issues = [] if expires_at is None else check_expiry(expires_at)
    if expires_at is not None and (grant.expires_at is None or expires_at < grant.expires_at):
        issues.append(Issue("/expiresAt", "wrong-value", "The grant lasts longer already. Narrow it instead."))
    if issues:
        raise make_invalid(issues)
    await _change_grant(connection, grant_id, "expires_at = $2", expires_at, takes=False)


async def confirm_grant(connection: Connection, grant_id: UUID) -> None:
    """Keeps a grant whose giver has ended, as the operator's own: it expires when it was approved to. Raises NotFound, and
    Conflict where it has ended or awaits no confirmation."""
    grant = await _lock_grant(connection, grant_id)
    if grant.confirm_by is None:
        raise make_confirmed_error()
    changes = "expires_at = g.approved_until, approved_until = NULL, confirm_by = NULL, given_by = NULL"
    await _change_grant(connection, grant_id, changes, takes=False)


def make_unconfirmed_error() -> Conflict:
    """Returns the error of a grant that cannot be extended yet."""
    return Conflict("The client that gave the grant has ended. Confirm the grant first.", code="grant-unconfirmed")


def make_confirmed_error() -> Conflict:
    """Returns the error of a grant whose giver has not ended."""
    return Conflict("The grant awaits no confirmation.", code="grant-confirmed")


def make_over_error() -> Conflict:
    """Returns the error of a grant that has ended or expired: whoever approves it again makes a new one."""
    return Conflict("The grant has ended. Add a new one.", code="grant-over")


async def _lock_client_of(connection: Connection, grant_id: UUID) -> UUID:
    """Locks the client of a grant, and returns its id. Raises NotFound."""
    client_id: UUID | None = await connection.fetchval("SELECT client_id FROM grants WHERE id = $1", grant_id)
    if client_id is None:
        raise NotFound
    await lock_client(connection, client_id)
    return client_id


async def _lock_grant(connection: Connection, grant_id: UUID) -> Grant:
    """Locks the client of a grant that has not ended, as whoever derives its reach does, and returns the grant. Raises NotFound
    and Conflict."""
    await _lock_client_of(connection, grant_id)
    grant = await read_grant(connection, grant_id)
    if has_ended(grant):
        raise make_over_error()
    return grant


async def _change_grant(connection: Connection, grant_id: UUID, changes: str, *values: Any, takes: bool = True) -> list[UUID]:
    """Writes columns of a grant and derives its client's reach. Returns the grants that the client gave and holds no more.

    What `takes` something away is noted for the ledger."""
    async with connection.transaction():
        client_id = await _lock_client_of(connection, grant_id)
        await connection.execute(f"UPDATE grants g SET {changes} WHERE id = $1", grant_id, *values)
        if takes:
            await note_grants(connection, [grant_id])
        await _derive_reach(connection, client_id)
        return await find_unconfirmed(connection, client_id)


_GRANTS = """
SELECT g.id, g.client_id, g.target || COALESCE(':' || s.urn, ':' || t.group_uid, ':' || g.local_authority, '') AS target, g.scopes, g.purpose,
    g.agreement_version, g.approved_by, g.approved_at, g.starts_at, g.expires_at, g.revoked_at, g.kind, g.given_by, g.confirm_by
FROM grants g
LEFT JOIN schools s ON g.target = 'school' AND s.id = g.target_id
LEFT JOIN trusts t ON g.target = 'trust' AND t.id = g.target_id
"""


async def read_grant(connection: Connection, grant_id: UUID) -> Grant:
    """Returns a grant that there is."""
    (row,) = await connection.fetch(f"{_GRANTS} WHERE g.id = $1", grant_id)
    return Grant(**row)


async def list_grants(connection: Connection, client_id: UUID) -> list[Grant]:
    """Returns every grant of a client, oldest first, with those that have expired or are revoked."""
    return [Grant(**row) for row in await connection.fetch(f"{_GRANTS} WHERE g.client_id = $1 ORDER BY g.id", client_id)]


async def list_unconfirmed(connection: Connection) -> list[Grant]:
    """Returns the grants that end unless they are confirmed, those that end first before others."""
    condition = "g.confirm_by > now() AND g.revoked_at IS NULL ORDER BY g.confirm_by, g.id"
    return [Grant(**row) for row in await connection.fetch(f"{_GRANTS} WHERE {condition}")]


async def find_tenant_of(connection: Connection, request: GrantRequest) -> UUID:
    """Returns the tenant that a target names: a trust, or a school without one. Raises Invalid."""
    target_id, tenant_id, issues = await _find_target(connection, request)
    if not issues and (target_id is None or target_id != tenant_id):
        message = "A client belongs to a trust (trust:UID) or to a school without one (school:URN)."
        issues.append(Issue("/tenant", "wrong-value", message))
    if issues or tenant_id is None:
        raise make_invalid(issues)
    return tenant_id


async def _find_target(connection: Connection, request: GrantRequest) -> tuple[UUID | None, UUID | None, list[Issue]]:
    """Returns the ids of the school or trust and of the tenant that controls its data; None for a target of many."""
    if request.key is None:
        return None, None, []
    if request.target == "localAuthority":
        code = f"{request.key:0{LA_DIGITS}}"
        if await connection.fetchval("SELECT true FROM schools WHERE local_authority_code = $1 LIMIT 1", code):
            return None, None, []
        message = f"No school of the register has the local authority {code}. Import GIAS first."
        return None, None, [Issue("/target", "local-authority-not-found", message)]
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
