"""Makes, rotates and revokes the clients of a tenant, for a client that holds clients:write over it as a whole.

Functions of the owner write (migration 0072) and check all of it again: the application's role may not write clients.
A secret is made here, its hash is stored, and it stands in the first answer alone.
"""

import json
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from msgspec import UNSET, Meta, UnsetType, structs

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.clients.clients import MAX_NAME, MAX_ORIGINS, find_origin_issues, make_name_error
from domain.clients.key_sets import MAX_KEYS, JsonWebKey, find_key_issues, make_key_set
from domain.clients.revocations import note_client
from domain.declare.errors import Conflict, Forbidden, Invalid, Issue, NotFound
from domain.declare.ids import NIL, new_id, parse_id
from domain.declare.inputs import DryRun, Input, Output, Text, Warnings, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT
from domain.roster.tenant_ref import TenantRef, find_tenant, list_tenants
from domain.store.database import Connection
from domain.support.keys import make_secret
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.dry_run import is_dry_run
from domain.write.partial import require_readable

MAX_OVERLAP_HOURS = 168


class NewClient(Input, kw_only=True):
    """A client to make. It authenticates by a secret, which the answer shows once, or by a key of its own, where it has `publicKeys`; it has no
    grant yet. `tenant` is whose client it is, and is needed where clients:write is held over several trusts or schools."""

    name: Annotated[Text, describe("Name, unique among the clients of the tenant that are not revoked.")]
    tenant: TenantRef | UnsetType = UNSET
    origins: Annotated[
        list[Text], describe(f"Origins of its browser apps, such as https://app.example, at most {MAX_ORIGINS}.")
    ] = []
    public_keys: Annotated[
        list[JsonWebKey],
        describe(
            f"Its public keys, at most {MAX_KEYS}: it authenticates by private_key_jwt and has no secret. Without any it has a secret."
        ),
    ] = []


class SecretRotation(Input, kw_only=True):
    """How long the old secrets still work."""

    overlap_hours: Annotated[int, Meta(ge=0, le=MAX_OVERLAP_HOURS), describe("Hours, from 0 to 168.")] = 0


class ClientRef(Input, kw_only=True):
    """A client by its id."""

    id: str


class ClientSecret(Output, kw_only=True):
    """A client and its new secret, which no other answer shows: not that to the same request again, and not that of a dry run. Whoever lost
    it rotates it. A client with keys of its own has none."""

    id: str
    name: str
    client_secret: str | None
    warnings: Warnings = []
    dry_run: DryRun = UNSET

    def drop_secrets(self) -> "ClientSecret":
        """Returns what a later answer says."""
        if self.client_secret is None:
            return self
        message = "The secret was in the first answer alone. If that is lost, rotate it: POST /v1/clients/{id}/rotate-secret."
        return structs.replace(self, client_secret=None, warnings=[Issue("/clientSecret", "secret-not-repeated", message)])


class ClientEnd(Output, kw_only=True):
    """A client that is revoked. `unconfirmedGrants` are the ids of the grants that it gave to others: they end in 30 days unless they are confirmed."""

    id: str
    name: str
    unconfirmed_grants: list[str]
    dry_run: DryRun = UNSET


@command(scope=Scope.CLIENTS_WRITE, at_school=False, on_installation=True, fails=(Invalid, Conflict))
async def create_client(connection: Connection, caller: Caller, client: NewClient) -> ClientSecret:
    """Make a client of the trust or school. Only there it is listed, rotated and revoked; anybody may give it grants, by its id."""
    checks = Checks()
    with checks.attempt():
        checks.add(*find_origin_issues(client.origins))
    with checks.attempt():
        if parse_id(client.name.strip()) is not None or not client.name.strip():
            checks.add(Issue("/name", "wrong-value", f"A name has 1 to {MAX_NAME} characters, and is no id."))
    with checks.attempt():
        if client.public_keys:
            require_readable(client.public_keys)
            checks.add(*find_key_issues(client.public_keys, "/publicKeys"))
    tenant_id = await _find_tenant(connection, caller, client, checks)
    with checks.attempt():
        if await connection.fetchval(_IS_NAMED, tenant_id, client.name.strip()):
            raise make_name_error(client.name.strip())
    checks.refuse_if_any()
    require_readable(client)
    client_id, (secret, digest) = new_id(CLIENT), make_secret()
    name, keys = client.name.strip(), client.public_keys
    arguments = client_id, tenant_id, name, [*dict.fromkeys(client.origins)], json.dumps(make_key_set(keys)) if keys else digest
    function = "make_key_client($1, $2, $3, $4, $5::text::jsonb)" if keys else "make_client($1, $2, $3, $4, $5)"
    (made,) = await run_as_owner(connection, f"SELECT {function} AS is_made", *arguments)
    if not made["is_made"]:
        raise make_name_error(name)
    return ClientSecret(id=str(client_id), name=name, client_secret=None if keys or is_dry_run() else secret)


@command(scope=Scope.CLIENTS_WRITE, at_school=False, on_installation=True, fails=(Invalid, NotFound, Conflict, Forbidden))
async def rotate_client_secret(connection: Connection, caller: Caller, action: Action[SecretRotation]) -> ClientSecret:
    """Give a client of the trust or school a new secret. Whoever has it acts as the client: it may hold no more than the caller,
    of what was granted here or by the command line."""
    client, checks = await find_own_client(connection, caller, action.id), Checks()
    with checks.attempt():
        refuse_revoked(client)
        if client["auth_method"] != "client_secret":
            raise Conflict("The client authenticates by its own key and has no secret.", code="no-secret")
    checks.refuse_if_any()
    require_readable(action.fields)
    await require_no_more(connection, action.id)
    secret, digest = make_secret()
    overlap = timedelta(hours=action.fields.overlap_hours)
    await run_as_owner(connection, "SELECT rotate_client($1, $2, $3)", action.id, digest, overlap)
    await note_client(connection, action.id)
    return ClientSecret(id=str(action.id), name=client["name"], client_secret=None if is_dry_run() else secret)


@command(scope=Scope.CLIENTS_WRITE, at_school=False, on_installation=True, fails=(NotFound,))
async def revoke_client(connection: Connection, caller: Caller, ref: ClientRef) -> ClientEnd:
    """Revoke a client of the trust or school, for good: it gets no token, and reaches nothing from its next request on. Its name is free again."""
    client = await find_own_client(connection, caller, parse_id(ref.id))
    client_id = UUID(str(client["id"]))
    rows = await run_as_owner(connection, "SELECT end_client AS id FROM end_client($1) ORDER BY 1", client_id)
    await note_client(connection, client_id)
    return ClientEnd(id=ref.id, name=client["name"], unconfirmed_grants=[str(row["id"]) for row in rows])


def refuse_revoked(client: Any) -> None:
    """Raises Conflict where a client is revoked."""
    if client["revoked_at"] is not None:
        raise Conflict("The client is revoked.", code="client-revoked")


async def require_no_more(connection: Connection, client_id: UUID) -> None:
    """Raises Forbidden where a client holds more than the caller, who would act as the client by a new secret or key."""
    if not await connection.fetchval("SELECT may_rotate($1)", client_id):
        message = "The client holds more than the caller, who would get it with the secret. Revoke the client, or let the operator rotate the secret."
        raise Forbidden(message, code="client-holds-more")


async def run_as_owner(connection: Connection, statement: str, *values: Any) -> list[Any]:
    """Runs a function of the owner. Raises Forbidden where it refuses what was allowed when it was checked: the caller's own grants
    have changed since."""
    try:
        return list(await connection.fetch(statement, *values))
    except asyncpg.InsufficientPrivilegeError:
        message = "The grants of this client have just changed. GET /v1/me lists them."
        raise Forbidden(message, code="grants-changed") from None


_IS_NAMED = "SELECT true FROM own_clients WHERE tenant_id = $1 AND name = $2 AND revoked_at IS NULL"
_FIND = f"""
SELECT c.id, c.name, c.auth_method, c.revoked_at FROM own_clients c
WHERE c.id = $2 AND {reaches_sql("$1", "c.tenant_id", "c.tenant_id", "$3")}
"""


async def find_own_client(connection: Connection, caller: Caller, client_id: UUID | None) -> Any:
    """Returns a client of a tenant over which the caller holds clients:write. Raises NotFound."""
    row = await connection.fetchrow(_FIND, caller.client_id, client_id, Scope.CLIENTS_WRITE.value)
    if row is None:
        raise NotFound()
    return row


async def _find_tenant(connection: Connection, caller: Caller, client: NewClient, checks: Checks) -> UUID:
    """Returns the tenant that the request names or, where it names none, the only one over which the caller holds clients:write,
    the installation among them. Adds an issue where it is none or not clear, and returns the only one for the other checks alone."""
    tenant_ids = await list_tenants(connection, caller, Scope.CLIENTS_WRITE)
    only = tenant_ids[0] if len(tenant_ids) == 1 else NIL
    with checks.attempt():
        if client.tenant is not UNSET:
            return await find_tenant(connection, caller, Scope.CLIENTS_WRITE, client.tenant, "/tenant")
        if len(tenant_ids) != 1:
            message = "Name the trust or school whose client it is: this client holds clients:write over none or several."
            checks.add(Issue("/tenant", "required", message))
    return only
