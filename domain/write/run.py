"""Carries commands out."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from domain.access.caller import Caller
from domain.declare.errors import Busy, Conflict, Invalid
from domain.store.database import Connection, Database
from domain.write import idempotency
from domain.write.batch import Batch, Recorded
from domain.write.command import Command
from domain.write.receipts import write_receipts


@dataclass(frozen=True)
class Performed:
    """What a command answered, as JSON, and whether it is the kept answer of an earlier request with the same key."""

    answer: bytes
    replayed: bool = False


class _RolledBack(Exception):
    def __init__(self, answer: bytes) -> None:
        self.answer = answer


async def perform(
    database: Database,
    chosen: Command,
    caller: Caller,
    given: Any,
    *,
    dry_run: bool = False,
    key: str | None = None,
    body: bytes = b"",
) -> Performed:
    """Carries a command out in one transaction.

    With a key (Idempotency-Key), the answer is kept in the same transaction for 7 days: the same key and body give the same answer, another body is
    Invalid, a request still running InProgress. A dry run does everything and then rolls back. Every batch leaves receipts: in its own
    transaction, or, where it is refused whole, in one after it.
    """
    caller.require_scope(chosen.scope, chosen.operation)
    fingerprint = b"" if key is None else hashlib.sha256(body + (b" dry" if dry_run else b"")).digest()
    tried = given

    async def work(connection: Connection) -> Performed:
        nonlocal tried
        if key is not None:
            claimed = await idempotency.claim(connection, caller, chosen.name, key, fingerprint)
            if claimed is not None:
                return Performed(claimed.encode(), replayed=True)
        tried = given.copy_unchanged() if isinstance(given, Batch) else given
        result = await chosen.run(connection, caller, tried)
        if dry_run and isinstance(result, Recorded):
            result.dry_run = True
        answer = msgspec.json.encode(result)
        if dry_run:
            raise _RolledBack(answer)
        if isinstance(tried, Batch):
            await write_receipts(connection, caller, tried.count_outcomes(accepted=True), accepted=True)
        if key is not None:
            kept = msgspec.json.encode(result.without_values()) if isinstance(result, Recorded) else answer
            await idempotency.store_answer(connection, caller, chosen.name, key, fingerprint, kept.decode())
        return Performed(answer)

    try:
        return await database.writing(caller.client_id, work)
    except _RolledBack as rolled_back:
        return Performed(rolled_back.answer)
    except (Invalid, Conflict):
        if isinstance(tried, Batch) and not dry_run:
            refused = tried.count_outcomes(accepted=False)
            with suppress(Busy):  # why the batch was refused is what the client must hear
                await database.writing(
                    caller.client_id, lambda connection: write_receipts(connection, caller, refused, accepted=False)
                )
        raise
