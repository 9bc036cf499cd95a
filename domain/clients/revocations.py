"""What was taken from clients, for the ledger: it is taken again where a restore of the database has brought it back.

An entry says what was taken away, never what a client may do: so nothing that was given later is lost.
"""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.store.database import Connection
from domain.store.ledger_notes import note
from domain.store.ledger_reapply import Reapplied

_CLIENT = """
SELECT c.revoked_at, c.origins, c.jwks::text AS jwks,
    ARRAY(SELECT s.sha256 FROM client_secrets s WHERE s.client_id = c.id AND s.expires_at IS NOT NULL ORDER BY s.sha256) AS hashes,
    ARRAY(SELECT s.expires_at FROM client_secrets s WHERE s.client_id = c.id AND s.expires_at IS NOT NULL ORDER BY s.sha256) AS ends
FROM clients c WHERE c.id = $1
"""
_GRANTS = "SELECT id, scopes, expires_at, approved_until, revoked_at FROM grants WHERE id = ANY ($1::uuid[])"
_TAKE_FROM_CLIENT = """
UPDATE clients c SET revoked_at = COALESCE(c.revoked_at, $2),
    origins = CASE WHEN $3::text[] IS NULL THEN c.origins ELSE ARRAY(SELECT o FROM unnest(c.origins) o WHERE o = ANY ($3)) END
WHERE c.id = $1 AND (c.revoked_at IS NULL AND $2::timestamptz IS NOT NULL OR NOT c.origins <@ COALESCE($3, c.origins)) RETURNING 1
"""
_END_SECRETS = """
UPDATE client_secrets s SET expires_at = g.ends FROM unnest($2::bytea[], $3::timestamptz[]) g (hash, ends)
WHERE s.client_id = $1 AND s.sha256 = g.hash AND COALESCE(s.expires_at, 'infinity') > g.ends RETURNING 1
"""
_TAKE_KEYS = """
UPDATE clients c SET jwks = CASE WHEN l.keys IS NOT NULL THEN jsonb_build_object('keys', l.keys) END,
    auth_method = CASE WHEN l.keys IS NULL THEN 'client_secret' ELSE c.auth_method END
FROM (SELECT jsonb_agg(k.key ORDER BY k.no) FILTER (WHERE k.key IN (SELECT jsonb_array_elements($2::text::jsonb))) AS keys, count(*) AS keys_now
      FROM clients o CROSS JOIN jsonb_array_elements(o.jwks -> 'keys') WITH ORDINALITY k (key, no) WHERE o.id = $1) l
WHERE c.id = $1 AND c.jwks IS NOT NULL AND COALESCE(jsonb_array_length(l.keys), 0) < l.keys_now RETURNING 1
"""
"""A client of whose keys none is left authenticates by a secret. It has none, and gets no token, until its secret is rotated or it is given keys."""
_TAKE_FROM_GRANTS = """
UPDATE grants r SET scopes = ARRAY(SELECT s FROM unnest(r.scopes) s WHERE s = ANY ($2)),
    expires_at = LEAST(r.expires_at, $3), revoked_at = COALESCE(r.revoked_at, $4),
    approved_until = CASE WHEN r.confirm_by IS NOT NULL THEN LEAST(r.approved_until, $5::timestamptz) END
WHERE r.id = $1 AND (
    NOT r.scopes <@ $2::text[] OR COALESCE(r.expires_at, 'infinity') > COALESCE($3::timestamptz, 'infinity')
    OR r.revoked_at IS NULL AND $4::timestamptz IS NOT NULL
    OR r.confirm_by IS NOT NULL AND COALESCE(r.approved_until, 'infinity') > COALESCE($5::timestamptz, 'infinity')
) RETURNING r.client_id
"""
"""Of a grant that awaits confirmation, what it was approved until is shortened too: a confirmation would restore it."""


async def note_client(connection: Connection, client_id: UUID, *, has_origins: bool = False, has_keys: bool = False) -> None:
    """Notes for the ledger that a client is revoked and which of its secrets end; with `has_origins` also which origins are left, and
    with `has_keys` which public keys."""
    row = await connection.fetchrow(_CLIENT, client_id)
    if row is None:
        return
    ends = {hash_.hex(): at.isoformat() for hash_, at in zip(row["hashes"], row["ends"], strict=True)}
    origins = list(row["origins"]) if has_origins else None
    facts = {"client": str(client_id), "revokedAt": _write(row["revoked_at"]), "secrets": ends, "origins": origins}
    if has_keys:
        facts["keys"] = json.loads(row["jwks"] or '{"keys": []}')["keys"]
    note("client", facts)


async def note_grants(connection: Connection, grant_ids: Collection[UUID]) -> None:
    """Notes for the ledger what is left of grants that were ended, narrowed or shortened: their scopes and their end."""
    for row in await connection.fetch(_GRANTS, list(grant_ids)):
        note(
            "grant",
            {
                "grant": str(row["id"]),
                "scopes": list(row["scopes"]),
                "expiresAt": _write(row["expires_at"]),
                "approvedUntil": _write(row["approved_until"]),
                "revokedAt": _write(row["revoked_at"]),
            },
        )


async def reapply_client(connection: Connection, facts: Mapping[str, Any]) -> Reapplied:
    """Revokes a client, ends its secrets and takes its origins and keys, as an entry of the ledger says."""
    client_id, secrets = UUID(facts["client"]), facts["secrets"]
    taken = await connection.fetch(_TAKE_FROM_CLIENT, client_id, _read(facts["revokedAt"]), facts["origins"])
    hashes, ends = [bytes.fromhex(hash_) for hash_ in secrets], [datetime.fromisoformat(at) for at in secrets.values()]
    ended = await connection.fetch(_END_SECRETS, client_id, hashes, ends)
    if "keys" in facts:  # not in entries of programs before 0085
        ended += await connection.fetch(_TAKE_KEYS, client_id, json.dumps(facts["keys"]))
    if taken:
        await _derive_reach(connection, client_id)
    return Reapplied.DONE if taken or ended else Reapplied.NOTHING_TO_DO


async def reapply_grant(connection: Connection, facts: Mapping[str, Any]) -> Reapplied:
    """Ends, narrows or shortens a grant, as an entry of the ledger says."""
    ends = [_read(facts.get(name)) for name in ("expiresAt", "revokedAt", "approvedUntil")]
    client_id = await connection.fetchval(_TAKE_FROM_GRANTS, UUID(facts["grant"]), facts["scopes"], *ends)
    if client_id is None:
        return Reapplied.NOTHING_TO_DO
    await _derive_reach(connection, client_id)
    return Reapplied.DONE


async def _derive_reach(connection: Connection, client_id: UUID) -> None:
    """Derives a client's reach. The grants that it gave and holds no more end in 30 days unless they are confirmed, as then."""
    await connection.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)
    await connection.execute("SELECT await_confirmation($1)", client_id)


def _write(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _read(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
