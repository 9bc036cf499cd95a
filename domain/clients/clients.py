"""Clients: the programs that call the API, the browser origins they use, and what the API checks of them at each
request.

A client authenticates with a secret (secrets.py) or with its own private key (private_key_jwt), of which a JWKS of
public keys is stored (key_sets.py). The functions here write as the operator, for the command line. The app role reads
clients, and writes them by functions of the owner alone (change_client.py).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias
from uuid import UUID

from joserfc.jwk import KeySet

from domain.access.caller import ReachSnapshot
from domain.access.reach import IN_FORCE, IS_SCHOOL, set_caller_first
from domain.clients.key_sets import read_key_set
from domain.clients.revocations import note_client
from domain.clients.secrets import add_secret, expire_secrets
from domain.declare.errors import Conflict, Issue, NotFound, make_invalid
from domain.declare.ids import NIL, new_id, parse_id
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT
from domain.store.database import Connection

MAX_NAME = 200
"""Characters."""
MAX_ORIGINS = 20
ORIGIN = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)(?::([1-9][0-9]{0,4}))?")
LOCAL_HOSTS = ("localhost", "127.0.0.1")
"""Hosts that an origin may name without https."""

AuthMethod: TypeAlias = Literal["client_secret", "private_key_jwt"]

_CLIENT = "SELECT id, of_tenant AS tenant_id, display_name AS name, auth_method, origins, created_at, revoked_at FROM clients"
_INSERT_CLIENT = """
INSERT INTO clients (id, name, display_name, auth_method, jwks, origins, of_tenant) VALUES ($1, $2, $2, $3, $4::text::jsonb, $5, $6)
ON CONFLICT (of_tenant, display_name) WHERE revoked_at IS NULL DO NOTHING RETURNING id
"""

_SET_KEYS = "UPDATE clients SET auth_method = $2, jwks = $3::text::jsonb WHERE id = $1"


@dataclass(frozen=True)
class Client:
    """A registered client. A revoked client stays in the table, because the rows it wrote refer to it; its name is free
    again. `tenant_id` is whose client it is: a trust, a school without one or, if it is NIL, the installation. `origins`
    are those of its browser apps."""

    id: UUID
    tenant_id: UUID
    name: str
    auth_method: AuthMethod
    origins: list[str]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class CheckedClient:
    """A client to register, as it was checked."""

    name: str
    auth_method: AuthMethod
    jwks: str | None
    origins: list[str]


def check_client(name: str, auth_method: AuthMethod, jwks: object, origins: Sequence[str]) -> CheckedClient:
    """Returns the client to register. Raises Invalid with every issue.

    `jwks` is a JSON Web Key Set (RFC 7517) of public keys, for private_key_jwt only.
    """
    issues = [] if 0 < len(name.strip()) <= MAX_NAME else [Issue("/name", "wrong-value", f"A name has 1 to {MAX_NAME} characters.")]
    if parse_id(name.strip()) is not None:
        issues.append(Issue("/name", "wrong-value", "A name is no id: commands take either."))
    keys: KeySet | None = None
    if auth_method == "private_key_jwt":
        keys, key_issues = read_key_set(jwks)
        issues += key_issues
    elif jwks is not None:
        issues.append(Issue("/jwks", "wrong-value", "Only a client that authenticates by private_key_jwt has public keys."))
    issues += find_origin_issues(origins)
    if issues:
        raise make_invalid(issues)
    return CheckedClient(name.strip(), auth_method, json.dumps(keys.as_dict()) if keys else None, [*dict.fromkeys(origins)])


def make_name_error(name: str) -> Conflict:
    """Returns the error of a name that another client of the tenant has."""
    message = f"There is a client named {name!r} already."
    return Conflict(message, code="name-in-use", issues=(Issue("/name", "name-in-use", message),))


async def create_client(
    connection: Connection,
    name: str,
    auth_method: AuthMethod,
    jwks: object = None,
    origins: Sequence[str] = (),
    tenant_id: UUID = NIL,
) -> tuple[UUID, str | None]:
    """Registers a client of the installation, or of a tenant. Returns its id and, for client_secret, its secret, which
    cannot be read again.

    `origins` are those of its browser apps. Raises Invalid with every issue, and Conflict where another client of the
    tenant that is not revoked has the name.
    """
    new = check_client(name, auth_method, jwks, origins)
    async with connection.transaction():
        client_id = await connection.fetchval(
            _INSERT_CLIENT, new_id(CLIENT), new.name, new.auth_method, new.jwks, new.origins, tenant_id
        )
        if client_id is None:
            raise make_name_error(new.name)
        return client_id, None if new.jwks else await add_secret(connection, client_id)


async def rotate_secret(connection: Connection, client_id: UUID, overlap: timedelta = timedelta(0)) -> str:
    """Returns a new secret, which cannot be read again. The old secrets expire after `overlap`. Raises NotFound and
    Conflict."""
    async with connection.transaction():
        client = await _lock_unrevoked(connection, client_id)
        if client.auth_method != "client_secret":
            raise Conflict(f"The client {client.name!r} authenticates by {client.auth_method} and has no secret.", code="no-secret")
        await expire_secrets(connection, client_id, overlap)
        await note_client(connection, client_id)
        return await add_secret(connection, client_id)


async def set_keys(connection: Connection, client_id: UUID, jwks: object, overlap: timedelta = timedelta(0)) -> None:
    """Lets a client authenticate by these public keys, a JWKS, and no others. Its secrets expire after `overlap`. Raises NotFound,
    Conflict where it is revoked, and Invalid with every issue."""
    keys, issues = read_key_set(jwks)
    if keys is None:
        raise make_invalid(issues)
    async with connection.transaction():
        await _lock_unrevoked(connection, client_id)
        await connection.execute(_SET_KEYS, client_id, "private_key_jwt", json.dumps(keys.as_dict()))
        await expire_secrets(connection, client_id, overlap)
        await note_client(connection, client_id, has_keys=True)


async def remove_keys(connection: Connection, client_id: UUID) -> str:
    """Removes a client's public keys, and returns the secret that it has instead, which cannot be read again. Raises NotFound, and
    Conflict where it is revoked or has no keys."""
    async with connection.transaction():
        client = await _lock_unrevoked(connection, client_id)
        if client.auth_method != "private_key_jwt":
            raise Conflict(f"The client {client.name!r} authenticates by a secret and has no keys.", code="no-keys")
        await connection.execute(_SET_KEYS, client_id, "client_secret", None)
        await expire_secrets(connection, client_id, timedelta(0))
        await note_client(connection, client_id, has_keys=True)
        return await add_secret(connection, client_id)


async def _lock_unrevoked(connection: Connection, client_id: UUID) -> Client:
    client = await lock_client(connection, client_id)
    if client.revoked_at is not None:
        raise Conflict(f"The client {client.name!r} is revoked.", code="client-revoked")
    return client


async def set_origins(connection: Connection, client_id: UUID, origins: Sequence[str]) -> None:
    """Replaces the origins of a client's browser apps. Servers apply the change within 5 seconds. Raises NotFound, and
    Invalid with every issue."""
    if issues := find_origin_issues(origins):
        raise make_invalid(issues)
    async with connection.transaction():
        await lock_client(connection, client_id)
        await connection.execute("UPDATE clients SET origins = $2 WHERE id = $1", client_id, [*dict.fromkeys(origins)])
        await note_client(connection, client_id, has_origins=True)


def find_origin_issues(origins: Sequence[str]) -> list[Issue]:
    """Origins are compared as text, so they must be serialised as a browser sends them (RFC 6454 section 6.2)."""
    issues = [Issue("/origins", "too-many", f"A client has at most {MAX_ORIGINS} origins.")] if len(origins) > MAX_ORIGINS else []
    for i, origin in enumerate(origins):
        parts = ORIGIN.fullmatch(origin)
        if parts is None or int(parts[3] or 1) > 65535 or (parts[1], parts[3]) in (("https", "443"), ("http", "80")):
            message = (
                "An origin is written as a browser sends it: scheme://host[:port] in lower case, without a path or a default port."
            )
            issues.append(Issue(f"/origins/{i}", "wrong-value", message))
        elif parts[1] == "http" and parts[2] not in LOCAL_HOSTS:
            issues.append(Issue(f"/origins/{i}", "wrong-value", f"Only {' and '.join(LOCAL_HOSTS)} may do without https."))
    return issues


async def revoke_client(connection: Connection, client_id: UUID) -> list[UUID]:
    """Ends the client and its reach for good. Servers refuse its next request. Returns the ids of the grants that it
    gave, which end in 30 days unless another client or the operator confirms them. Raises NotFound."""
    async with connection.transaction():
        await lock_client(connection, client_id)
        await connection.execute("UPDATE clients SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL", client_id)
        await note_client(connection, client_id)
        await connection.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)
        return await find_unconfirmed(connection, client_id)


async def find_unconfirmed(connection: Connection, client_id: UUID) -> list[UUID]:
    """Returns the ids of the grants in force that the client gave and holds no more, which end in 30 days from now unless
    they are confirmed; not those that were returned before."""
    rows = await connection.fetch("SELECT await_confirmation AS id FROM await_confirmation($1) ORDER BY 1", client_id)
    return [row["id"] for row in rows]


async def lock_client(connection: Connection, client_id: UUID) -> Client:
    """Locks the client until the transaction ends, so that only one transaction at a time derives its reach. Raises
    NotFound."""
    row = await connection.fetchrow(f"{_CLIENT} WHERE id = $1 FOR UPDATE", client_id)
    if row is None:
        raise NotFound
    return Client(**row)


async def list_clients(connection: Connection) -> list[Client]:
    """Returns every client, ordered by name."""
    return [Client(**row) for row in await connection.fetch(f"{_CLIENT} ORDER BY display_name, id")]


async def find_client(connection: Connection, id_or_name: str) -> Client | None:
    """Returns the client with this id or, failing that, with this name: the one that is not revoked or, failing that, the
    one that was revoked last. Raises Conflict where clients of several tenants have the name."""
    rows = await connection.fetch(
        f"{_CLIENT} WHERE id = $1 OR display_name = $2 ORDER BY id = $1 DESC NULLS LAST, revoked_at DESC NULLS FIRST LIMIT 2",
        *(parse_id(id_or_name), id_or_name),
    )
    if len(rows) == 2 and str(rows[0]["id"]) != id_or_name and rows[1]["revoked_at"] is None:
        raise Conflict(f"Clients of several tenants are named {id_or_name!r}. Name the client by its id.", code="name-ambiguous")
    return Client(**rows[0]) if rows else None


async def list_keys(connection: Connection, client_id: UUID) -> list[dict[str, Any]]:
    """Returns the public keys of a client, each as a JSON Web Key."""
    stored = await connection.fetchval("SELECT (jwks -> 'keys')::text FROM clients WHERE id = $1", client_id)
    return list(json.loads(stored or "[]"))


async def count_schools_in_reach(connection: Connection, client_id: UUID) -> int:
    """Returns how many schools the client's grants reach."""
    query = "SELECT count(DISTINCT school_id) FROM reach WHERE client_id = $1 AND school_id <> tenant_id"
    return int(await connection.fetchval(query, client_id))


@dataclass(frozen=True)
class ClientStatus:
    """What every request needs of a client that is not revoked: the origins of its browser apps, the number of tenants
    it reaches, a snapshot of its reach, and the scopes that grants in force give at any school or trust, and on the
    installation.

    `without_school` are those of them that no grant gives at a school: the trusts of those grants have none.
    `ended` are the scopes of grants that have been revoked or have expired, and that no grant in force gives: every scope
    where such a client has no grant in force at all.
    """

    origins: frozenset[str]
    tenants: int
    snapshot: ReachSnapshot
    scopes: frozenset[str]
    without_school: frozenset[str]
    of_installation: frozenset[str]
    ended: frozenset[str]


MAX_COUNTED_SCHOOLS = 5
"""Up to this many schools, a data version adds up the versions of each school within reach, so that a write at another
school of the trust leaves an answer's ETag unchanged. Beyond it, the versions of whole tenants are added up."""
_STATUS = set_caller_first(f"""
    SELECT origins, reach_version, r.schools, r.tenants, r.scope_lists, r.lists_at_schools, ARRAY (
        SELECT DISTINCT scope FROM reach r CROSS JOIN unnest(r.scopes) scope WHERE client_id = $1 AND tenant_id = $2 AND {IN_FORCE}
    ) AS of_installation, ARRAY (
        SELECT DISTINCT scope FROM grants g CROSS JOIN unnest(g.scopes) scope
        WHERE g.client_id = $1 AND (g.revoked_at IS NOT NULL OR g.expires_at <= now())
    ) AS ended, LEAST((
        SELECT min(at) FROM grants CROSS JOIN LATERAL (VALUES (starts_at), (expires_at)) times (at)
        WHERE client_id = $1 AND revoked_at IS NULL AND at > now()
    ), (SELECT min(ends_at) FROM reach WHERE client_id = $1 AND ends_at > now())) AS until
    FROM clients CROSS JOIN LATERAL (
        SELECT count(DISTINCT school_id) AS schools, array_agg(DISTINCT tenant_id) AS tenants, json_agg(DISTINCT scopes) AS scope_lists,
            json_agg(DISTINCT scopes) FILTER (WHERE {IS_SCHOOL}) AS lists_at_schools
        FROM reach r WHERE client_id = $1 AND tenant_id <> $2 AND {IN_FORCE}
    ) r
    WHERE id = $1 AND revoked_at IS NULL AND c.s IS NOT NULL OFFSET 0
""")


async def read_client_status(connection: Connection, client_id: UUID) -> ClientStatus | None:
    """Returns the client's present status, or None where there is no such client or it is revoked. One statement, which
    sets the caller itself."""
    row = await connection.fetchrow(_STATUS, client_id, NIL)
    if row is None:
        return None
    scope_sets = [
        frozenset(scopes) for scopes in json.loads(row["scope_lists"] or "[]")
    ]  # of each grant; a school may have several
    scopes, tenants = frozenset.intersection(*scope_sets) if scope_sets else frozenset(), tuple(row["tenants"] or ())
    in_force, of_installation = frozenset[str]().union(*scope_sets), frozenset(row["of_installation"])
    snapshot = ReachSnapshot(
        *(scopes, row["reach_version"], row["until"], tenants, row["schools"] <= MAX_COUNTED_SCHOOLS, bool(of_installation))
    )
    ended = frozenset(row["ended"]) - in_force - of_installation
    at_schools = frozenset[str]().union(*json.loads(row["lists_at_schools"] or "[]"))
    return ClientStatus(
        origins=frozenset(row["origins"]),
        tenants=len(tenants),
        snapshot=snapshot,
        scopes=in_force,
        without_school=in_force - at_schools,
        of_installation=of_installation,
        ended=frozenset(Scope) if row["ended"] and not in_force | of_installation else ended,
    )


async def list_origins(connection: Connection) -> frozenset[str]:
    """Returns the origins of every client that is not revoked."""
    rows = await connection.fetch("SELECT DISTINCT unnest(origins) AS origin FROM clients WHERE revoked_at IS NULL")
    return frozenset(row["origin"] for row in rows)
