"""Writes rows of several requests in one transaction.

While one transaction of a client writes a single row of a school, its further requests of the same kind wait, and those that wait go
together in the next one. So nothing waits for company, and the more requests there are, the less each of them costs.

Each request keeps its own outcome, receipt, stored answer and error. In the common transaction rows are only accepted: a
request whose row is rejected is performed by itself, and so are all of them if the transaction fails. Where the school is
locked by others, or the outcome is unknown, that is the answer to each.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from msgspec import UNSET

from domain.access.caller import Caller
from domain.declare.errors import Busy, DomainError, InProgress
from domain.store.database import Connection, Database, DatabaseUse, SnapshotChanged, database_use
from domain.store.outages import OutcomeUnknown
from domain.write.batch import Batch
from domain.write.command import Command
from domain.write.dry_run import run_dry
from domain.write.findings import collect_findings
from domain.write.idempotency import KeyedRequest, claim_new_keys, store_answers
from domain.write.joined import is_joinable, join, make_receipt, split_off
from domain.write.locks import end_write, track_locks
from domain.write.receipts import write_receipts
from domain.write.run import CommandAnswer, perform, run_in_standing

log = structlog.get_logger()

MAX_TOGETHER = 64
"""Rows of one transaction."""
MAX_WAITING = 1_000
"""Requests of one queue that wait for their transaction."""


@dataclass(eq=False)
class Waiting:
    """A request that waits. `turn` becomes its answer, or None where it has to be performed by itself; `leads` says that the others
    of its queue wait until it is."""

    caller: Caller
    batch: Batch[Any, Any]
    keyed: KeyedRequest | None
    use: DatabaseUse
    turn: "asyncio.Future[CommandAnswer | None]"
    leads: bool = False

    @property
    def name(self) -> Hashable:
        """What no other request of the same transaction may name: the pupil and the code of what is judged."""
        entry, head = self.batch.rows[0][1], self.batch.head
        window = getattr(entry, "window", UNSET)
        return (
            entry.id,
            entry.upn,
            entry.reference,
            entry.subject,
            entry.aspect,
            getattr(head, "window", UNSET) if window is UNSET else window,
        )


@dataclass
class _Queue:
    command: Command
    waiting: deque[Waiting] = field(default_factory=deque)

    def take(self) -> list[Waiting]:
        """Removes and returns the requests of the next transaction, in the order of their arrival: no two of them have one name or
        one Idempotency-Key."""
        taken: list[Waiting] = []
        later: list[Waiting] = []
        names: set[Hashable] = set()
        while self.waiting and len(taken) < MAX_TOGETHER:
            each = self.waiting.popleft()
            if each.turn.cancelled():
                continue
            own = {each.name, *([each.keyed.key] if each.keyed else [])}
            (taken if names.isdisjoint(own) else later).append(each)
            names |= own
        self.waiting.extendleft(reversed(later))
        return taken


class WritesTogether:
    """Performs commands, those of single rows together. A queue is of one client (with the scopes of one token), one command and
    one school, so that neither another client nor another school waits for what locks this one.

    Rows that name their pupil by id and no school share a queue of their tenant.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: dict[Hashable, _Queue] = {}
        self._running: set[asyncio.Task[None]] = set()

    def count_waiting(self) -> int:
        """Returns how many requests wait for their transaction."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    async def perform(
        self, command: Command, caller: Caller, command_input: Any, *, dry_run: bool = False, keyed: KeyedRequest | None = None
    ) -> CommandAnswer:
        """Runs a command as `run.perform` does. Raises Busy where too many requests of the client wait."""
        school = None if dry_run or not is_joinable(command, command_input) else _find_school(caller, command_input)
        if school is None:
            return await perform(self._database, command, caller, command_input, dry_run=dry_run, keyed=keyed)
        caller.require({command.operation: command.need})
        lane = caller.cache_key, command.name, school
        leads = lane not in self._queues
        if leads:
            self._queues[lane] = _Queue(command)
        else:
            waiting = self._wait(lane, caller, command_input, keyed)
            answer = await self._await_turn(lane, waiting)
            if answer is not None:
                return answer
            leads = waiting.leads
        try:
            return await perform(self._database, command, caller, command_input, keyed=keyed)
        finally:
            if leads:
                self._begin_next(lane)

    async def drain(self) -> None:
        """Waits until the transactions that run have ended."""
        await asyncio.gather(*self._running)

    def _wait(self, lane: Hashable, caller: Caller, batch: Batch[Any, Any], keyed: KeyedRequest | None) -> Waiting:
        queue = self._queues[lane]
        if len(queue.waiting) >= MAX_WAITING:
            raise Busy("Too many writes of this client wait; nothing of this request was written.", retry_after=1)
        turn: asyncio.Future[CommandAnswer | None] = asyncio.get_running_loop().create_future()
        waiting = Waiting(caller, batch, keyed, database_use.get() or DatabaseUse(), turn)
        queue.waiting.append(waiting)
        return waiting

    async def _await_turn(self, lane: Hashable, waiting: Waiting) -> CommandAnswer | None:
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            if waiting.leads:
                self._begin_next(lane)
            raise

    def _begin_next(self, lane: Hashable) -> None:
        """Lets those that wait go on: all together, or a single one by itself."""
        queue = self._queues[lane]
        taken = queue.take()
        if not taken:
            del self._queues[lane]
        elif len(taken) == 1:
            taken[0].leads = True
            taken[0].turn.set_result(None)
        else:
            task = asyncio.create_task(self._perform_together(lane, queue.command, taken))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _perform_together(self, lane: Hashable, command: Command, taken: list[Waiting]) -> None:
        use = DatabaseUse(client=taken[0].caller.client_id, sharers=[each.use for each in taken])
        if any(each.use.times is not None for each in taken):
            use.times = []
        database_use.set(use)  # this task's own
        answers: Sequence[CommandAnswer | None] = [None] * len(taken)
        problem: Busy | None = None
        try:
            answers = await _perform_joined(self._database, command, taken)
        except InProgress:
            pass
        except Busy as error:
            problem = error  # what locks the school for one of them locks it for each
        except DomainError:
            pass
        except Exception as error:
            log.warning("requests are performed one by one", command=command.name, kind=type(error).__name__)
        finally:
            for each, answer in zip(taken, answers, strict=True):
                each.use.seconds += use.seconds
                each.use.tenant = use.tenant
                if each.use.times is not None:
                    each.use.times += use.times or ()
                if each.turn.cancelled():
                    continue
                if problem is None:
                    each.turn.set_result(answer)
                elif isinstance(problem, OutcomeUnknown):
                    each.turn.set_exception(OutcomeUnknown())
                else:
                    each.turn.set_exception(Busy(problem.detail, code=problem.code, retry_after=problem.retry_after))
            self._begin_next(lane)


def _find_school(caller: Caller, batch: Batch[Any, Any]) -> Hashable:
    """Returns how the row names its school; its tenant where it only names its pupil, by id; None where it may be of any tenant."""
    entry = batch.rows[0][1]
    ref = batch.head.school if entry.school is UNSET else entry.school
    if ref is not UNSET:
        return ref.id, ref.urn, ref.laestab
    return None if entry.id is UNSET else caller.only_tenant


async def _perform_joined(database: Database, command: Command, taken: list[Waiting]) -> list[CommandAnswer | None]:
    """Performs the requests in one transaction. Returns the answer to each whose row was accepted; nothing was written of the
    others."""
    caller = taken[-1].caller

    async def work(connection: Connection) -> list[CommandAnswer | None]:
        answers: list[CommandAnswer | None] = [None] * len(taken)
        chosen = await _choose(connection, command, caller, taken)
        if not chosen:
            return answers
        batch = join(command, [taken[n].batch for n in chosen])
        with track_locks() as locks, collect_findings() as findings, run_dry(False):
            result = await command.run(connection, caller, batch)
        if findings.found or findings.checked or findings.whole_schools:
            raise NotImplementedError("the rows of this command cannot be written together")
        for each in locks if result.has_written else ():
            if not each.has_incremented:
                await each.increment_versions()
        accepted = {n: own for i, n in enumerate(chosen) if (own := split_off(batch, i, taken[n].batch)) is not None}
        await write_receipts(connection, caller, [make_receipt(own) for own in accepted.values()], accepted=True)
        stored = []
        for n, own in accepted.items():
            assert command.describe_row is not None
            output, keyed = command.describe_row(own), taken[n].keyed
            answers[n] = CommandAnswer(msgspec.json.encode(output))
            if keyed is not None:
                stored.append((keyed, msgspec.json.encode(output.drop_values()).decode()))
        if stored:
            written = next((each.tenant_id for each in locks), caller.only_tenant)
            await store_answers(connection, caller, command.name, stored, written)
        await end_write(connection, database, locks, caller.only_tenant)
        if any(taken[n].turn.cancelled() for n in chosen):
            raise SnapshotChanged  # it was told that nothing was written
        return answers

    return await run_in_standing(database, command, caller, work)


async def _choose(connection: Connection, command: Command, caller: Caller, taken: list[Waiting]) -> list[int]:
    """Returns the indexes of the requests that are still waited for and whose Idempotency-Key, if they have one, is new."""
    keys = {n: each.keyed.key for n, each in enumerate(taken) if each.keyed is not None and not each.turn.cancelled()}
    new = await claim_new_keys(connection, caller, command.name, list(keys.values())) if keys else set()
    return [n for n, each in enumerate(taken) if not each.turn.cancelled() and (each.keyed is None or keys[n] in new)]
