"""This tree beside another commit of the product: each serves a copy of the same data, migrated by its own code, and both are measured in turn.

Of the other commit nothing is imported: it is known by its command line, its environment and its REST interface. Requests and load are this tree's.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import asyncpg
from rich.console import Console
from rich.progress import Progress

from domain.store import embedded
from tests.bench import answers, fill, load
from tests.bench.builds import check_out, schema_of
from tests.bench.compare import Cell, Comparison
from tests.bench.data import Data, copy_database, start_cluster
from tests.bench.functions import find_entered_functions
from tests.bench.load import Database, Measure
from tests.bench.process import Process, describe_process
from tests.bench.servers import NONE_KEPT as WITHOUT_CACHE
from tests.bench.servers import NOW, Build, Server, serve
from tests.bench.traffic import NONE_KEPT, OURS, Bench, Position, Stream, Workload, make_stream

USUAL = ("R1", "R2", "R3", "R5", "W1", "W2")
ROUTES, PAGES = 500, 40
"""Pupils and pages that reads ask for: so few that the answers of all workloads are kept, by either interface, and the first second asks for each."""
BULK_SCHOOLS = 40
"""Schools of which writes in bulk have two batches without a common pupil, for its two connections."""
STARTS = 3
"""Times that each build is started, to tell how long that takes."""


@contextmanager
def open_filled(build: Build, schools: int, folder: Path, console: Console) -> Iterator[tuple[embedded.Cluster, Data]]:
    """A running cluster whose database holds the data as this build's schema has it, made now where it is not whole."""
    with start_cluster(folder / f"against-{schools}-{schema_of(build)}") as (cluster, facts):
        if not facts.exists():
            with Progress(console=console) as progress:
                data = fill.fill(build, cluster, schools, facts.parent, progress)
            asyncio.run(_vacuum(cluster, embedded.DATABASE))
            data.write(facts)
        yield cluster, Data.read(facts)


async def _vacuum(cluster: embedded.Cluster, database: str) -> None:
    connection = await asyncpg.connect(cluster.url(database, embedded.SUPERUSER))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def _empty_queue(cluster: embedded.Cluster, database: str) -> None:
    """Removes the editions that a migration has queued: a process that makes them would be measured with the requests."""
    connection = await asyncpg.connect(cluster.url(database, embedded.SUPERUSER))
    if await connection.fetchval("SELECT to_regclass('publications') IS NOT NULL"):
        await connection.execute("TRUNCATE publications CASCADE")
    await connection.close()


@dataclass
class Side:
    """One build with its database and its servers: with kept answers and, where that is measured, with none."""

    name: str
    build: Build
    database: Database
    data: Data
    log: Path
    files: Path
    servers: dict[bool, Server] = field(default_factory=dict)
    benches: dict[bool, Bench] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    streams: dict[tuple[str, str], Stream] = field(default_factory=dict)
    starts: list[float] = field(default_factory=list)
    make_settings: Callable[[], dict[str, str]] = dict
    """The settings of each of its servers, beside the usual ones."""

    def start_once(self) -> None:
        """Starts and ends a server, for the time that it takes."""
        with serve(self.build, self.database.cluster, self.database.name, self.data, self.log) as server:
            self.starts.append(server.started)

    def start(self, stack: ExitStack, keeps: bool) -> None:
        settings = self.make_settings() | ({} if keeps else WITHOUT_CACHE)
        started = serve(self.build, self.database.cluster, self.database.name, self.data, self.log, **settings)
        self.servers[keeps] = stack.enter_context(started)
        self.benches[keeps] = Bench(self.data, self.servers[keeps], routes=ROUTES, pages=PAGES)

    def prepare(self, workload: Workload, contenders: Sequence[str]) -> None:
        """Makes the requests, and writes the values that the first of them change or repeat."""
        for contender in contenders:
            keeps = contender not in NONE_KEPT
            position = self.positions.setdefault(workload.name, Position())
            self.streams[workload.name, contender] = make_stream(workload, contender, self.benches[keeps], self.files, position)
        for batch in workload.first_values(self.benches[True]) if workload.first_values else ():
            self.servers[True].ask("POST", "/v1/judgements", json.dumps(batch))

    def server_of(self, contender: str) -> Server:
        return self.servers[contender not in NONE_KEPT]

    def measure(self, workload: Workload, contender: str, connections: int, seconds: float) -> Measure:
        stream = self.streams[workload.name, contender]
        if workload.makes_windows:
            self.benches[True].make_windows(stream, seconds)
        measure = load.measure_bulk if workload.is_bulk else load.measure
        number = min(connections, workload.most_connections)
        return measure(self.server_of(contender), workload.client_of(contender), stream, number, seconds, self.database)

    def describe(self) -> Process:
        entered = find_entered_functions(self.build, self.database.cluster, self.database.name, self.data, self.log)
        counts = {name: len(lines) for name, lines in entered.items()}
        return describe_process(self.servers[True], self.database, counts, median(self.starts))


@dataclass(frozen=True)
class Plan:
    """What is measured, how often, for how long at a time, and on how large a trust."""

    workloads: Sequence[Workload]
    rounds: int
    seconds: float
    connections: int
    schools: int
    make_settings: Callable[[], dict[str, str]] = dict
    """The settings of this tree's servers."""

    def __post_init__(self) -> None:
        if unfit := [
            w.name for w in self.workloads if w.schools != 100 or w.client != "trust" or w.clients or w.name.startswith("R4")
        ]:
            raise SystemExit(f"{', '.join(unfit)}: not with --against, whose data has one trust and one client.")
        if small := [w.name for w in self.workloads if w.is_bulk and w.writes and self.schools < BULK_SCHOOLS]:
            raise SystemExit(
                f"{', '.join(small)}: needs --schools {BULK_SCHOOLS} or more: two batches must not hold the same pupils."
            )

    def contenders(self, workload: Workload) -> list[str]:
        """Ours, by both interfaces as far as the workload has them."""
        return [contender for contender in workload.asks if contender in (*OURS, *NONE_KEPT)]


def compare(revision: str, plan: Plan, folder: Path, console: Console) -> Comparison:
    """Measures all reads, then all writes, so that answers which are kept stay so."""
    with ExitStack() as stack:
        name, older = stack.enter_context(check_out(revision, folder, console))
        cluster, data = stack.enter_context(open_filled(older, plan.schools, folder, console))
        sides = []
        for side_name, build, database in ((name, older, "bench_before"), ("now", NOW, "bench_after")):
            files = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            sides.append(_make_side(side_name, build, cluster, database, data, folder, files))
        sides[1].make_settings = plan.make_settings
        for i in range(STARTS):
            for side in _in_turn(sides, i):
                side.start_once()
        for side in sides:
            for keeps in (True, False):
                side.start(stack, keeps)
        reads, writes = ([workload for workload in plan.workloads if workload.writes == is_write] for is_write in (False, True))
        with Progress(console=console) as progress:
            cells = [cell for workloads in (reads, writes) for cell in _measure(sides, workloads, plan, progress)]
        for side in sides:
            _recount(writes, side)
        before, after = (side.describe() for side in sides)
        return Comparison(name, "now", plan.schools, plan.connections, cells, before, after, folder)


def _measure(sides: list[Side], workloads: Sequence[Workload], plan: Plan, progress: Progress) -> list[Cell]:
    """Rounds in which the builds come in the order A B B A, or B A A B: what the machine does beside, and that it does more or less of it from
    second to second, falls on both."""
    for workload in workloads:
        for side in sides:
            side.prepare(workload, plan.contenders(workload))
        _check(workload, sides, plan.contenders(workload))
    cells = [(workload, Cell(workload.name, contender)) for workload in workloads for contender in plan.contenders(workload)]
    title = f"{sides[0].name} and {sides[1].name}: {' '.join(workload.name for workload in workloads)}"
    task = progress.add_task(title, total=(4 * plan.rounds + 2) * len(cells))
    for i in range(plan.rounds + 1):
        for workload, cell in cells:
            measured: dict[str, list[Measure]] = {side.database.name: [] for side in sides}
            for side in (*_in_turn(sides, i), *(_in_turn(sides, i + 1) if i else ())):
                measured[side.database.name].append(side.measure(workload, cell.contender, plan.connections, plan.seconds))
                progress.advance(task)
            if i:  # what comes before the first round warms
                cell.add(*measured.values())
    return [cell for _, cell in cells]


def _in_turn(sides: list[Side], i: int) -> list[Side]:
    return sides[::-1] if i % 2 else sides


def _make_side(name: str, build: Build, cluster: embedded.Cluster, database: str, data: Data, folder: Path, files: Path) -> Side:
    """A copy of the data, migrated by the build's own code."""
    asyncio.run(copy_database(cluster, database))
    build.command(build.environment(cluster, database, data.secret), "migrate")
    asyncio.run(_empty_queue(cluster, database))
    asyncio.run(_vacuum(cluster, database))
    return Side(name, build, Database(cluster, database), data, folder / f"{database}.log", files)


def _check(workload: Workload, sides: list[Side], contenders: Sequence[str]) -> None:
    """Raises Unfit where the builds answer otherwise than each other; the answers to writes are looked at while they are measured."""
    for contender in contenders if not workload.writes else ():
        requests = [side.streams[workload.name, contender].requests[: answers.CHECKED] for side in sides]
        for pair in zip(*requests, strict=True):
            before, after = (
                answers.fetch_answer(workload, contender, side.server_of(contender), request)
                for side, request in zip(sides, pair, strict=True)
            )
            answers.require_same(workload, f"{sides[1].name}, {contender}", before, after)


def _recount(written: Sequence[Workload], side: Side) -> None:
    """Raises Unfit where a build has miscounted. The recount is this tree's, so it is asked of builds that have its schema."""
    if written and schema_of(side.build) == schema_of(NOW):
        asyncio.run(answers.check_counts(written[-1], side.database.superuser_url, side.data.trusts[0].id))
