"""The public keys of a tenant's clients, with which they authenticate instead of a secret (private_key_jwt): read, changed and removed.

Whoever sets a key acts as the client, as whoever rotates a secret does. A change is in force with the next request for a token. There is no address
from which keys are fetched: this server asks no other.
"""

import json
from datetime import timedelta
from typing import Annotated

from msgspec import Meta
from sqlalchemy import Column, Integer, MetaData, Table, Text, Uuid

from domain.access.caller import Caller
from domain.access.reach import has_grant
from domain.clients.change_client import (
    MAX_OVERLAP_HOURS,
    ClientRef,
    ClientSecret,
    find_own_client,
    refuse_revoked,
    require_no_more,
    run_as_owner,
)
from domain.clients.key_sets import MAX_KEYS, JsonWebKey, find_key_issues, make_key_set
from domain.clients.own_clients import own_clients
from domain.clients.revocations import note_client
from domain.declare.errors import Conflict, Forbidden, Invalid, NotFound
from domain.declare.ids import parse_id
from domain.declare.inputs import Input, describe
from domain.declare.predicates import TenantRows
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT
from domain.declare.vocabulary import VERSION, declare_ids, declare_list
from domain.store.database import Connection
from domain.support.keys import make_secret
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.dry_run import is_dry_run
from domain.write.partial import require_readable

client_keys = Table(
    "client_keys",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("no", Integer, nullable=False),
    *(Column(name, Text, nullable=name != "kty") for name in ("kty", "kid", "use", "alg", "crv", "x", "y", "n", "e")),
    comment="A view over the clients, which says once more whose the caller may see",
)
k = client_keys.c


class ClientKeys(Input, kw_only=True):
    """The public keys of a client, instead of those that it has, and how long its secrets still work."""

    public_keys: Annotated[
        list[JsonWebKey], describe(f"1 to {MAX_KEYS} keys. While a key is replaced, send the old one and the new one.")
    ]
    overlap_hours: Annotated[
        int, Meta(ge=0, le=MAX_OVERLAP_HOURS), describe("Hours for which its secrets still work, from 0 to 168.")
    ] = 0


@command(scope=Scope.CLIENTS_WRITE, at_school=False, on_installation=True, fails=(Invalid, NotFound, Conflict, Forbidden))
async def set_client_keys(connection: Connection, caller: Caller, action: Action[ClientKeys]) -> ClientSecret:
    """Let a client of the trust or school authenticate by its own keys (private_key_jwt). Other keys that it had work no more. It may hold no more
    than the caller, as with a rotated secret."""
    client, checks = await find_own_client(connection, caller, action.id), Checks()
    with checks.attempt():
        refuse_revoked(client)
    with checks.attempt():
        keys = action.fields.public_keys
        require_readable(keys)
        checks.add(*find_key_issues(keys, "/publicKeys"))
    checks.refuse_if_any()
    require_readable(action.fields)
    await require_no_more(connection, action.id)
    jwks, overlap = json.dumps(make_key_set(keys)), timedelta(hours=action.fields.overlap_hours)
    await run_as_owner(connection, "SELECT set_client_keys($1, $2::text::jsonb, $3)", action.id, jwks, overlap)
    await note_client(connection, action.id, has_keys=True)
    return ClientSecret(id=str(action.id), name=client["name"], client_secret=None)


@command(scope=Scope.CLIENTS_WRITE, at_school=False, on_installation=True, fails=(NotFound, Conflict, Forbidden))
async def remove_client_keys(connection: Connection, caller: Caller, ref: ClientRef) -> ClientSecret:
    """Remove the keys of a client of the trust or school, and give it a secret instead, which the answer shows once. It may hold no more than the
    caller, as with a rotated secret."""
    client_id = parse_id(ref.id)
    client = await find_own_client(connection, caller, client_id)
    refuse_revoked(client)
    if client_id is None or client["auth_method"] != "private_key_jwt":
        raise Conflict("The client authenticates by a secret and has no keys.", code="no-keys")
    await require_no_more(connection, client_id)
    secret, digest = make_secret()
    await run_as_owner(connection, "SELECT remove_client_keys($1, $2)", client_id, digest)
    await note_client(connection, client_id, has_keys=True)
    return ClientSecret(id=ref.id, name=client["name"], client_secret=None if is_dry_run() else secret)


_MEMBERS = {
    "kid": "Its name.",
    "use": "sig, where it was sent.",
    "alg": "The algorithm, where it was sent.",
    "crv": "The curve of EC and OKP.",
    "x": "Of EC and OKP.",
    "y": "Of EC.",
    "n": "The modulus of RSA.",
    "e": "The exponent of RSA.",
}
PUBLIC_KEYS = Resource(
    name="publicKey",
    plural="publicKeys",
    slug="public-keys",
    versioned=False,
    doc="A public key with which a client authenticates: the members of a JSON Web Key (RFC 7517).",
    source=client_keys,
    scope=Scope.CLIENTS_WRITE,
    order=("tenant_id", "client_id", "no"),
    reach=TenantRows(
        lambda _: has_grant(Scope.CLIENTS_WRITE, lambda r: (r.tenant_id == k.tenant_id) & (r.school_id == k.tenant_id))
    ),
    may_be_of_installation=True,
    fields={
        "clientId": Field(k.client_id, "The client.", vocabulary=declare_ids(CLIENT, "client")),
        "no": Field(k.no, "1 for the first of the client, 2 for the next.", vocabulary=VERSION),
        "kty": Field(k.kty, "Its type.", vocabulary=declare_list("EC", "OKP", "RSA")),
        **{name: Field(k[name], doc, filter=Filter.NOWHERE) for name, doc in _MEMBERS.items()},
    },
    links={
        "client": Link(
            "client",
            ((k.tenant_id, own_clients.c.tenant_id), (k.client_id, own_clients.c.id)),
            "The client.",
            reverse="publicKeys",
            reverse_doc="The public keys with which it authenticates.",
            nullable=False,
            target_in_reach=True,
        ),
    },
)
