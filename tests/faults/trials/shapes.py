"""Shapes: thousands of GraphQL documents and URLs that differ in their shape, each within the limits. Neither the worker nor a session of
PostgreSQL may keep what they were compiled to without end."""

import asyncio
import random

from tests.faults.laboratory.documents import document, url
from tests.faults.laboratory.memory import sampling
from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import Stage, stage

ABOUT = "differently shaped documents within the limits: what is kept of them is bounded"
SMALL, FULL = 10, 3_000
AT_ONCE = 8
DOCUMENTS_A_URL = 10
EVERY = 1.0


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Sends so many, on as many connections as see some hundred each: few documents are sent on few, where they weigh as much."""
    result, draw = Result("shapes", seed), random.Random(seed)
    at_once = max(1, min(AT_ONCE, count // 100))
    async with stage(lab, result, pool_size=at_once) as here:
        await here.reads("at the beginning")
        async with sampling(here, EVERY) as memory:
            await asyncio.gather(*(_ask(here, draw, count // at_once, watch) for _ in range(at_once)))
        memory.check(here)
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    at_once = max(1, min(AT_ONCE, count // 100))
    return count // at_once * at_once


async def _ask(here: Stage, draw: random.Random, count: int, watch: Watch) -> None:
    for n in range(count):
        answer = await (here.asker.ask("GET", url(draw)) if n % DOCUMENTS_A_URL == 0 else here.asker.query(document(draw)))
        answer.check(here.result, "a shape")
        here.result.count("shapes")
        here.result.count("shapes answered 200", int(answer.status == 200))
        here.result.expect(answer.status in (200, 503), "a shape within the limits is answered", answer)
        watch()
