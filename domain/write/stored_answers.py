"""Reads the answers stored under an Idempotency-Key, for a client that lost the response."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from domain.access.caller import Caller
from domain.access.standing import check_standing
from domain.declare.errors import InProgress, NotFound
from domain.declare.inputs import Output
from domain.store.database import Database
from domain.write.command import Command


class KeptAnswer(Output, kw_only=True):
    """The answer of a command, and until when the key returns it."""

    operation: str
    received_at: datetime
    expires_at: datetime
    answer: msgspec.Raw


class KeptAnswers(Output, kw_only=True):
    """The answers under one key. Each operation has keys of its own."""

    data: list[KeptAnswer]


_IS_NONE_RUNNING = """
SELECT count(*) FILTER (WHERE NOT pg_try_advisory_xact_lock_shared(hashtextextended($1 || ' ' || route || ' ' || $3, 0))) = 0
FROM unnest($2::text[]) route
"""
_STORED = """
SELECT route, created_at, expires_at, answer FROM idempotency
WHERE client_id = $1 AND route = ANY ($2) AND key = $3 AND expires_at > now() ORDER BY created_at, route
"""


async def read_stored_answers(database: Database, caller: Caller, key: str, commands: Iterable[Command]) -> KeptAnswers:
    """Returns the answers of these commands under this key, without those for which the caller no longer has the scope.

    Raises InProgress while a request with the key runs, and NotFound if none has succeeded within 7 days: errors are
    not stored.
    """
    caller.require_any(what="receipt")
    await check_standing(database, caller.client_id, {})
    operations = {command.name: command.operation for command in commands if caller.meets(command.need)}
    # the lock ends with its statement, so that the next statement sees the answer of a request that has ended by then
    async with database.without_caller() as connection:
        if not await connection.fetchval(_IS_NONE_RUNNING, str(caller.client_id), list(operations), key):
            raise InProgress("The request with this Idempotency-Key has not finished.")
        rows = await connection.fetch(_STORED, caller.client_id, list(operations), key)
    if not rows:
        raise NotFound()
    return KeptAnswers(
        data=[
            KeptAnswer(
                operation=operations[row["route"]],
                received_at=row["created_at"],
                expires_at=row["expires_at"],
                answer=msgspec.Raw(row["answer"].encode()),
            )
            for row in rows
        ]
    )
