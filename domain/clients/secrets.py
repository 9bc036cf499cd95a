"""Client secrets: 256 random bits each, stored as SHA-256 hashes and compared in constant time."""

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from domain.store.cleanup import Cleanup
from domain.store.database import Connection
from domain.support.keys import hash_secret, make_secret

CLEANUP = (Cleanup("client secrets", "SELECT remove_expired_secrets($1)"),)
"""The app role may not delete secrets. The function deletes expired ones only."""

SECRET_HASHES = """COALESCE((
        SELECT array_agg(sha256) FROM client_secrets WHERE client_id = c.id AND (expires_at IS NULL OR expires_at > now())
    ), '{}')"""  # noqa: S105 (an expression)
"""SQL: the hashes of the secrets in force of a client `c`."""

_INSERT_SECRET = "INSERT INTO client_secrets (client_id, sha256) VALUES ($1, $2)"  # noqa: S105 (a statement)
_EXPIRE_SECRETS = """
UPDATE client_secrets SET expires_at = now() + $2::interval
WHERE client_id = $1 AND COALESCE(expires_at, 'infinity') > now() + $2::interval
"""

_LIST_SECRETS = """
SELECT client_id, created_at, expires_at FROM client_secrets WHERE expires_at IS NULL OR expires_at > now() ORDER BY created_at
"""


class SecretDates(NamedTuple):
    """When a secret in force was made, and when it expires; None: it does not."""

    created_at: datetime
    expires_at: datetime | None


async def list_secrets(connection: Connection) -> dict[UUID, list[SecretDates]]:
    """Returns the dates of the secrets in force of each client that has any, oldest first."""
    dates: dict[UUID, list[SecretDates]] = {}
    for client_id, created_at, expires_at in await connection.fetch(_LIST_SECRETS):
        dates.setdefault(client_id, []).append(SecretDates(created_at, expires_at))
    return dates


async def add_secret(connection: Connection, client_id: UUID) -> str:
    """Stores the hash of a new secret and returns the secret, which cannot be read again."""
    secret, digest = make_secret()
    await connection.execute(_INSERT_SECRET, client_id, digest)
    return secret


async def expire_secrets(connection: Connection, client_id: UUID, overlap: timedelta) -> None:
    """Lets the client's secrets expire after `overlap`. A secret that expires sooner is left as it is."""
    await connection.execute(_EXPIRE_SECRETS, client_id, max(overlap, timedelta(0)))


def is_valid_secret(secret: str, hashes: Sequence[bytes]) -> bool:
    """Compares a secret with every hash in constant time. Without any hash it is compared with one that no secret has."""
    presented = hash_secret(secret)
    return True in [hmac.compare_digest(presented, stored) for stored in hashes or [bytes(32)]]
