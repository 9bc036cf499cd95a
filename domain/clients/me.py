"""What the calling client may do: the scopes of its token, its grants and the reach derived from them, and the limits
of one request."""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import structs

from domain.access.caller import Caller
from domain.access.reach import IN_FORCE
from domain.clients.clients import AuthMethod
from domain.clients.grants import Kind, Target
from domain.clients.signing_keys import TOKEN_LIFE
from domain.declare.errors import ClientRevoked
from domain.declare.ids import NIL
from domain.declare.inputs import Output
from domain.store.database import Database

MAX_LISTED = 1000
"""Grants, schools and trusts in each list. The counts beside the lists are complete."""


class MySecret(Output, kw_only=True):
    """A secret in force, without its text. After a rotation there are two for a while, and the older one has an
    `expiresAt`."""

    created_at: datetime
    expires_at: datetime | None


class MyClient(Output, kw_only=True):
    """The client and how it authenticates: by client_secret, with one of its `secrets` in force (oldest first), or by
    private_key_jwt."""

    id: str
    name: str
    auth_method: AuthMethod
    secrets: list[MySecret]


class MyToken(Output, kw_only=True):
    """The scopes of the token, never more than the grants gave when it was issued. Tokens are valid for `lifetime`
    seconds."""

    scopes: list[str]
    lifetime: int


class MyGrant(Output, kw_only=True):
    """A grant that was approved for the client, and whether it is in force. A target of many schools or trusts has no id;
    that of a local authority has its code as `targetName`. `kind` is what the client does with the data.

    `confirmBy` is set where the client that gave the grant has ended: it ends then, unless the school confirms it.
    When a grant is revoked or has expired, the client deletes the data it received by it (UK GDPR, article 28(3)(g)).
    """

    id: str
    state: Literal["in-force", "to-come", "expired", "revoked"]
    target: Target
    target_id: str | None
    target_name: str | None
    scopes: list[str]
    purpose: str
    agreement_version: str | None
    approved_by: str
    starts_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    kind: Kind | None
    confirm_by: datetime | None


class MySchool(Output, kw_only=True):
    """A school within reach, with the scopes that the grants in force give there together."""

    id: str
    urn: int
    name: str
    scopes: list[str]


class MyTrust(Output, kw_only=True):
    """A trust of which the whole is within reach, as writes to windows and schemes need. A school without a trust
    counts as a whole by itself."""

    id: str
    group_uid: int
    name: str
    scopes: list[str]


class GraphqlLimits(Output, kw_only=True):
    """Limits of one GraphQL document: bytes and tokens; and of one operation: fields, their depth, and aliases."""

    bytes: int
    tokens: int
    depth: int
    aliases: int
    fields: int


class Limits(Output, kw_only=True):
    """Limits of one request: rows of a page, at the top and nested, and how many (`defaultFirst`) where no `first` is
    sent; entries of a batch; bytes of a batch and of any other body, and JSON values in either; values of one filter and
    of all filters; how many `values` a response could hold, which `cost` says too for a version more. And the rate limit of
    a client, for each tenant it reaches: a request costs 1, and in addition the values that it asks for divided by 1,000 and
    the bytes of its body divided by 100,000, rounded down."""

    first: int
    nested_first: int
    default_first: int
    batch_entries: int
    body_bytes: int
    other_body_bytes: int
    body_values: int
    filter_values: int
    filter_values_in_all: int
    values: int
    cost: int
    requests_per_second: int
    burst: int
    graphql: GraphqlLimits


class MyAccess(Output, kw_only=True):
    """What is stored of a client and its reach. `nextExpiry` is when the first of the grants and secrets in force
    expires."""

    client: MyClient
    grants_count: int
    grants: list[MyGrant]
    schools_count: int
    schools: list[MySchool]
    trusts_count: int
    trusts: list[MyTrust]
    installation: list[str]
    next_expiry: datetime | None


class Me(MyAccess, kw_only=True):
    """What this client may do now. A request needs its scope twice: in `token`, and at the school, trust or
    installation it is about.

    Each list has at most 1,000 items; the counts are complete. Grants in force come first; schools and trusts are
    ordered by name. `installation` has the scopes over what belongs to no school. `nextExpiry` is when the first of the
    grants and secrets in force expires.
    """

    token: MyToken
    limits: Limits


_SCOPES = f"""(
    SELECT json_agg(DISTINCT scope ORDER BY scope) FROM reach r CROSS JOIN unnest(r.scopes) scope
    WHERE r.client_id = $1 AND r.tenant_id = o.tenant_id AND r.school_id = o.school_id AND {IN_FORCE}
)"""
_ACCESS = f"""
SELECT x.access
FROM (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) c
CROSS JOIN LATERAL (
    WITH organisations AS MATERIALIZED (
        SELECT DISTINCT r.tenant_id, r.school_id FROM reach r WHERE r.client_id = $1 AND {IN_FORCE}
    ), my_schools AS MATERIALIZED (
        SELECT o.*, s.id, s.urn, s.name FROM organisations o JOIN schools s ON s.id = o.school_id AND s.tenant_id = o.tenant_id
    ), my_trusts AS MATERIALIZED (
        SELECT o.*, t.id, t.group_uid, t.name FROM organisations o JOIN trusts t ON t.id = o.school_id AND t.id = o.tenant_id
    ), my_grants AS MATERIALIZED (
        SELECT g.*, COALESCE(s.name, t.name, g.local_authority) AS target_name,
            CASE WHEN g.revoked_at IS NOT NULL THEN 'revoked' WHEN g.expires_at <= now() THEN 'expired'
                WHEN g.starts_at > now() THEN 'to-come' ELSE 'in-force' END AS state
        FROM grants g LEFT JOIN schools s ON s.id = g.target_id LEFT JOIN trusts t ON t.id = g.target_id
        WHERE g.client_id = $1
    ), secrets AS MATERIALIZED (
        SELECT created_at, expires_at FROM client_secrets WHERE client_id = $1 AND (expires_at IS NULL OR expires_at > now())
    )
    SELECT json_build_object(
        'client', (SELECT json_build_object('id', id, 'name', display_name, 'authMethod', auth_method, 'secrets', (
            SELECT COALESCE(json_agg(json_build_object('createdAt', created_at, 'expiresAt', expires_at) ORDER BY created_at), '[]') FROM secrets
        )) FROM clients WHERE id = $1),
        'grantsCount', (SELECT count(*) FROM my_grants),
        'grants', (SELECT COALESCE(json_agg(json_build_object(
            'id', g.id, 'state', g.state, 'target', g.target, 'targetId', g.target_id, 'targetName', g.target_name, 'scopes', g.scopes,
            'purpose', g.purpose, 'agreementVersion', g.agreement_version, 'approvedBy', g.approved_by, 'startsAt', g.starts_at,
            'expiresAt', g.expires_at, 'revokedAt', g.revoked_at, 'kind', g.kind, 'confirmBy', g.confirm_by
        )), '[]') FROM (
            SELECT * FROM my_grants ORDER BY array_position(ARRAY['in-force', 'to-come', 'expired', 'revoked'], state), id LIMIT {MAX_LISTED}
        ) g),
        'schoolsCount', (SELECT count(*) FROM my_schools),
        'schools', (SELECT COALESCE(json_agg(json_build_object('id', id, 'urn', urn, 'name', name, 'scopes', {_SCOPES})), '[]')
            FROM (SELECT * FROM my_schools ORDER BY name, urn LIMIT {MAX_LISTED}) o),
        'trustsCount', (SELECT count(*) FROM my_trusts),
        'trusts', (SELECT COALESCE(json_agg(json_build_object('id', id, 'groupUid', group_uid, 'name', name, 'scopes', {_SCOPES})), '[]')
            FROM (SELECT * FROM my_trusts ORDER BY name, group_uid LIMIT {MAX_LISTED}) o),
        'installation', (SELECT COALESCE({_SCOPES}, '[]') FROM (VALUES ($2::uuid, $2::uuid)) o (tenant_id, school_id)),
        'nextExpiry', LEAST((SELECT min(expires_at) FROM secrets), (SELECT min(expires_at) FROM my_grants WHERE state = 'in-force'))
    )::text AS access
    FROM clients WHERE id = $1 AND revoked_at IS NULL AND c.s IS NOT NULL
    OFFSET 0
) x
"""
# The caller is set before anything is read, as domain.read.statement does it.


async def read_me(database: Database, caller: Caller, limits: Limits) -> Me:
    """Returns what the caller may do, read by one statement. `limits` are those of the interfaces. Needs no scope.

    Raises ClientRevoked.
    """
    row = await database.read(_ACCESS, caller.client_id, NIL)
    if row is None:
        raise ClientRevoked()
    access = msgspec.json.decode(row["access"], type=MyAccess)
    token = MyToken(scopes=sorted(caller.token_scopes), lifetime=int(TOKEN_LIFE.total_seconds()))
    return Me(**structs.asdict(access), token=token, limits=limits)
