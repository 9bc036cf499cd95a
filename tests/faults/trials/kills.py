"""Kills: while sixteen writers of one client write, worker, supervisor, PostgreSQL and single sessions are killed at random moments and started again.

What was acknowledged is there, once; what was not is there whole or not at all; the counts equal a recount; a killed supervisor leaves nothing.
"""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import count as numbers

from tests.faults.laboratory.asking import Asker
from tests.faults.laboratory.processes import NotWorking, Server, is_alive, send, wait_until
from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import note_ledger, note_unforeseen
from tests.faults.laboratory.writers import KINDS, Ledger, Maker, write_until
from tests.fixtures.databases import Databases

ABOUT = "worker, supervisor, PostgreSQL and sessions are killed under sixteen writers"
SMALL, FULL = 3, 220
ROUND = 12
"""Kills after which all is read back."""
WRITERS = 16
BETWEEN = 4
"""Writes that must be answered 200 between two kills."""
ORPHAN_SECONDS = 5.0
"""The longest that a worker may outlive its supervisor. It is asked for 0.5 s, and machines are busy; it may still be starting."""


@dataclass
class Killing:
    """A server and its PostgreSQL under fire."""

    lab: Laboratory
    databases: Databases
    server: Server
    result: Result
    draw: random.Random

    async def kill_worker(self) -> None:
        """The supervisor starts another."""
        workers = self.server.workers
        send(workers, signal.SIGKILL)
        self.result.expect(bool(workers), "the server has a worker", workers)
        await wait_until(lambda: bool(set(self.server.workers) - set(workers)))

    async def kill_supervisor(self) -> None:
        """Its worker must end by itself, and a new server can have the port."""
        assert self.server.process is not None
        os.kill(self.server.process.pid, signal.SIGKILL)
        self.server.process.wait()
        ended = await wait_until(lambda: not self.server.left(), ORPHAN_SECONDS)
        if not ended:
            orphans = self.server.left()
            self.result.add_break("a killed supervisor leaves no worker", f"processes {orphans} after {ORPHAN_SECONDS} s")
            send(orphans, signal.SIGKILL)
            await wait_until(lambda: not any(map(is_alive, orphans)))
        await self.server.start()

    async def kill_starting_supervisor(self) -> None:
        """As soon as it has a worker, which may not yet know whose child it is."""
        await self.server.stop()
        self.server.launch()
        await wait_until(lambda: bool(self.server.workers), 30)
        await asyncio.sleep(self.draw.choice((0.0, 0.05, 0.2, 0.5)))
        await self.kill_supervisor()

    async def kill_postmaster(self) -> None:
        self.lab.postgres.kill(signal.SIGKILL)
        await self.lab.postgres.start()

    async def stop_postgres_at_once(self) -> None:
        self.lab.postgres.kill(signal.SIGQUIT)
        await self.lab.postgres.start()

    async def end_session(self) -> None:
        """As an administrator does."""
        connection = await self.lab.superuser()
        for pid in (await self.lab.backends(self.databases))[:1]:
            await connection.execute("SELECT pg_terminate_backend($1)", pid)
        await connection.close()

    async def kill_session(self) -> None:
        """PostgreSQL ends all the others and recovers."""
        send((await self.lab.backends(self.databases))[:1], signal.SIGKILL)
        for _ in range(200):
            await asyncio.sleep(0.1)
            with suppress(Exception):
                await self.lab.as_superuser("SELECT 1")
                return
        raise NotWorking("PostgreSQL does not recover from the kill of a session")


TARGETS: dict[str, Callable[[Killing], Awaitable[None]]] = {
    "sessions": Killing.kill_session,
    "workers": Killing.kill_worker,
    "PostgreSQLs": Killing.kill_postmaster,
    "starting supervisors": Killing.kill_starting_supervisor,
    "sessions by SIGTERM": Killing.end_session,
    "supervisors": Killing.kill_supervisor,
    "PostgreSQLs by SIGQUIT": Killing.stop_postgres_at_once,
}


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Kills so many, each target as often as the others, in rounds after which all is read back."""
    result, draw = Result("kills", seed), random.Random(seed)
    targets: list[str] = []
    while len(targets) < count:
        some = list(TARGETS)[: count - len(targets)]
        draw.shuffle(some)
        targets += some
    databases = await lab.fresh()
    killing = Killing(lab, databases, lab.server(databases, request_seconds=15), result, draw)
    ledger = Ledger()
    try:
        await killing.server.start()
        for begin in range(0, count, ROUND):
            await _round(killing, ledger, targets[begin : begin + ROUND], begin, watch)
    finally:
        await killing.server.stop()
        note_unforeseen(killing.server, result)
        await lab.drop(databases)
    note_ledger(ledger, result)
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return count


async def _round(killing: Killing, ledger: Ledger, targets: list[str], begin: int, watch: Watch) -> None:
    result, stopped, first = killing.result, asyncio.Event(), len(ledger.writes)
    async with AsyncExitStack() as opened:
        askers = [await opened.enter_async_context(Asker(killing.server, killing.lab.clients["trust"])) for _ in range(WRITERS)]
        kinds = [
            ["single"],
            ["single target", "single"],
            ["bulk"],
            ["roll", "single"],
            ["graphql single"],
            ["targets", "groups"],
            [name for name in KINDS if "graphql" in name],
        ]
        numbering = numbers(1 + begin * 20_000)
        writers = [
            asyncio.create_task(
                write_until(
                    stopped,
                    asker,
                    Maker(random.Random(f"{result.seed} {begin} {n}"), numbering, n, WRITERS),
                    kinds[n % len(kinds)],
                    ledger,
                    result,
                )
            )
            for n, asker in enumerate(askers)
        ]
        try:
            for target in targets:
                before = ledger.statuses[200]
                goes_on = await wait_until(lambda before=before: ledger.statuses[200] >= before + BETWEEN, 40)
                result.expect(goes_on, "writes go on after a fault", f"not before {target} was killed")
                await asyncio.sleep(killing.draw.uniform(0, 0.3))
                await TARGETS[target](killing)
                result.count(target)
                watch()
            before = ledger.statuses[200]
            goes_on = await wait_until(lambda: ledger.statuses[200] >= before + BETWEEN, 40)
            result.expect(goes_on, "writes go on after a fault", f"not after {target} was killed")
        finally:
            stopped.set()
            await asyncio.gather(*writers)
    part = Ledger(ledger.writes[first:])
    part.compare(await killing.lab.find_values(killing.databases), result)
    await killing.lab.check_counts(killing.databases, result)
