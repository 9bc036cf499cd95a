"""Starved: others take what PostgreSQL has. Requests wait for a connection of the pool's own, and writers of a locked school leave some to others."""

import asyncio
import statistics

from tests.faults.laboratory.asking import Answer
from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import Stage, stage
from tests.fixtures.small_trust import batch, upn

ABOUT = "max_connections is taken by others; a school's lock is held while fourteen write to it"
SMALL, FULL = 1, 3
AT_ONCE = 40
LOCKED_WRITERS = 14
LONGEST_WAIT = 20.0
"""Seconds by which a writer of the locked school must be answered. A few are asked for, and machines are busy; today it is 60."""


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Both, so many times."""
    result = Result("starved", seed)
    for _ in range(count):
        async with stage(lab, result) as here:
            await _take_connections(here)
            watch()
            await _lock_school(here)
            watch()
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return 2 * count


async def _take_connections(here: Stage) -> None:
    """Others open connections until PostgreSQL has none, while the pool holds a few: more requests than these come, and wait for them."""
    result, lab = here.result, here.lab
    await asyncio.gather(*(here.asker.ask("GET", "/v1/schools") for _ in range(3)))
    async with lab.connections_taken(here.databases) as taken:
        result.numbers["connections of others"] = taken
        result.numbers["connections of the pool"] = len(await lab.backends(here.databases))
        requests = [here.asker.ask("GET", f"/v1/schools?first={1 + n % 4}&fields=id,name") for n in range(AT_ONCE)]
        requests += [here.ledger.send(here.make("single"), here.asker, result) for _ in range(8)]
        for answer in await asyncio.gather(*requests):
            answer.check(result, "max_connections is taken")
            result.count("requests while starved")
            result.expect(
                answer.status == 200, "a request waits for a connection of the pool's own", f"{answer.status} {answer.detail}"
            )
    await here.reads("the connections are free again")


async def _lock_school(here: Stage) -> None:
    """A transaction holds a school's lock; its writers are told to come back, and all others go on meanwhile."""
    result = here.result
    holder = await here.lab.superuser(here.databases.name)
    transaction = holder.transaction()
    await transaction.start()
    locked = await holder.fetch("SELECT * FROM school_versions WHERE school_id = $1 FOR UPDATE", here.lab.ids["Oak"])
    assert locked, "the school has no row of its version to lock"
    writers = [asyncio.create_task(_write(here, n)) for n in range(LOCKED_WRITERS)]
    await asyncio.sleep(0.5)
    reads: list[Answer] = []
    writes: list[Answer] = []
    try:
        deadline = asyncio.get_running_loop().time() + LONGEST_WAIT
        n = 0
        while asyncio.get_running_loop().time() < deadline and not all(writer.done() for writer in writers):
            n += 1
            some = [
                here.asker.ask("GET", f"/v1/pupils?schoolId={here.lab.ids[school]}&first=5") for school in ("Elm", "Ash", "Oak")
            ]
            some.append(here.asker.query("{ schools(first: 3) { nodes { id name } } }"))
            reads += await asyncio.gather(*some)
            if n % 4 == 0:
                here.maker.schools = ("Elm",)
                writes.append(await here.ledger.send(here.make("single"), here.asker, result))
            await asyncio.sleep(0.25)
        waiting = sum(not writer.done() for writer in writers)
        result.expect(
            not waiting,
            "a lock is waited for a few seconds",
            f"{waiting} of {LOCKED_WRITERS} wait after {LONGEST_WAIT:.0f} s",
        )
    finally:
        await transaction.rollback()
        await holder.close()
    answers = await asyncio.gather(*writers)
    for answer in (*answers, *reads, *writes):
        answer.check(result, "a school is locked")
    for answer in answers:
        result.expect(answer.status in (200, 503), "a write that is sent is understood", f"{answer}")
    for what, others in (("reads go on while a school is locked", reads), ("other schools' writes go on", writes)):
        for answer in others:
            result.expect(answer.status == 200, what, f"{answer.status} {answer.detail} after {answer.seconds:.1f} s")
    result.count("reads while a school is locked", len(reads))
    result.count("writes of other schools", len(writes))
    result.numbers["seconds of a locked writer"] = f"{statistics.median(answer.seconds for answer in answers):.1f}"
    await here.reads("the lock is free again")


async def _write(here: Stage, number: int) -> Answer:
    """A judgement of the locked school, by either interface."""
    body = batch("Oak", [{"upn": upn(number), "subject": "reading", "grade": 90 + number}])
    if number % 2:
        return await here.asker.ask("POST", "/v1/judgements", body)
    document = "mutation ($input: JudgementBatchInput!) { recordJudgements(input: $input) { received } }"
    return await here.asker.query(document, input=body)
