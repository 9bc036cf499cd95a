"""Runs commands: transactions, idempotency keys, dry runs and receipts."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from asyncpg import DataError

from domain.access.caller import Caller
from domain.access.standing import check_standing
from domain.declare.errors import Busy, ClientRevoked, Conflict, DomainError, Forbidden, Invalid, NotFound, make_invalid
from domain.store.database import ConditionFailed, Connection, Database
from domain.write.batch import Batch, Recorded
from domain.write.checks import merge_issues
from domain.write.command import Command, FaultyInput
from domain.write.dry_run import run_dry
from domain.write.findings import Findings, collect_findings, write_findings
from domain.write.idempotency import KeyedRequest, claim_key, store_answer
from domain.write.locks import end_write, note_versions, track_locks
from domain.write.partial import needs_unreadable
from domain.write.receipts import OutcomeCounts, write_receipts

T = TypeVar("T")


@dataclass(frozen=True)
class CommandAnswer:
    """The output of a command as JSON.

    `replayed` says whether it was stored for an earlier request with the same Idempotency-Key.
    """

    answer: bytes
    replayed: bool = False


class _RolledBack(Exception):
    def __init__(self, answer: bytes) -> None:
        self.answer = answer


async def perform(
    database: Database,
    command: Command,
    caller: Caller,
    command_input: Any,
    *,
    dry_run: bool = False,
    keyed: KeyedRequest | None = None,
) -> CommandAnswer:
    """Runs a command in one transaction, and returns its output.

    With an Idempotency-Key (`keyed`), the output is stored for 7 days in the same transaction. The same request with the
    key returns it again. Another one raises Invalid, and one that is still running raises InProgress. A dry run does
    everything and then rolls back. Every batch leaves receipts, in its own transaction or, if it is rejected as a
    whole, in a second one.
    """
    caller.require({command.operation: command.need})
    if isinstance(command_input, FaultyInput):
        raise await _find_issues(database, command, caller, command_input)
    if isinstance(command_input, Batch) and command_input.faults:
        keyed = None  # it is refused, and a refusal is not stored
    attempt = command_input  # a batch is copied for each attempt, since a transaction may run again
    findings = Findings()

    async def work(connection: Connection) -> CommandAnswer:
        nonlocal attempt, findings
        if keyed is not None:
            stored = await claim_key(connection, caller, command.name, keyed, dry_run=dry_run)
            if stored is not None:
                await note_versions(connection, database, caller.only_tenant)
                return CommandAnswer(_restore_answer(command, command_input, stored.encode()), replayed=True)
        attempt = command_input.copy_unchanged() if isinstance(command_input, Batch) else command_input
        with track_locks() as taken, collect_findings() as findings, run_dry(dry_run):
            result = await _run_command(connection, command, caller, attempt)
        if isinstance(attempt, Batch):
            attempt.refuse_if_all_rejected()
        for locks in taken if result.has_written else ():
            if not locks.has_incremented:
                await locks.increment_versions()
        if dry_run:
            result.dry_run = True
        answer = msgspec.json.encode(result)
        if dry_run:
            raise _RolledBack(answer)
        await write_findings(connection, caller, findings, accepted=True)
        if isinstance(attempt, Batch):
            await write_receipts(connection, caller, attempt.count_outcomes(accepted=True).items(), accepted=True)
        if keyed is not None:
            stored_answer = msgspec.json.encode(result.drop_values() if isinstance(result, Recorded) else result.drop_secrets())
            written = next((locks.tenant_id for locks in taken), caller.only_tenant)
            await store_answer(connection, caller, command.name, keyed, stored_answer.decode(), written)
        await end_write(connection, database, taken, caller.only_tenant)
        return CommandAnswer(answer)

    try:
        return await run_in_standing(database, command, caller, work)
    except _RolledBack as rolled_back:
        return CommandAnswer(rolled_back.answer)
    except (Invalid, Conflict):
        if not dry_run and (isinstance(attempt, Batch) or findings.found):
            rejected = attempt.count_outcomes(accepted=False) if isinstance(attempt, Batch) else {}
            with suppress(Busy):  # the client must get the issues of the batch, not this error
                await database.run_transaction(
                    caller.client_id,
                    lambda connection: _record_rejection(database, connection, caller, rejected, findings),
                    tenant=caller.only_tenant,
                )
        raise


async def _run_command(connection: Connection, command: Command, caller: Caller, command_input: Any) -> Any:
    """Runs a command's function. Raises Invalid with all issues that were found where it gets no further since the head of a
    batch has issues.
    """
    try:
        return await command.run(connection, caller, command_input)
    except AttributeError as error:
        if not isinstance(command_input, Batch) or not needs_unreadable(error):
            raise
        raise make_invalid(command_input.list_issues()) from None
    except (Invalid, NotFound, Forbidden, Conflict) as problem:
        if not isinstance(command_input, Batch) or not command_input.faults:
            raise
        raise make_invalid(merge_issues(command_input.list_issues(), problem)) from None


async def _find_issues(database: Database, command: Command, caller: Caller, faulty: FaultyInput) -> Invalid:
    """Returns the error of an input with issues, with those that its command finds too. The command writes nothing."""
    issues = list(faulty.issues)

    async def work(connection: Connection) -> CommandAnswer:
        with track_locks(), collect_findings(), run_dry(True):
            await command.run(connection, caller, faulty.value)
        raise _RolledBack(b"")

    try:
        await run_in_standing(database, command, caller, work)
    except ClientRevoked:
        raise
    except DomainError as problem:
        issues = merge_issues(issues, problem)
    except AttributeError as error:
        if not needs_unreadable(error):
            raise  # else nothing more can be said
    except (_RolledBack, DataError):
        pass  # PostgreSQL's driver takes no value that cannot be read
    return make_invalid(issues)


def _restore_answer(command: Command, command_input: Any, stored: bytes) -> bytes:
    """Returns a kept answer as the first request got it: what is kept holds no references of pupils, which the same request names again."""
    if not isinstance(command_input, Batch) or not issubclass(command.output, Recorded):
        return stored
    return msgspec.json.encode(msgspec.json.decode(stored, type=command.output).restore_references(command_input))


async def _record_rejection(
    database: Database, connection: Connection, caller: Caller, rejected: OutcomeCounts, findings: Findings
) -> None:
    """Writes the receipts of a batch that was refused as a whole, and what was found in it."""
    await write_receipts(connection, caller, rejected.items(), accepted=False)
    await write_findings(connection, caller, findings, accepted=False)
    await end_write(connection, database, (), caller.only_tenant)


async def run_in_standing(database: Database, command: Command, caller: Caller, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Runs `work` in one transaction. Raises ClientRevoked and Forbidden if the client has been revoked, or the grants
    that gave the command's scope have ended, since the snapshot of its reach."""
    if caller.snapshot is not None:
        condition = caller.snapshot.write_condition(caller.client_id)
        with suppress(ConditionFailed):
            return await database.run_transaction(caller.client_id, work, condition, caller.only_tenant)
        await check_standing(database, caller.client_id, {command.operation: command.need})
    return await database.run_transaction(caller.client_id, work)
