"""What a server is beside its answers: memory, seconds to its first answer, and how many functions a request enters."""

import asyncio
from dataclasses import dataclass, field
from statistics import median

from tests.bench.load import Database
from tests.bench.meter import backend_bytes, proportional_bytes, resident_bytes
from tests.bench.servers import Server


@dataclass
class Process:
    """Bytes and seconds. `backends` is the private memory of each connection to the database, the smallest first, and `proportional` counts
    what processes share in parts; both are missing where the kernel lets nobody look. `functions` are numbers by kind of request."""

    supervisor: int
    worker: int
    proportional: int | None
    backends: list[int]
    started: float
    functions: dict[str, int] = field(default_factory=dict)

    def to_table(self) -> dict[str, str]:
        """By name, as a table shows it."""

        def megabytes(value: float | None) -> str:
            return "–" if value is None else f"{value / 1e6:.1f} MB"

        found = {
            "supervisor, resident": megabytes(self.supervisor),
            "worker, resident": megabytes(self.worker),
            "both, what is shared in parts": megabytes(self.proportional),
            "private memory of a connection to the database, median": megabytes(median(self.backends) if self.backends else None),
            "the most": megabytes(max(self.backends, default=None)),
            "start to serving": f"{self.started:.2f} s",
        }
        counts = {f"functions that the second request of a template enters: {name}": str(n) for name, n in self.functions.items()}
        return found | counts


def describe_process(server: Server, database: Database, functions: dict[str, int], started: float | None = None) -> Process:
    """A running server, after it was measured: its supervisor is the process that was started, its worker the largest below."""
    resident = list(resident_bytes(server.process.pid).values())
    backends = asyncio.run(backend_bytes(database.cluster, database.name))
    shared = proportional_bytes(server.process.pid)
    return Process(resident[0], max(resident[1:], default=0), shared, backends, started or server.started, functions)
