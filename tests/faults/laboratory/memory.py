"""The memory of a server's worker and of its sessions in PostgreSQL, sampled while requests are sent."""

import asyncio
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.faults.laboratory.processes import private_megabytes, resident_megabytes
from tests.faults.laboratory.stage import Stage

WORKER_MB, SESSION_MB = 350, 260
"""The most that a worker may hold, and a session may have for itself (issue 11)."""


@dataclass
class Memory:
    """Samples in megabytes: of the worker, and the largest and the sum of the sessions."""

    worker: list[float] = field(default_factory=list)
    largest: list[float] = field(default_factory=list)
    sessions: list[float] = field(default_factory=list)

    def check(self, here: Stage) -> None:
        """Notes the most that was seen, and whether it was too much."""
        result = here.result
        worker, largest = max(self.worker, default=0), max(self.largest, default=0)
        result.expect(worker > 0 and largest > 0, "what the trial needs is there", "no memory could be read")
        result.expect(worker <= WORKER_MB, f"the worker holds at most {WORKER_MB} MB", f"{worker:.0f} MB")
        result.expect(largest <= SESSION_MB, f"a session holds at most {SESSION_MB} MB", f"{largest:.0f} MB")
        result.numbers |= {
            "worker MB, first and most": f"{self.worker[0]:.0f} {worker:.0f}",
            "session MB, first and most": f"{self.largest[0]:.0f} {largest:.0f}",
            "sessions together MB": f"{max(self.sessions):.0f}",
        }

    def check_growth(self, here: Stage, most: float) -> None:
        """Holds the last quarter of the samples against the one before: by then all that is kept has been seen."""
        for name, samples in (("the worker", self.worker), ("the sessions together", self.sessions)):
            size = max(1, len(samples) // 4)
            quarters = [statistics.median(samples[n * size : (n + 1) * size]) for n in range(4)]
            here.result.numbers[f"MB of {name}, by quarter"] = " ".join(f"{quarter:.0f}" for quarter in quarters)
            grown = quarters[3] - quarters[2]
            here.result.expect(grown <= most, "memory is flat after warming", f"{name} grew by {grown:.0f} MB in the last quarter")


@asynccontextmanager
async def sampling(here: Stage, seconds: float) -> AsyncIterator[Memory]:
    """Samples every so often within the block, and once more at its end. The sessions are those of the first samples and of the last."""
    memory = Memory()

    async def sample() -> None:
        sessions = [private_megabytes(pid) for pid in await here.lab.backends(here.databases)]
        memory.worker.append(max(map(resident_megabytes, here.server.workers), default=0.0))
        memory.largest.append(max(sessions, default=0.0))
        memory.sessions.append(sum(sessions))

    async def repeat() -> None:
        while True:
            await sample()
            await asyncio.sleep(seconds)

    sampler = asyncio.create_task(repeat())
    try:
        yield memory
    finally:
        sampler.cancel()
        await asyncio.gather(sampler, return_exceptions=True)
    await sample()
