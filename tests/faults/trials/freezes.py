"""Freezes: PostgreSQL (SIGSTOP of all its processes) or the way to it stands still at a message of a write for longer than a request may take.

Eight writes that follow one after another must all be there where they were answered 200: a BEGIN that arrives late on a connection that is
lent again turns the next write into a savepoint that nobody commits.
"""

import asyncio
import random
import signal
from contextlib import suppress
from dataclasses import dataclass

from tests.faults.laboratory.processes import send
from tests.faults.laboratory.proxy import Fault, Message
from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import Stage, stage
from tests.faults.laboratory.writers import KINDS, Write
from tests.faults.trials.cuts import check_words

ABOUT = "PostgreSQL, or the way to it, stands still at every message of a write"
SMALL, FULL = 3, 480
LANES = 4
"""Servers whose proxies are frozen at the same time: a freeze is waited for, and costs nothing."""
FEW = 16
"""Below so many, one server does: to start one costs more."""
LIMIT = 1
"""Seconds that a request may take."""
LONGEST = 8.0
FOLLOWING = 8


@dataclass(frozen=True)
class Case:
    """Where all stands still: at this message, in the proxy, or in PostgreSQL where `stops` is set."""

    kind: str
    keyed: bool
    is_cold: bool
    at: int
    message: str
    stops: bool

    def __str__(self) -> str:
        where = "PostgreSQL stands still" if self.stops else "the way stands still"
        return f"{self.kind}{' with a key' if self.keyed else ''}{', new connection' if self.is_cold else ''}: {where} at {self.message} ({self.at})"


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Freezes the way in several lanes at once, then PostgreSQL in one. A third of the cases are of PostgreSQL."""
    result, draw = Result("freezes", seed), random.Random(seed)
    lanes = LANES if count >= FEW else 1
    stopping = max(2, count // 3)
    cases: list[Case] = []
    async with stage(lab, result, request_seconds=LIMIT, pool_size=2) as here:
        cases = await _choose(here, count, draw)
        here_too = cases[stopping:] if lanes == 1 else []
        await _lane(here, [*(_with_stop(case) for case in cases[:stopping]), *here_too], watch)
    if lanes > 1:
        await asyncio.gather(*(_run_lane(lab, result, cases[stopping + lane :: lanes], watch) for lane in range(lanes)))
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return count


async def _run_lane(lab: Laboratory, result: Result, cases: list[Case], watch: Watch) -> None:
    async with stage(lab, result, request_seconds=LIMIT, pool_size=2) as here:
        await _lane(here, cases, watch)


async def _lane(here: Stage, cases: list[Case], watch: Watch) -> None:
    for case in cases:
        await _freeze(here, case)
        watch()
    await here.finish()


async def _choose(here: Stage, count: int, draw: random.Random) -> list[Case]:
    """At BEGIN and COMMIT of each kind first, then at every message of a single judgement, then anywhere by chance."""
    modes = [(kind, keyed, is_cold) for kind in KINDS for keyed in (False, True) for is_cold in (False, True)]
    draw.shuffle(modes)
    if count < len(modes):
        modes = [("single", False, False), *modes[:2]]
    found: list[Case] = []
    for kind, keyed, is_cold in modes:
        trace: list[Message] = await here.record(kind, keyed=keyed, is_cold=is_cold)
        found += [Case(kind, keyed, is_cold, i, str(message), False) for i, message in enumerate(trace)]
    draw.shuffle(found)

    def rank(case: Case) -> int:
        edges = ("BEGIN" in case.message, "COMMIT" in case.message)
        return 0 if any(edges) else 1 if case.kind == "single" and not case.is_cold else 2

    chosen = sorted(found, key=rank)[:count]
    here.result.numbers["places"] = f"{len(chosen)} of {len(found)}"
    draw.shuffle(chosen)
    return sorted(chosen, key=lambda case: "BEGIN" not in case.message) if count < FEW else chosen


def _with_stop(case: Case) -> Case:
    return Case(case.kind, case.keyed, case.is_cold, case.at, case.message, True)


def _make_beside(here: Stage, write: Write) -> Write:
    """A single judgement of which the write says nothing: without a key, a write that is sent again replaces what others wrote since."""
    while True:
        single = here.make("single", keyed=False)
        if not _pairs(single) & _pairs(write):
            return single


def _pairs(write: Write) -> set[tuple[str | None, str | None]]:
    body = write.body["variables"]["input"] if "variables" in write.body else write.body
    return {(entry.get("upn"), entry.get("subject")) for entry in body["entries"]}


async def _freeze(here: Stage, case: Case) -> None:
    if case.is_cold:
        await here.reads(str(case))
        await here.make_cold()
    else:
        await here.insist(here.make(case.kind, keyed=case.keyed))
    write, proxy, stopped = here.make(case.kind, keyed=case.keyed), here.proxy, list[int]()

    def stop() -> None:
        stopped.extend(here.lab.postgres.processes())
        send(stopped, signal.SIGSTOP)

    proxy.arm(Fault(case.at, "call", call=stop) if case.stops else Fault(case.at, "freeze"))
    sending = asyncio.create_task(here.ledger.send(write, here.asker, here.result))
    try:
        await asyncio.wait({sending}, timeout=LONGEST)
        here.result.expect(sending.done(), "a request ends at its limit", f"{case}: not after {LONGEST:.0f} s")
        await asyncio.sleep(0.2)
    finally:
        has_fired, is_commit_sent = proxy.fired.is_set(), proxy.is_commit_sent
        proxy.disarm()
        proxy.thaw()
        send(stopped, signal.SIGCONT)
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(sending), 30)
    following = [_make_beside(here, write) for _ in range(FOLLOWING)]
    answers = [await here.ledger.send(one, here.asker, here.result) for one in following]
    if not has_fired:
        return here.result.count("not reached")
    here.result.count("stops of PostgreSQL" if case.stops else "freezes of the way")
    await check_words(here, write, sending.result(), is_commit_sent, str(case), is_cut=False)
    found = await here.lab.find_values(here.databases)
    lost = [one for one, answer in zip(following, answers, strict=True) if answer.status == 200 and not found[one.values[0]]]
    if lost:
        here.result.add_break(
            "no acknowledged value is lost", f"{case}: {len(lost)} of {FOLLOWING} writes that follow", 0
        )  # counted when all is read back
    await here.insist(write)
    await here.check_written_once(write, str(case))
