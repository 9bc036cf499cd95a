"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): stores the answers of commands for 7 days, by client,
route and key.

A retry gets the first answer, and a client that lost an answer can ask for it. The table belongs to no tenant; every
statement here selects one client's own keys.
"""

from datetime import timedelta

from domain.access.caller import Caller
from domain.declare.errors import BadRequest, InProgress, Invalid, Issue
from domain.store.cleanup import clean_up_rows
from domain.store.database import Connection

KEY_LIFETIME = timedelta(days=7)
CLEANUP = (clean_up_rows("idempotency keys", "idempotency", "expires_at <= now()"),)


async def claim_key(connection: Connection, caller: Caller, route: str, key: str, fingerprint: bytes) -> str | None:
    """Returns the stored answer of this key, or None after locking the key for this transaction.

    Raises InProgress if another transaction has locked the key, and Invalid if the key was used with another request
    body.
    """
    name = f"{caller.client_id} {route} {key}"
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", name):
        raise InProgress("A request with this Idempotency-Key has not finished.")
    row = await connection.fetchrow(
        "SELECT fingerprint, answer FROM idempotency WHERE client_id = $1 AND route = $2 AND key = $3 AND expires_at > now()",
        *(caller.client_id, route, key),
    )
    if row is None:
        await connection.execute(
            "DELETE FROM idempotency WHERE client_id = $1 AND route = $2 AND key = $3", caller.client_id, route, key
        )
        return None
    if row["fingerprint"] != fingerprint:
        message = "This Idempotency-Key was used with another body. Use a new key for a new request."
        raise Invalid(message, code="idempotency-key-reused", issues=(Issue("Idempotency-Key", "idempotency-key-reused", message),))
    return str(row["answer"])


async def store_answer(connection: Connection, caller: Caller, route: str, key: str, fingerprint: bytes, answer: str) -> None:
    """Stores the answer, in the transaction of the command."""
    await connection.execute(
        "INSERT INTO idempotency (client_id, route, key, fingerprint, status, answer, expires_at) VALUES ($1, $2, $3, $4, 200, $5, now() + $6)",
        *(caller.client_id, route, key, fingerprint, answer, KEY_LIFETIME),
    )


def check_key(key: str) -> str:
    """Returns an Idempotency-Key without quotes. Raises BadRequest unless it has 1 to 200 visible ASCII characters."""
    bare = key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key
    if not 1 <= len(bare) <= 200 or not all(" " < c <= "~" for c in bare):
        message = "An Idempotency-Key has 1 to 200 visible ASCII characters."
        raise BadRequest(
            message, code="idempotency-key-malformed", issues=(Issue("Idempotency-Key", "idempotency-key-malformed", message),)
        )
    return bare
