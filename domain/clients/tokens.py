"""The token endpoint's reads and writes: `exchange` loads facts, calls a function that decides in memory, and persists
its effects.

A decision takes no lock and no connection. Its effects are written only if what it used up is still unused; otherwise
the facts are loaded and the decision is made again. A grant type that redeems something (a code, a refresh token) adds
what it reads to Facts and what it uses up to Effects.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from joserfc.jwk import ECKey, KeySetSerialization

from domain.clients.secrets import SECRET_HASHES, is_valid_secret
from domain.clients.signing_keys import CURRENT_KEY, decrypt_signing_key
from domain.declare.errors import Busy, DatabaseError
from domain.store.cleanup import clean_up_rows
from domain.store.database import MAX_ATTEMPTS, Connection, Database

T = TypeVar("T")

CLEANUP = (clean_up_rows("used assertions", "used_assertions", "expires_at <= now()"),)


class Attempt(NamedTuple):
    """The client that a request names, and the jti of its assertion, which is empty without one."""

    client_id: UUID
    jti: str = ""


@dataclass(frozen=True)
class Assertion:
    """An accepted client assertion (RFC 7523). Its jti is refused until the assertion has expired."""

    jti: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The credentials of a client at `now`, by the database's clock. An unknown or revoked client looks like one
    without secrets and keys.

    `is_used`: the attempt's assertion was accepted before.
    """

    client_id: UUID
    now: datetime
    secret_hashes: list[bytes]
    jwks: KeySetSerialization | None
    is_used: bool

    @property
    def is_known(self) -> bool:
        """Whether the client exists, is not revoked and may authenticate."""
        return bool(self.secret_hashes or self.jwks)

    def has_secret(self, secret: str) -> bool:
        """Whether this is one of the client's secrets in force. It takes as long for an unknown client as for a known
        one."""
        return is_valid_secret(secret, self.secret_hashes)


@dataclass(frozen=True, kw_only=True)
class ClientRecord(Credentials):
    """The client that a request names. An unknown or revoked client has no scopes."""

    scopes: frozenset[str]


@dataclass(frozen=True)
class Facts:
    """Everything that a decision relies on, read by one statement."""

    client: ClientRecord
    kid: str | None
    encrypted_key: bytes | None

    def decrypt_key(self, *secrets: bytes) -> ECKey:
        """Returns the current private key, which signs the token. Raises DatabaseError where there is none."""
        if self.kid is None or self.encrypted_key is None:
            raise DatabaseError("There is no signing key yet: run `python -m api init` first.")
        return decrypt_signing_key(self.kid, self.encrypted_key, *secrets)


@dataclass
class Effects:
    """What a decision writes, whether or not a token is issued: an accepted assertion is used up even if the request
    then fails."""

    used_assertion: Assertion | None = None


_CREDENTIALS = f"""
SELECT now() AS now, c.jwks::text AS jwks, {SECRET_HASHES} AS secret_hashes,
    EXISTS (SELECT FROM used_assertions u WHERE u.client_id = attempt.id AND u.jti = attempt.jti) AS is_used
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY attempt (id, jti, number)
LEFT JOIN clients c ON c.id = attempt.id AND c.revoked_at IS NULL
ORDER BY number
"""
_FACTS = f"""
SELECT x.* FROM (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) caller CROSS JOIN LATERAL (
    SELECT now() AS now, c.jwks::text AS jwks, k.kid, k.private_encrypted AS encrypted_key, {SECRET_HASHES} AS secret_hashes,
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
    """Returns the credentials of each attempt's client, read by one small statement, so that wrong guesses cost little."""
    async with database.without_caller() as connection:
        rows = await connection.fetch(
            _CREDENTIALS, [attempt.client_id for attempt in attempts], [attempt.jti for attempt in attempts]
        )
    return {
        attempt: Credentials(client_id=attempt.client_id, **{**row, "jwks": json.loads(row["jwks"] or "null")})
        for attempt, row in zip(attempts, rows, strict=True)
    }


async def exchange(database: Database, attempt: Attempt, decide: Callable[[Facts, Effects], T]) -> T:
    """Returns what `decide` returns for the facts, after its effects are persisted. It may be called several times,
    each time with new Effects.

    An exception of `decide` is passed on, and nothing is written. Raises Busy where other requests used up the same
    each time.
    """
    for _ in range(MAX_ATTEMPTS):
        facts, effects = await read_facts(database, attempt), Effects()
        answer = decide(facts, effects)
        if await persist(database, attempt.client_id, effects):
            return answer
    raise Busy("Other requests of this client use the same credentials now.")


async def read_facts(database: Database, attempt: Attempt) -> Facts:
    """Reads the facts, by one statement."""
    row = await database.read(_FACTS, *attempt)
    assert row is not None
    values: dict[str, Any] = {**row, "jwks": json.loads(row["jwks"] or "null"), "scopes": frozenset(row["scopes"])}
    kid, encrypted_key = values.pop("kid"), values.pop("encrypted_key")
    return Facts(ClientRecord(client_id=attempt.client_id, **values), kid, encrypted_key)


class _UsedMeanwhile(Exception):
    """Another request has used up what this decision relied on."""


async def persist(database: Database, client_id: UUID, effects: Effects) -> bool:
    """Writes all effects in one transaction. Returns False, and writes nothing, where another request has used up the
    same."""
    if effects == Effects():
        return True

    async def write_effects(connection: Connection) -> None:
        assertion = effects.used_assertion
        if assertion and await connection.fetchval(_USE_ASSERTION, client_id, assertion.jti, assertion.expires_at) is None:
            raise _UsedMeanwhile

    try:
        await database.run_transaction(client_id, write_effects)
    except _UsedMeanwhile:
        return False
    return True
