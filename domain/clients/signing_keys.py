"""The keys with which this installation signs access tokens (ES256). Private keys are stored encrypted with
MARKONCE_SECRET."""

import json
import os
from contextlib import suppress
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidTag
from joserfc.jwk import ECKey, KeySetSerialization

from domain.declare.errors import DatabaseError
from domain.store.cleanup import Cleanup
from domain.store.database import Connection
from domain.support.keys import make_cipher
from domain.support.lru import Lru

TOKEN_LIFE = timedelta(minutes=10)
"""Lifetime of an access token."""

CLEANUP = (Cleanup("signing keys", "SELECT remove_retired_keys($1)"),)
"""The app role may not delete signing keys. The function deletes only keys whose tokens have all expired."""

CURRENT_KEY = "SELECT kid, private_encrypted FROM signing_keys WHERE retired_at IS NULL ORDER BY created_at DESC, kid LIMIT 1"
"""SQL: the key that signs new tokens."""

_LEEWAY = timedelta(minutes=1)
_NONCE_BYTES = 12
_PURPOSE = "markonce signing keys"
_PUBLIC_KEYS = """
SELECT public_jwk::text FROM signing_keys WHERE COALESCE(retired_at, 'infinity') > now() - $1::interval
ORDER BY created_at DESC, kid
"""

_decrypted_keys: Lru[tuple[str, bytes, bytes], ECKey] = Lru("signing keys", 100_000, weigh=lambda key, value: 4_000)


async def ensure_signing_key(connection: Connection, secret: bytes, *others: bytes) -> str:
    """Returns the kid of the current signing key, which is created if there is none, encrypted with `secret`.

    Raises DatabaseError where the current key was encrypted with none of the secrets.
    """
    row = await connection.fetchrow(CURRENT_KEY)
    if row is None:
        return await rotate_signing_key(connection, secret)
    decrypt_signing_key(row["kid"], row["private_encrypted"], secret, *others)
    return str(row["kid"])


async def check_signing_key(connection: Connection, *secrets: bytes) -> None:
    """Raises DatabaseError where no token can be signed: there is no key, or it was encrypted with none of these secrets."""
    row = await connection.fetchrow(CURRENT_KEY)
    if row is None:
        raise DatabaseError("There is no signing key yet: run `python -m api init` first.")
    decrypt_signing_key(row["kid"], row["private_encrypted"], *secrets)


async def rotate_signing_key(connection: Connection, secret: bytes) -> str:
    """Creates the ES256 key that signs from now on, and returns its kid. Tokens signed with the retired key stay valid
    until they expire."""
    key = ECKey.generate_key("P-256", auto_kid=True, parameters={"use": "sig", "alg": "ES256"})
    kid = key.thumbprint()
    nonce = os.urandom(_NONCE_BYTES)
    encrypted = nonce + make_cipher(secret, _PURPOSE).encrypt(nonce, json.dumps(key.as_dict(private=True)).encode(), kid.encode())
    async with connection.transaction():
        await connection.execute("UPDATE signing_keys SET retired_at = now() WHERE retired_at IS NULL")
        await connection.execute(
            "INSERT INTO signing_keys (kid, public_jwk, private_encrypted) VALUES ($1, $2::text::jsonb, $3)",
            *(kid, json.dumps(key.as_dict(private=False)), encrypted),
        )
    return kid


async def read_public_keys(connection: Connection) -> KeySetSerialization:
    """Returns the public keys of all tokens in force (RFC 7517): the current key, and those retired within the lifetime
    of a token."""
    rows = await connection.fetch(_PUBLIC_KEYS, TOKEN_LIFE + _LEEWAY)
    return {"keys": [json.loads(row["public_jwk"]) for row in rows]}


async def read_issuing_clock(connection: Connection) -> datetime:
    """Returns the time of the database's clock. Tokens are issued and verified by this clock."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now


def decrypt_signing_key(kid: str, encrypted: bytes, *secrets: bytes) -> ECKey:
    """Returns a stored private key. Raises DatabaseError where it was encrypted with none of the secrets."""
    for secret in secrets:
        key = _decrypted_keys.get((kid, encrypted, secret))
        if key is not None:
            return key
        with suppress(InvalidTag):
            private = make_cipher(secret, _PURPOSE).decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], kid.encode())
            return _decrypted_keys.put((kid, encrypted, secret), ECKey.import_key(json.loads(private)))
    raise DatabaseError(
        "MARKONCE_SECRET is not the one that the signing keys in this database were encrypted with: set the one that `init` ran with."
    )


async def is_encrypted_with(connection: Connection, secret: bytes) -> bool:
    """Whether the current signing key, which there is, was encrypted with this secret."""
    try:
        await check_signing_key(connection, secret)
    except DatabaseError:
        return False
    return True
