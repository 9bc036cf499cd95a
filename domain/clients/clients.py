"""Clients: the programs that call, what each proves itself with, and the keys this installation signs its tokens with.

A client has either secrets (256 bits, kept as SHA-256) or public keys (a JWKS, for private_key_jwt). The installation's own private
keys are encrypted at rest with MARKONCE_SECRET. The operator's role writes here; the app's role reads, and notes used assertions.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc.jwk import ECKey, KeySet, KeySetSerialization

from domain.access.caller import ReachSnapshot
from domain.access.reach import IN_FORCE
from domain.clients.key_sets import read_key_set
from domain.declare.errors import Conflict, DatabaseError, Issue, NotFound, make_invalid
from domain.declare.ids import NIL, new_id, parse_id
from domain.store.cleanup import Cleanup
from domain.store.database import Connection
from domain.support.lru import Lru

CLIENT = 20
TOKEN_LIFE = timedelta(minutes=10)
MAX_ORIGINS = 20
ORIGIN = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::([1-9][0-9]{0,4}))?")
LOCAL = ("localhost", "127.0.0.1")

CLEANUP = (
    Cleanup("client secrets", "SELECT remove_expired_secrets($1)"),
    Cleanup("signing keys", "SELECT remove_retired_keys($1)"),
)
"""Deleting secrets and keys is more than the app's role may do; the functions delete those that have expired and no other."""

AuthMethod: TypeAlias = Literal["client_secret", "private_key_jwt"]

_LEEWAY = timedelta(minutes=1)
_NONCE_BYTES = 12
_CLIENT = "SELECT id, name, auth_method, origins, created_at, revoked_at FROM clients"
_NEW_CLIENT = """
INSERT INTO clients (id, name, auth_method, jwks, origins) VALUES ($1, $2, $3, $4::text::jsonb, $5)
ON CONFLICT (name) DO NOTHING RETURNING id
"""
_NEW_SECRET = "INSERT INTO client_secrets (client_id, sha256) VALUES ($1, $2)"  # noqa: S105 (a statement)
_END_SECRETS = """
UPDATE client_secrets SET expires_at = now() + $2::interval
WHERE client_id = $1 AND COALESCE(expires_at, 'infinity') > now() + $2::interval
"""


@dataclass(frozen=True)
class Client:
    """A registered client. A revoked one stays on the list: what it wrote still names it. `origins` is where its browser apps are served from."""

    id: UUID
    name: str
    auth_method: AuthMethod
    origins: list[str]
    created_at: datetime
    revoked_at: datetime | None


async def create_client(
    connection: Connection, name: str, auth_method: AuthMethod, jwks: object = None, origins: Sequence[str] = ()
) -> tuple[UUID, str | None]:
    """Registers a client; answers its id and, for client_secret, its secret, shown this once.

    `jwks` is a JSON Web Key Set (RFC 7517) of public keys, for private_key_jwt only; `origins` are those of its
    browser apps. Raises Invalid with every issue, and Conflict for a name in use.
    """
    issues = [] if 0 < len(name.strip()) <= 200 else [Issue("/name", "wrong-value", "A name has 1 to 200 characters.")]
    keys: KeySet | None = None
    if auth_method == "private_key_jwt":
        keys, wrong = read_key_set(jwks)
        issues += wrong
    elif jwks is not None:
        issues.append(Issue("/jwks", "wrong-value", "Only a client that proves itself by private_key_jwt has public keys."))
    issues += _wrong_origins(origins)
    if issues:
        raise make_invalid(issues)
    async with connection.transaction():
        client_id = await connection.fetchval(
            _NEW_CLIENT,
            *(new_id(CLIENT), name.strip(), auth_method, json.dumps(keys.as_dict()) if keys else None, [*dict.fromkeys(origins)]),
        )
        if client_id is None:
            raise Conflict(f"There is a client named {name.strip()!r} already.", code="name-in-use")
        return client_id, None if keys else await _add_secret(connection, client_id)


async def rotate_secret(connection: Connection, client_id: UUID, overlap: timedelta = timedelta(0)) -> str:
    """A new secret, shown this once; the old ones work until `overlap` has passed. Raises NotFound, Conflict."""
    async with connection.transaction():
        client = await lock_client(connection, client_id)
        if client.auth_method != "client_secret":
            raise Conflict(f"The client {client.name!r} proves itself by {client.auth_method} and has no secret.", code="no-secret")
        if client.revoked_at is not None:
            raise Conflict(f"The client {client.name!r} is revoked.", code="client-revoked")
        await connection.execute(_END_SECRETS, client_id, max(overlap, timedelta(0)))
        return await _add_secret(connection, client_id)


async def _add_secret(connection: Connection, client_id: UUID) -> str:
    secret = secrets.token_urlsafe(32)
    await connection.execute(_NEW_SECRET, client_id, hashlib.sha256(secret.encode()).digest())
    return secret


async def set_origins(connection: Connection, client_id: UUID, origins: Sequence[str]) -> None:
    """The origins of a client's browser apps, in place of those it had. Holds within 5 seconds. Raises NotFound, Invalid with every issue."""
    if issues := _wrong_origins(origins):
        raise make_invalid(issues)
    async with connection.transaction():
        await lock_client(connection, client_id)
        await connection.execute("UPDATE clients SET origins = $2 WHERE id = $1", client_id, [*dict.fromkeys(origins)])


def _wrong_origins(origins: Sequence[str]) -> list[Issue]:
    """What is wrong with them. A browser sends an origin as RFC 6454 section 6.2 writes it, and it is compared as text."""
    issues = [Issue("/origins", "too-many", f"A client has at most {MAX_ORIGINS} origins.")] if len(origins) > MAX_ORIGINS else []
    for i, origin in enumerate(origins):
        parts = ORIGIN.fullmatch(origin)
        if parts is None or int(parts[3] or 1) > 65535 or (parts[1], parts[3]) in (("https", "443"), ("http", "80")):
            message = (
                "An origin is written as a browser sends it: scheme://host[:port] in lower case, without a path or a usual port."
            )
            issues.append(Issue(f"/origins/{i}", "wrong-value", message))
        elif parts[1] == "http" and parts[2] not in LOCAL:
            issues.append(Issue(f"/origins/{i}", "wrong-value", f"Only {' and '.join(LOCAL)} may do without https."))
    return issues


async def revoke_client(connection: Connection, client_id: UUID) -> None:
    """Ends the client and its reach, at once and for good. Its tokens are refused within 5 seconds. Raises NotFound."""
    async with connection.transaction():
        await lock_client(connection, client_id)
        await connection.execute("UPDATE clients SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL", client_id)
        await connection.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)


async def lock_client(connection: Connection, client_id: UUID) -> Client:
    """The client, locked until the transaction ends, so that its reach is derived by one transaction at a time. Raises NotFound."""
    row = await connection.fetchrow(f"{_CLIENT} WHERE id = $1 FOR UPDATE", client_id)
    if row is None:
        raise NotFound
    return Client(**row)


async def list_clients(connection: Connection) -> list[Client]:
    """Every client, by name."""
    return [Client(**row) for row in await connection.fetch(f"{_CLIENT} ORDER BY name")]


async def find_client(connection: Connection, named: str) -> Client | None:
    """The client that has this id or, else, this name."""
    row = await connection.fetchrow(
        f"{_CLIENT} WHERE id = $1 OR name = $2 ORDER BY id = $1 DESC NULLS LAST LIMIT 1", parse_id(named), named
    )
    return None if row is None else Client(**row)


@dataclass(frozen=True)
class ClientStatus:
    """What holds for all requests of a client that is not revoked: the origins of its browser apps, how many tenants it reaches, and which scopes it
    has at every place of these."""

    origins: frozenset[str]
    tenants: int
    snapshot: ReachSnapshot


MAX_COUNTED_TENANTS = 5
"""Places whose versions are added up one by one: what changes at another school of the trust then leaves an answer what it was."""
_STATUS = f"""
SELECT x.* FROM (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) c CROSS JOIN LATERAL (
    SELECT origins, reach_version, r.places, r.tenants, r.given, (
        SELECT min(at) FROM grants CROSS JOIN LATERAL (VALUES (starts_at), (expires_at)) times (at)
        WHERE client_id = $1 AND revoked_at IS NULL AND at > now()
    ) AS until
    FROM clients CROSS JOIN LATERAL (
        SELECT count(DISTINCT school_id) AS places, array_agg(DISTINCT tenant_id) AS tenants, json_agg(DISTINCT scopes) AS given
        FROM reach r WHERE client_id = $1 AND tenant_id <> $2 AND {IN_FORCE}
    ) r
    WHERE id = $1 AND revoked_at IS NULL AND c.s IS NOT NULL OFFSET 0
) x
"""


async def read_client_status(connection: Connection, client_id: UUID) -> ClientStatus | None:
    """How the client stands now; None when there is no such client or it is revoked. One statement, which sets its own context."""
    row = await connection.fetchrow(_STATUS, client_id, NIL)
    if row is None:
        return None
    given = [frozenset(scopes) for scopes in json.loads(row["given"] or "[]")]  # by each grant; a place may have several
    scopes, tenants = frozenset.intersection(*given) if given else frozenset(), tuple(row["tenants"] or ())
    snapshot = ReachSnapshot(scopes, row["reach_version"], row["until"], tenants if row["places"] > MAX_COUNTED_TENANTS else None)
    return ClientStatus(frozenset(row["origins"]), len(tenants), snapshot)


async def list_origins(connection: Connection) -> frozenset[str]:
    """The origins of every client that is not revoked."""
    rows = await connection.fetch("SELECT DISTINCT unnest(origins) AS origin FROM clients WHERE revoked_at IS NULL")
    return frozenset(row["origin"] for row in rows)


CURRENT_KEY = "SELECT kid, private_encrypted FROM signing_keys WHERE retired_at IS NULL ORDER BY created_at DESC, kid LIMIT 1"


async def ensure_signing_key(connection: Connection, secret: bytes) -> str:
    """The kid of the current signing key, made now if there is none. Raises DatabaseError when it was sealed otherwise."""
    row = await connection.fetchrow(CURRENT_KEY)
    if row is None:
        return await rotate_signing_key(connection, secret)
    decrypt_signing_key(row["kid"], row["private_encrypted"], secret)
    return str(row["kid"])


async def check_signing_key(connection: Connection, secret: bytes) -> None:
    """Raises DatabaseError where no token can be signed: there is no key, or it was sealed with another secret."""
    row = await connection.fetchrow(CURRENT_KEY)
    if row is None:
        raise DatabaseError("There is no signing key yet: run `python -m api init` first.")
    decrypt_signing_key(row["kid"], row["private_encrypted"], secret)


async def rotate_signing_key(connection: Connection, secret: bytes) -> str:
    """A new ES256 key signs from now on; tokens signed with the old one stay good until they expire. Answers the new kid."""
    key = ECKey.generate_key("P-256", auto_kid=True, parameters={"use": "sig", "alg": "ES256"})
    kid = key.thumbprint()
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + _cipher(secret).encrypt(nonce, json.dumps(key.as_dict(private=True)).encode(), kid.encode())
    async with connection.transaction():
        await connection.execute("UPDATE signing_keys SET retired_at = now() WHERE retired_at IS NULL")
        await connection.execute(
            "INSERT INTO signing_keys (kid, public_jwk, private_encrypted) VALUES ($1, $2::text::jsonb, $3)",
            *(kid, json.dumps(key.as_dict(private=False)), sealed),
        )
    return kid


_PUBLIC_KEYS = """
SELECT public_jwk::text FROM signing_keys WHERE COALESCE(retired_at, 'infinity') > now() - $1::interval
ORDER BY created_at DESC, kid
"""


async def read_public_keys(connection: Connection) -> KeySetSerialization:
    """The keys that tokens still in force may be signed with: the current one, and those retired within the life of a token."""
    rows = await connection.fetch(_PUBLIC_KEYS, TOKEN_LIFE + _LEEWAY)
    return {"keys": [json.loads(row["public_jwk"]) for row in rows]}


async def read_issuing_clock(connection: Connection) -> datetime:
    """The time by the database's clock. Tokens are issued by it, so they are verified by it too."""
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return now


def _cipher(secret: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=32, salt=None, info=b"markonce signing keys").derive(secret))


_signing_keys: Lru[tuple[str, bytes, bytes], ECKey] = Lru("signing keys", 100_000, weigh=lambda key, value: 4_000)


def decrypt_signing_key(kid: str, encrypted: bytes, secret: bytes) -> ECKey:
    """A private key, as the database has it. Raises DatabaseError where it was encrypted with another secret."""
    key = _signing_keys.get((kid, encrypted, secret))
    if key is not None:
        return key
    try:
        private = _cipher(secret).decrypt(encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:], kid.encode())
    except InvalidTag as problem:
        raise DatabaseError(
            "MARKONCE_SECRET is not the one that the signing keys in this database were encrypted with."
        ) from problem
    return _signing_keys.put((kid, encrypted, secret), ECKey.import_key(json.loads(private)))
