"""What most trials begin with: a fresh database, a proxy before it, a server on it and a client of the trust."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

from tests.faults.laboratory.asking import Asker
from tests.faults.laboratory.processes import Server
from tests.faults.laboratory.proxy import Message, Proxy
from tests.faults.laboratory.result import Result
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.writers import Ledger, Maker, Write
from tests.fixtures.databases import Databases

TRIES = 50


@dataclass
class Stage:
    """One server on one database. The ledger holds all that was sent by `make` and `send`."""

    lab: Laboratory
    databases: Databases
    proxy: Proxy
    server: Server
    asker: Asker
    maker: Maker
    ledger: Ledger
    result: Result

    def make(self, kind: str, *, keyed: bool | None = None) -> Write:
        """A write of this kind, with a key or without, by chance unless said."""
        self.maker.keyed = keyed
        return self.maker.make(kind)

    async def insist(self, write: Write) -> bool:
        """Sends a write until it is answered 200. Whether it was in the end; if not, that is noted."""
        for _ in range(TRIES):
            answer = await self.ledger.send(write, self.asker, self.result)
            if answer.status == 200:
                return True
            await asyncio.sleep(0.1)
        self.result.add_break("writes go on after a fault", f"{write.kind}: {answer}")
        return False

    async def reads(self, what: str) -> None:
        """A read must be answered within some tries."""
        for _ in range(TRIES):
            answer = await self.asker.ask("GET", "/v1/schools?first=1")
            answer.check(self.result, what)
            if answer.status == 200:
                return
            await asyncio.sleep(0.1)
        self.result.add_break("reads go on after a fault", f"{what}: {answer}")

    async def make_cold(self) -> None:
        """The pool's connections end, and the next request opens one."""
        self.proxy.cut_all()
        await asyncio.sleep(0.03)

    async def record(self, kind: str, *, keyed: bool, is_cold: bool) -> list[Message]:
        """The messages of a write of this kind: on a connection that knows its statements, or from the opening of one."""
        await self.insist(self.make(kind, keyed=keyed))
        if is_cold:
            await self.make_cold()
        self.proxy.arm()
        await self.insist(self.make(kind, keyed=keyed))
        return self.proxy.disarm()

    async def check_written_once(self, write: Write, what: str) -> None:
        """After a retry, each value is there once."""
        found = await self.lab.find_values(self.databases)
        wrong = {value: found[value] for value in write.values if found[value] != 1}
        self.result.expect(not wrong, "a retry ends in one application", f"{what}: {wrong}")

    async def finish(self) -> None:
        """Reads all back."""
        self.ledger.compare(await self.lab.find_values(self.databases), self.result)
        await self.lab.check_counts(self.databases, self.result)
        note_ledger(self.ledger, self.result)


@asynccontextmanager
async def stage(lab: Laboratory, result: Result, *, options: str = "", **settings: int) -> AsyncIterator[Stage]:
    """Starts all of it, and ends it. `options` are those of CREATE DATABASE. What the server's log has on answers 500 is added to the result."""
    databases = await lab.fresh(options)
    proxy = Proxy(lab.postgres.cluster.port)
    await proxy.start()
    server = lab.server(databases, port=proxy.port, **settings)
    try:
        await server.start()
        async with Asker(server, lab.clients["trust"]) as asker:
            maker = Maker(random.Random(result.seed), count(1))
            yield Stage(lab, databases, proxy, server, asker, maker, Ledger(), result)
    finally:
        proxy.thaw()
        await server.stop()
        await proxy.stop()
        note_unforeseen(server, result)
        await lab.drop(databases)


def note_ledger(ledger: Ledger, result: Result) -> None:
    """Adds what was answered to the numbers."""
    result.count("values acknowledged", ledger.acknowledged)
    for status, times in sorted(ledger.statuses.items()):
        result.count(f"writes {'not answered' if status == 0 else f'answered {status}'}", times)


def note_unforeseen(server: Server, result: Result) -> None:
    """Where answers 500 came from, as the log has it, as examples of the promise that they broke."""
    lines = [json.loads(line) for line in server.unforeseen()]
    places = Counter(f"{line.get('kind')} {line.get('sqlstate')} at {str(line.get('at'))[-120:]}" for line in lines)
    if places and (examples := result.examples.get("no answer is 500")) is not None:
        examples += [f"{times} × {place}" for place, times in places.most_common(8)]
