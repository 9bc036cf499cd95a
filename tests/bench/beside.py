"""Ours beside two ordinary servers and PostgreSQL itself, on a copy of the same data, interleaved."""

import asyncio
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.bench import answers, load, report
from tests.bench.data import copy_database, drop_database, kept
from tests.bench.load import Database
from tests.bench.reads import REACHES
from tests.bench.servers import NONE_KEPT, NOW, Server, ordinary, serve
from tests.bench.traffic import (
    CONSTANT,
    FASTAPI,
    GRAPHQL,
    GRAPHQL_NONE,
    LIMIT,
    OURS,
    REST,
    REST_NONE,
    STRAWBERRY,
    Bench,
    Position,
    Stream,
    Workload,
    make_stream,
)

LONGEST = 20.0
"""Seconds that a slow contender is measured for, at most."""
COPY = "bench_run"
"""The database of a run: whatever is written is gone with it."""


class Run:
    """The servers of a run, and the files of requests that are sent to them."""

    def __init__(self, stack: ExitStack, folder: Path, scale: int, venv: Path | None, console: Console) -> None:
        """Without the environment of the ordinary servers these are left out."""
        self.folder = folder / f"x{scale}"
        self.cluster, self.data = stack.enter_context(kept(self.folder, scale, console))
        asyncio.run(copy_database(self.cluster, COPY))
        stack.callback(lambda: asyncio.run(drop_database(self.cluster, COPY)))
        self.database = Database(self.cluster, COPY)
        self.files = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = self.folder / "server.log"
        self.ours = stack.enter_context(serve(NOW, self.cluster, COPY, self.data, log))
        none_kept = stack.enter_context(serve(NOW, self.cluster, COPY, self.data, log, **NONE_KEPT))
        self.servers: dict[str, Server] = dict.fromkeys((REST, GRAPHQL, CONSTANT, *REACHES), self.ours)
        self.servers |= dict.fromkeys((REST_NONE, GRAPHQL_NONE), none_kept)
        if venv:
            for contender, module in ((FASTAPI, "rest"), (STRAWBERRY, "graph")):
                started = ordinary(module, self.cluster, COPY, self.data, log, venv)
                self.servers[contender] = stack.enter_context(started)
        self.bench = Bench(self.data, self.ours)
        self.benches = {none_kept.process.pid: self.bench.at(none_kept)}

    def streams(self, workload: Workload) -> dict[str, Stream]:
        """The requests by contender, drawn alike for all. Those who write the same table go on where the other ended."""
        positions: dict[bool, Position] = {True: Position(), False: Position()}
        found = {}
        for contender in workload.asks:
            if contender in self.servers:
                bench = self.benches.get(self.servers[contender].process.pid, self.bench)
                found[contender] = make_stream(workload, contender, bench, self.files, positions[contender in OURS])
        return found

    def prepare(self, workload: Workload, streams: dict[str, Stream]) -> None:
        """Writes the values that the first requests change or repeat, and checks what everybody answers."""
        for contender, stream in streams.items():
            self.make_windows(workload, contender, stream, 1)
        for batch in workload.first_values(self.bench) if workload.first_values else ():
            self.ours.ask("POST", "/v1/judgements", json.dumps(batch))
            if FASTAPI in self.servers:
                bare = [{name: entry[name] for name in ("id", "subject", "grade")} for entry in batch["entries"]]  # type: ignore[attr-defined]
                self.servers[FASTAPI].ask("POST", "/judgements", json.dumps(batch | {"entries": bare}))
        asyncio.run(answers.check(workload, self.bench, self.servers, streams, self.database))

    def make_windows(self, workload: Workload, contender: str, stream: Stream, seconds: float) -> None:
        """Those that ours will write; the ordinary servers' tables have theirs."""
        if workload.makes_windows and contender in OURS:
            self.bench.make_windows(stream, seconds)

    def measure(self, workload: Workload, contender: str, stream: Stream | None, connections: int, seconds: float) -> load.Measure:
        if stream is None:
            return self.limit(workload, connections, seconds)
        self.make_windows(workload, contender, stream, seconds)
        measure = load.measure_bulk if workload.is_bulk else load.measure
        return measure(self.servers[contender], workload.client_of(contender), stream, connections, seconds, self.database)

    def limit(self, workload: Workload, connections: int, seconds: float | None) -> load.Measure:
        return load.pgbench(self.database, list(workload.limit), self.bench.variables(workload), connections, seconds)

    def seconds(self, workload: Workload, contender: str, stream: Stream | None, connections: int, seconds: float) -> float:
        """As asked, or three times as long as all connections need for an answer: what has not ended is not counted."""
        if workload.is_bulk:
            return seconds
        if stream is None:
            return max(seconds, min(3 * self.limit(workload, connections, None).p99 / 1000, LONGEST))
        begun = 0.0
        for _ in range(2):  # the first may be the first of its kind
            request, begun = stream.take(), time.perf_counter()
            self.servers[contender].ask(request.method, request.path, request.body or None, workload.client_of(contender))
        return max(seconds, min(3 * connections * (time.perf_counter() - begun), LONGEST))

    def check_counts(self, workload: Workload) -> None:
        """Fails where the product has miscounted. What the updates have left is removed first, so that the next workload begins alike."""
        asyncio.run(answers.check_counts(workload, self.database.superuser_url, self.bench.trust.id))


def interleave(
    run: Run, workload: Workload, connections: list[int], rounds: int, seconds: float, progress: Progress
) -> list[report.Result]:
    """Each round asks every contender in turn, and begins with another one."""
    streams = run.streams(workload)
    run.prepare(workload, streams)
    everybody: dict[str, Stream | None] = {**streams, **({LIMIT: None} if workload.limit else {})}
    found = []
    for number in sorted({min(number, workload.most_connections) for number in connections}):
        result = report.Result(workload.name, number, {contender: [] for contender in everybody})
        lasting = {
            contender: run.seconds(workload, contender, stream, number, seconds)
            for contender, stream in everybody.items()
            if contender != CONSTANT
        }
        task = progress.add_task(f"{workload.name} × {number}", total=(rounds + 1) * len(everybody))
        order = list(everybody)
        for i in range(rounds + 1):
            for contender in order:
                stream, is_warming = everybody[contender], i == 0
                if not is_warming or stream:  # the limit is warm from being tried
                    lasts = 1 if is_warming else lasting.get(contender, seconds)
                    measured = run.measure(workload, contender, stream, number, lasts)
                if not is_warming:
                    result.measures[contender].append(measured)
                progress.advance(task)
            order = order[1:] + order[:1]
        found.append(result)
        if workload.writes:
            run.check_counts(workload)
    return found
