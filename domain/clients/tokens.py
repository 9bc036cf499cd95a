"""What the token endpoint relies on and leaves behind: `exchange` loads facts, lets a decision be made of them in memory, and persists its effects.

A decision takes no lock and no connection. Its effects are written on the condition that what it used up was still unused; otherwise it is made again,
of facts that show who was first. A grant that redeems something (a code, a refresh token) adds what it reads to Facts and what it uses up to Effects.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from joserfc.jwk import ECKey, KeySetSerialization

from domain.clients.clients import CURRENT_KEY, decrypt_signing_key
from domain.declare.errors import Busy, DatabaseError
from domain.store.cleanup import clean_up_rows
from domain.store.database import MAX_ATTEMPTS, Connection, Database

T = TypeVar("T")

CLEANUP = (clean_up_rows("used assertions", "used_assertions", "expires_at <= now()"),)


class Attempt(NamedTuple):
    """The client that a request names, and the jti of its assertion, which is empty where there is none."""

    client_id: UUID
    jti: str = ""


@dataclass(frozen=True)
class Assertion:
    """A signed assertion (RFC 7523) that was accepted; the same jti is refused until it would have expired anyway."""

    jti: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What a client can prove itself with, at `now` by the database's clock. A client that is unknown or revoked looks like one without secrets and
    keys. `is_used` says that the assertion of the attempt was accepted before."""

    client_id: UUID
    now: datetime
    secret_hashes: list[bytes]
    jwks: KeySetSerialization | None
    is_used: bool

    def has_secret(self, secret: str) -> bool:
        """Compares with every secret in force in constant time, and for a client without any with one that nothing hashes to."""
        presented = hashlib.sha256(secret.encode()).digest()
        return True in [hmac.compare_digest(presented, stored) for stored in self.secret_hashes or [bytes(32)]]


@dataclass(frozen=True, kw_only=True)
class ClientRecord(Credentials):
    """The client that a request names. One that is unknown or revoked has no scope."""

    scopes: frozenset[str]


@dataclass(frozen=True)
class Facts:
    """All that a decision relies on, as one statement read it."""

    client: ClientRecord
    kid: str | None
    encrypted_key: bytes | None

    def signing_key(self, secret: bytes) -> ECKey:
        """The installation's current private key, which signs the token. Raises DatabaseError when there is none."""
        if self.kid is None or self.encrypted_key is None:
            raise DatabaseError("There is no signing key yet: init makes one.")
        return decrypt_signing_key(self.kid, self.encrypted_key, secret)


@dataclass
class Effects:
    """What a decision changes. It is written whether or not a token is issued: an assertion that was accepted is used up by an error too."""

    used_assertion: Assertion | None = None


_SECRET_HASHES = """COALESCE((
        SELECT array_agg(sha256) FROM client_secrets WHERE client_id = c.id AND (expires_at IS NULL OR expires_at > now())
    ), '{}')"""  # noqa: S105 (an expression)
_CREDENTIALS = f"""
SELECT now() AS now, c.jwks::text AS jwks, {_SECRET_HASHES} AS secret_hashes,
    EXISTS (SELECT FROM used_assertions u WHERE u.client_id = attempt.id AND u.jti = attempt.jti) AS is_used
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY attempt (id, jti, number)
LEFT JOIN clients c ON c.id = attempt.id AND c.revoked_at IS NULL
ORDER BY number
"""
_FACTS = f"""
SELECT x.* FROM (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) caller CROSS JOIN LATERAL (
    SELECT now() AS now, c.jwks::text AS jwks, k.kid, k.private_encrypted AS encrypted_key, {_SECRET_HASHES} AS secret_hashes,
        EXISTS (SELECT FROM used_assertions WHERE client_id = $1 AND jti = $2) AS is_used,
        COALESCE((SELECT array_agg(DISTINCT scope) FROM (
            SELECT DISTINCT scopes FROM reach WHERE client_id = c.id AND starts_at <= now() AND (ends_at IS NULL OR ends_at > now())
        ) in_force, unnest(in_force.scopes) scope), '{{}}') AS scopes
    FROM (SELECT) always_a_row
    LEFT JOIN clients c ON c.id = $1 AND c.revoked_at IS NULL
    LEFT JOIN ({CURRENT_KEY}) k ON true
    WHERE caller.s IS NOT NULL OFFSET 0
) x
"""
_USE_ASSERTION = "INSERT INTO used_assertions (client_id, jti, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING jti"


async def read_credentials(database: Database, attempts: Sequence[Attempt]) -> dict[Attempt, Credentials]:
    """The credentials of each of these clients, in one small statement. A wrong guess costs a share of it."""
    async with database.without_caller() as connection:
        rows = await connection.fetch(_CREDENTIALS, [each.client_id for each in attempts], [each.jti for each in attempts])
    return {
        attempt: Credentials(client_id=attempt.client_id, **{**row, "jwks": json.loads(row["jwks"] or "null")})
        for attempt, row in zip(attempts, rows, strict=True)
    }


async def exchange(database: Database, attempt: Attempt, decide: Callable[[Facts, Effects], T]) -> T:
    """What `decide` makes of the facts, once its effects are persisted. It may run several times, each time with no effects yet.

    What it raises passes, and nothing is written. Raises Busy where others were first each time.
    """
    for _ in range(MAX_ATTEMPTS):
        facts, effects = await load(database, attempt), Effects()
        answer = decide(facts, effects)
        if await persist(database, attempt.client_id, effects):
            return answer
    raise Busy("Other requests of this client are in the way.")


async def load(database: Database, attempt: Attempt) -> Facts:
    """The facts now, of one statement."""
    row = await database.read(_FACTS, *attempt)
    assert row is not None
    values: dict[str, Any] = {**row, "jwks": json.loads(row["jwks"] or "null"), "scopes": frozenset(row["scopes"])}
    kid, encrypted_key = values.pop("kid"), values.pop("encrypted_key")
    return Facts(ClientRecord(client_id=attempt.client_id, **values), kid, encrypted_key)


class _UsedMeanwhile(Exception):
    """Another request has used up what the decision relied on."""


async def persist(database: Database, client_id: UUID, effects: Effects) -> bool:
    """Writes all effects in one transaction. False, and none is written, where another request has used up what the decision relied on."""
    if effects == Effects():
        return True

    async def work(connection: Connection) -> None:
        used = effects.used_assertion
        if used and await connection.fetchval(_USE_ASSERTION, client_id, used.jti, used.expires_at) is None:
            raise _UsedMeanwhile

    try:
        await database.run_transaction(client_id, work)
    except _UsedMeanwhile:
        return False
    return True
