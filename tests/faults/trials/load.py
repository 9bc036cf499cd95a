"""Load: reads and writes of both interfaces by clients of two tenants at their quota. Memory is flat, nothing is 500, and the recount is equal."""

import asyncio
import random
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from tests.bench.reads import R1_PATH, R1_QUERY, R2_QUERY
from tests.faults.laboratory.asking import Answer, Asker
from tests.faults.laboratory.documents import document, url
from tests.faults.laboratory.memory import sampling
from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import SCHOOLS, Laboratory
from tests.faults.laboratory.stage import Stage, stage
from tests.faults.laboratory.writers import KINDS, Maker
from tests.fixtures.small_trust import WINDOW

ABOUT = "mixed reads and writes of four clients at their quota, by seconds: memory is flat"
SMALL, FULL = 4, 600
RATE = 20
"""Requests a second, of a client for each tenant."""
READERS, SHAPES, FIELDS = 3, 150, 60
"""Readers of each client, how many different documents and URLs there are beside the usual ones, and the most fields that they have."""
GROWTH_MB = 60
"""The most that memory may grow in the last quarter of a run that is LONG, in seconds: the 1.8 GB of issue 11 grew by seven times as much."""
LONG = 300
FIRST_PAGE = R2_QUERY.replace("($after: String!)", "").replace(", after: $after", "")


@dataclass
class Crowd:
    """The clients of a run."""

    here: Stage
    until: float
    draw: random.Random
    pupils: dict[str, list[str]]
    shapes: list[str]
    r1: list[float] = field(default_factory=list)

    def note(self, answer: Answer, what: str) -> None:
        """Counts an answer by its status."""
        answer.check(self.here.result, what)
        self.here.result.count(f"reads answered {answer.status}")
        self.here.result.expect(answer.status in (200, 429, 500, 503), "a read that is asked is answered", f"{what}: {answer}")

    async def read(self, asker: Asker, tenant: str) -> None:
        """A reader: one pupil most often, pages, aggregates, and other shapes."""
        while time.monotonic() < self.until:
            chance, pupil = self.draw.random(), self.draw.choice(self.pupils[tenant])
            if chance < 0.5:
                answer = await (asker.ask("GET", R1_PATH.format(pupil)) if chance < 0.3 else asker.query(R1_QUERY, id=pupil))
                if answer.status == 200:
                    self.r1.append(answer.seconds)
            elif chance < 0.7:
                answer = await asker.query(FIRST_PAGE)
            elif chance < 0.8:
                answer = await asker.ask("GET", f"/v1/aggregates?window={WINDOW}&subject=reading&groupBy=school")
            else:
                shape = self.draw.choice(self.shapes)
                answer = await (asker.ask("GET", shape) if shape.startswith("/") else asker.query(shape))
            self.note(answer, f"a read, {chance:.2f}")
            await asyncio.sleep(0.2 if answer.status == 429 else 0)

    async def write(self, asker: Asker, maker: Maker) -> None:
        """A writer of every kind, which sends again what is refused."""
        while time.monotonic() < self.until:
            write = maker.make(self.draw.choice(list(KINDS)))
            while time.monotonic() < self.until:
                answer = await self.here.ledger.send(write, asker, self.here.result)
                await asyncio.sleep(0.05 if answer.status == 200 else 0.2)
                if answer.status == 200:
                    break


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Runs for `count` seconds."""
    result, draw = Result("load", seed), random.Random(seed)
    async with stage(lab, result, rate=RATE, burst=RATE) as here, AsyncExitStack() as opened:
        shapes = [document(draw, FIELDS) if n % 3 else url(draw) for n in range(SHAPES)]
        crowd = Crowd(here, time.monotonic() + count, draw, await _pupils(here), shapes)
        tasks = []
        for n, name in enumerate(("trust", "second", "both", "quay")):
            asker = await opened.enter_async_context(Asker(here.server, lab.clients[name]))
            schools = {"quay": SCHOOLS[3:], "both": SCHOOLS}.get(name, SCHOOLS[:3])
            maker = Maker(random.Random(f"{seed} {n}"), here.maker.numbers, n, 4, schools)
            tenant = "Quay" if name == "quay" else "trust"
            tasks += [crowd.write(asker, maker), *(crowd.read(asker, tenant) for _ in range(READERS))]
        async with sampling(here, max(0.5, count / 200)) as memory:
            ticking = asyncio.create_task(_tick(count, watch))
            await asyncio.gather(*tasks)
            await ticking
        memory.check(here)
        if count >= LONG:
            memory.check_growth(here, GROWTH_MB)
        result.expect(len(crowd.r1) > 5, "what the trial needs is there", f"{len(crowd.r1)} reads of one pupil")
        result.numbers["R1 p99 ms"] = f"{1000 * statistics.quantiles(crowd.r1, n=100)[98]:.0f}" if len(crowd.r1) > 1 else "–"
        await here.finish()
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return count


async def _tick(seconds: int, watch: Watch) -> None:
    for _ in range(seconds):
        await asyncio.sleep(1)
        watch()


async def _pupils(here: Stage) -> dict[str, list[str]]:
    """The pupils of each tenant."""
    connection = await here.lab.superuser(here.databases.name)
    statement = "SELECT id::text FROM pupils WHERE tenant_id = $1"
    found = {name: [row["id"] for row in await connection.fetch(statement, here.lab.ids[name])] for name in ("trust", "Quay")}
    await connection.close()
    return found
