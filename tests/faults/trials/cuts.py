"""Cuts: the connection to PostgreSQL is cut at every message of a write and in the middle of messages, by RST and by FIN; and a server is told
to end while a write waits.

No answer is 500. That nothing was written is said only where it is true and COMMIT was not sent; after COMMIT the answer says that it is
not known. The same request again ends in one application, and the pool goes on.
"""

import asyncio
import random
import signal
from dataclasses import dataclass

from tests.faults.laboratory.asking import NOT_KNOWN, NOTHING_WRITTEN, Answer
from tests.faults.laboratory.proxy import TO_SERVER, Fault, Message, find_commits
from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import Stage, stage
from tests.faults.laboratory.writers import KINDS, Write

ABOUT = "the connection is cut at every message of a write"
SMALL, FULL = 20, 1_200
FEW = 100
"""Below so many cuts, those of four ways of writing alone are tried."""
PER_END = 40
"""Cuts for each server that is told to end."""
LIMIT = 4
"""Seconds that a request may take: a server that is told to end waits for it."""


@dataclass(frozen=True)
class Case:
    """A write, and where its connection is cut. `from_commit` is how many messages later than COMMIT that is."""

    kind: str
    keyed: bool
    is_cold: bool
    at: int
    part: float
    action: str
    from_commit: int

    def __str__(self) -> str:
        how = f"{self.action} in message {self.at} ({self.from_commit:+} from COMMIT)"
        return f"{self.kind}{' with a key' if self.keyed else ''}{', new connection' if self.is_cold else ''}: {how}"


def cases_of(kind: str, keyed: bool, is_cold: bool, trace: list[Message]) -> list[Case]:
    """Every message: before it and in its middle, in both ways."""
    commit = find_commits(trace)[0]
    return [
        Case(kind, keyed, is_cold, i, part, action, i - commit)
        for i in range(len(trace))
        for part in (0.0, 0.5)
        for action in ("rst", "fin")
    ]


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Runs so many cuts: those around COMMIT first, then others by chance."""
    result, draw = Result("cuts", seed), random.Random(seed)
    async with stage(lab, result, pool_size=2, request_seconds=LIMIT) as here:
        for case in await _choose(here, count, draw):
            await _cut(here, case)
            watch()
        for number in range(max(1, count // PER_END)):
            await _end_server(here, draw, number)
            watch()
        await here.finish()
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return count + max(1, count // PER_END)


async def _choose(here: Stage, count: int, draw: random.Random) -> list[Case]:
    kinds = list(KINDS)
    modes = [(kind, keyed, is_cold) for kind in kinds for keyed in (False, True) for is_cold in (False, True)]
    if count < FEW:
        modes = draw.sample(modes, 4)
    found = [case for mode in modes for case in cases_of(*mode, await here.record(mode[0], keyed=mode[1], is_cold=mode[2]))]
    draw.shuffle(found)
    near = [case for case in found if -2 <= case.from_commit <= 3]
    rest = [case for case in found if not -2 <= case.from_commit <= 3]
    near = near[: max(count // 2, count - len(rest))]
    chosen = near + rest[: count - len(near)]
    here.result.numbers["places"] = f"{len(chosen)} of {len(found)}"
    return sorted(chosen, key=lambda case: (case.kind, case.keyed, case.is_cold))


async def _cut(here: Stage, case: Case) -> None:
    proxy, result = here.proxy, here.result
    if case.is_cold:
        await here.reads(str(case))
        await here.make_cold()
    else:
        await here.insist(here.make(case.kind, keyed=case.keyed))
    write = here.make(case.kind, keyed=case.keyed)
    proxy.arm(Fault(case.at, case.action, case.part))
    answer = await here.ledger.send(write, here.asker, result)
    has_fired, is_commit_sent = proxy.fired.is_set(), proxy.is_commit_sent
    proxy.disarm()
    if not has_fired:
        return result.count("not reached")
    result.count("cuts")
    result.count("cuts after COMMIT was sent", int(is_commit_sent))
    await check_words(here, write, answer, is_commit_sent, str(case))
    await here.insist(write)
    await here.check_written_once(write, str(case))
    await here.reads(str(case))


async def check_words(here: Stage, write: Write, answer: Answer, is_commit_sent: bool, what: str, *, is_cut: bool = True) -> None:
    """Holds what an answer says of the write against what was written. A request that was stopped at its limit need not say what is not known."""
    found = await here.lab.find_values(here.databases)
    present = [value for value in write.values if found[value]]
    result, says_nothing = here.result, NOTHING_WRITTEN in answer.detail.lower()
    result.count("written nevertheless", int(bool(present) and answer.status != 200))
    result.expect(answer.status in (0, 200, 500, 503), "a cut is told as 503", f"{what}: {answer}")
    result.expect(len(present) in (0, len(write.values)), "a write is whole or absent", f"{what}: {present}")
    result.expect(answer.status != 200 or present, "no acknowledged value is lost", f"{what}: {answer}")
    result.expect(not (says_nothing and present), f"“{NOTHING_WRITTEN}” is true", f"{what}: {answer.detail}")
    result.expect(
        not (says_nothing and is_commit_sent), f"“{NOTHING_WRITTEN}” is not said once COMMIT was sent", f"{what}: {answer.detail}"
    )
    if is_cut and is_commit_sent and answer.status == 503:
        result.expect(
            NOT_KNOWN in answer.detail.lower(), "after COMMIT the answer says that it is not known", f"{what}: {answer.detail}"
        )


async def _end_server(here: Stage, draw: random.Random, number: int) -> None:
    """SIGTERM while a write waits: before its COMMIT reaches PostgreSQL, after it did, and anywhere."""
    kind, keyed = draw.choice(list(KINDS)), draw.random() < 0.5
    trace = await here.record(kind, keyed=keyed, is_cold=False)
    commit = find_commits(trace)[0]
    after = next(i for i, message in enumerate(trace) if i > commit and message.direction == TO_SERVER)
    at = (after, commit, draw.randrange(len(trace)))[number % 3]
    what = f"{kind}, SIGTERM at message {at} ({at - commit:+} from COMMIT)"
    write = here.make(kind, keyed=keyed)
    here.proxy.arm(Fault(at, "freeze"))
    sending = asyncio.create_task(here.ledger.send(write, here.asker, here.result))
    firing = asyncio.create_task(here.proxy.fired.wait())
    try:
        await asyncio.wait({firing, sending}, return_when=asyncio.FIRST_COMPLETED)
        firing.cancel()
        if not here.proxy.fired.is_set():  # this write took fewer messages than the one that was recorded
            return here.result.count("not reached")
        assert here.server.process is not None
        here.server.process.send_signal(signal.SIGTERM)
        await asyncio.wait({sending}, timeout=25)
        is_commit_sent = here.proxy.is_commit_sent
    finally:
        here.proxy.thaw()
        here.proxy.disarm()
    answer = await sending
    here.result.count("ends of the server")
    here.result.count("of them answered", int(answer.status != 0))
    here.result.expect(await here.server.ended(30), "a server that is told to end does", what)
    await check_words(here, write, answer, is_commit_sent, what, is_cut=False)
    await here.server.start()
    await here.insist(write)
    await here.check_written_once(write, what)
