"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): stores the answers of commands for 7 days, by client,
route and key.

A retry gets the first answer, and a client that lost an answer can ask for it. A key is the client's, over all tenants: every
statement here selects one client's own keys. A stored answer says which tenant it is about.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from domain.access.caller import Caller
from domain.declare.errors import BadRequest, InProgress, Invalid, Issue
from domain.store.cleanup import clean_up_rows
from domain.store.database import Connection, SnapshotChanged, transpose
from domain.support.slices import Steps

KEY_LIFETIME = timedelta(days=7)
CLEANUP = (clean_up_rows("idempotency keys", "idempotency", "expires_at <= now()"),)


PREFERENCES = ("handling", "return")
"""Parts of a request that REST reads from the header Prefer, and GraphQL from arguments of these names."""
STRIDE = 32
"""Rows that are hashed before others may go on."""
_MAY_BE_WHOLE = re.compile(rb"\.0[,}\]]|[0-9]e|\.0$|-0")
"""Finds numbers that JSON can write in several ways, such as 100.0 and 1e2."""


@dataclass(frozen=True)
class KeyedRequest:
    """What a key is used for. `key` is its Idempotency-Key.

    `parts` are the parts that must be the same when it is used again, by the names that clients have for them: the body
    (as `hash_document` makes it), the row, its version and the preferences. `body` is the request as older programs
    compare it: its bytes, and what else counts for them.
    """

    key: str
    parts: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def hash_bytes(self) -> bytes:
        """Returns the fingerprint that older programs compare; no dry run is stored."""
        return hashlib.sha256(self.body).digest()

    def list_parts(self, *, dry_run: bool) -> dict[str, str]:
        """Returns the parts, with whether it is a dry run."""
        return {**self.parts, "dryRun": json.dumps(dry_run)}


def hash_document(document: Any) -> Steps[str]:
    """Returns the hash of a JSON value, in steps: the same for every way to write it, whatever the order of its members,
    its white space, its escapes and the forms of its numbers (RFC 8259).
    """
    digest = hashlib.sha256()

    def feed(value: Any, depth: int) -> Steps[None]:
        if isinstance(value, dict) and depth < 2:
            digest.update(b"{%d" % len(value))
            for name in sorted(value):
                digest.update(msgspec.json.encode(name) + b":")
                yield from feed(value[name], depth + 1)
        elif isinstance(value, list) and depth < 2:
            digest.update(b"[%d" % len(value))
            for i, element in enumerate(value):
                if i % STRIDE == STRIDE - 1:
                    yield
                digest.update(_encode(element) + b",")
        else:
            digest.update(_encode(value))

    yield from feed(document, 0)
    return digest.hexdigest()


def _encode(value: Any) -> bytes:
    encoded = msgspec.json.encode(value, order="sorted")
    return msgspec.json.encode(_make_whole(value), order="sorted") if _MAY_BE_WHOLE.search(encoded) else encoded


def _make_whole(value: Any) -> Any:
    """Returns the value with whole numbers as integers."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_make_whole(element) for element in value]
        case dict():
            return {name: _make_whole(element) for name, element in value.items()}
    return value


def hash_text(text: str) -> str:
    """Returns the hash of an id, so that nothing which is stored leads to a pupil."""
    return hashlib.sha256(text.encode()).hexdigest()


def describe_preferences(lenient: bool, with_results: bool) -> dict[str, str]:
    """Returns the parts of a batch's request that say how it is done."""
    return {"handling": "lenient" if lenient else "strict", "return": "representation" if with_results else "minimal"}


async def claim_key(connection: Connection, caller: Caller, route: str, request: KeyedRequest, *, dry_run: bool) -> str | None:
    """Returns the stored answer of this key, or None after locking the key for this transaction.

    Raises InProgress if another transaction has locked the key, and Invalid, which says what differs, if the key was
    used for another request.
    """
    key = request.key
    name = f"{caller.client_id} {route} {key}"
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", name):
        raise InProgress("A request with this Idempotency-Key has not finished.")
    row = await connection.fetchrow(
        "SELECT fingerprint, request, answer FROM idempotency WHERE client_id = $1 AND route = $2 AND key = $3 AND expires_at > now()",
        *(caller.client_id, route, key),
    )
    if row is None:
        await connection.execute(
            "DELETE FROM idempotency WHERE client_id = $1 AND route = $2 AND key = $3", caller.client_id, route, key
        )
        return None
    if row["request"] is None:  # stored by a program that compared bytes
        is_same = row["fingerprint"] == request.hash_bytes()
        differing = ["body"] * (not is_same) + ["dryRun"] * dry_run  # no dry run is stored
    else:
        stored, sent = json.loads(row["request"]), request.list_parts(dry_run=dry_run)
        differing = [name for name in {**sent, **stored} if sent.get(name) != stored.get(name)]
    if differing:
        raise make_reused(differing)
    return str(row["answer"])


_CLAIM_EACH = """
SELECT g.n, pg_try_advisory_xact_lock(hashtextextended(g.name, 0)) AND NOT EXISTS (
    SELECT 1 FROM idempotency i WHERE i.client_id = $1 AND i.route = $2 AND i.key = g.key
) AS is_new FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS g (key, name, n)
"""


async def claim_new_keys(connection: Connection, caller: Caller, route: str, keys: Sequence[str]) -> set[str]:
    """Returns those of the keys that nothing is stored for, expired or not, and no other transaction has locked, after locking them.

    One statement, which may not see what a transaction has stored that ended meanwhile. `store_answers` finds that out.
    """
    names = [f"{caller.client_id} {route} {key}" for key in keys]
    rows = await connection.fetch(_CLAIM_EACH, caller.client_id, route, keys, names)
    return {keys[row["n"] - 1] for row in rows if row["is_new"]}


def make_reused(differing: Sequence[str]) -> Invalid:
    """Returns the error of a key that is of another request. `differing` are the parts that differ; those of the preferences
    are named together, as the header that says them.
    """
    preferred = [name for name in PREFERENCES if name in differing]
    others = [name for name in differing if name not in PREFERENCES]
    named = " and another ".join(others + [f"Prefer ({', '.join(preferred)})"] * bool(preferred))
    message = f"This Idempotency-Key was used with another {named}. Use a new key for a new request."
    return Invalid(message, code="idempotency-key-reused", issues=(Issue("Idempotency-Key", "idempotency-key-reused", message),))


_STORE = """
INSERT INTO idempotency (client_id, route, key, fingerprint, status, answer, expires_at, request, of_tenant)
VALUES ($1, $2, $3, $4, 200, $5, now() + $6, $7::jsonb, $8)
"""


async def store_answer(
    connection: Connection, caller: Caller, route: str, request: KeyedRequest, answer: str, tenant_id: UUID | None
) -> None:
    """Stores the answer, in the transaction of the command. `tenant_id` is the tenant whose data the command wrote."""
    parts, fingerprint = json.dumps(request.list_parts(dry_run=False)), request.hash_bytes()
    await connection.execute(_STORE, *(caller.client_id, route, request.key, fingerprint, answer, KEY_LIFETIME, parts, tenant_id))


_STORE_EACH = """
INSERT INTO idempotency (client_id, route, key, fingerprint, status, answer, expires_at, request, of_tenant)
SELECT $1, $2, g.key, g.fingerprint, 200, g.answer, now() + $3, g.request::jsonb, $4
FROM unnest($5::text[], $6::bytea[], $7::text[], $8::text[]) AS g (key, fingerprint, answer, request)
ON CONFLICT (client_id, route, key) DO NOTHING RETURNING 1
"""


async def store_answers(
    connection: Connection, caller: Caller, route: str, answers: Sequence[tuple[KeyedRequest, str]], tenant_id: UUID | None
) -> None:
    """Stores the answers of several requests, each with its key. Raises SnapshotChanged where something is stored for one of the
    keys."""
    rows = [
        (request.key, request.hash_bytes(), answer, json.dumps(request.list_parts(dry_run=False))) for request, answer in answers
    ]
    stored = await connection.fetch(_STORE_EACH, caller.client_id, route, KEY_LIFETIME, tenant_id, *transpose(rows, 4))
    if len(stored) < len(rows):
        raise SnapshotChanged


def check_key(key: str) -> str:
    """Returns an Idempotency-Key without quotes. Raises BadRequest unless it has 1 to 200 visible ASCII characters."""
    bare = key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key
    if not 1 <= len(bare) <= 200 or not all(" " < c <= "~" for c in bare):
        message = "An Idempotency-Key has 1 to 200 visible ASCII characters."
        raise BadRequest(
            message, code="idempotency-key-malformed", issues=(Issue("Idempotency-Key", "idempotency-key-malformed", message),)
        )
    return bare
