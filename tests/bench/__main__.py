"""make bench: our server through both doors, two ordinary servers, and PostgreSQL itself, on the same data and interleaved in one run.

    make bench                                        every workload at 16 connections
    make bench ARGS='--workload R1 --rounds 3'        one of them, in less than a minute
    make bench ARGS='--profile R1'                    where its time goes
    make bench ARGS='--full'                          at 1, 16 and 64 connections
    make bench ARGS='--scale 10'                      on ten times the data, in a folder of its own

The limit is pgbench with prepared statements, the scripts of limit/, run as the superuser: the natural SQL with its tenant predicate, no policies.
Machines are noisy: trust the ratios within a round, and CPU per request, more than requests a second.
"""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console
from rich.progress import Progress

from domain.engine import embedded
from tests.bench import answers, load, profiling, report
from tests.bench.data import count_afresh, kept
from tests.bench.servers import ORDINARY, Server, Unfit, ordinary, ours, postmaster
from tests.bench.workloads import CONSTANT, FASTAPI, LIMIT, REACHES, REST, STRAWBERRY, WORKLOADS, Bench, Request, Workload
from tests.conftest import ROOT

FOLDER = ROOT / ".markonce" / "bench"
VENV = FOLDER / "venv"
LONGEST = 20.0
"""Seconds that a slow contender is measured for, at most."""
console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=170)


def install() -> None:
    """What the ordinary servers need, in an environment of its own, again when requirements.txt changes; and wrk, by root."""
    wanted, installed = ORDINARY / "requirements.txt", VENV / "requirements.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        console.print("Setting up .markonce/bench/venv …")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(wanted)], check=True)
        shutil.copy(wanted, installed)
    if shutil.which("wrk") is None and shutil.which("apt-get") and os.geteuid() == 0:
        console.print("Installing wrk …")
        subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=False, stdout=subprocess.DEVNULL)
    load.find_wrk()
    load.find_pgbench()


class Run:
    """The servers of a run, and the files of requests that are sent to them."""

    def __init__(self, held: ExitStack, scale: int, with_ordinary: bool) -> None:
        self.folder = FOLDER / f"x{scale}"
        self.cluster, self.data = held.enter_context(kept(self.folder, scale, console))
        self.files = Path(held.enter_context(tempfile.TemporaryDirectory()))
        mine = held.enter_context(ours(self.cluster, self.data, self.folder))
        self.servers: dict[str, Server] = dict.fromkeys((REST, "GraphQL", CONSTANT, *REACHES), mine)
        if with_ordinary:
            for contender, module in ((FASTAPI, "rest"), (STRAWBERRY, "graph")):
                self.servers[contender] = held.enter_context(ordinary(module, self.cluster, self.data, self.folder, VENV))
        self.bench = Bench(self.data, mine)
        self.database = postmaster(self.cluster)
        self.untidy = self.folder / "written"
        if self.untidy.exists():  # by a run that was ended
            self.tidy()

    def asked(self, workload: Workload) -> dict[str, list[Request]]:
        """The requests by contender, drawn alike for all; none for what is not built or not started."""
        found = {}
        for contender, ask in workload.asks.items():
            self.bench.draw = random.Random(4)
            if contender in self.servers and (requests := ask(self.bench)):
                found[contender] = requests
        return found

    def file(self, workload: Workload, contender: str, requests: list[Request]) -> Path:
        path = self.files / f"{workload.name}-{contender}".replace(" ", "-").replace(":", "").replace(",", "")
        path.write_text("".join("\t".join(request) + "\n" for request in requests))
        return path

    def measure(self, workload: Workload, contender: str, file: Path | None, connections: int, seconds: float) -> load.Measure:
        if file is None:
            return self.limit(workload, connections, seconds)
        client = workload.client_of(contender)
        return load.wrk(self.servers[contender], client, file, connections, seconds, self.database)

    def limit(self, workload: Workload, connections: int, seconds: float | None) -> load.Measure:
        url = self.cluster.url(embedded.DATABASE, embedded.SUPERUSER)
        return load.pgbench(url, list(workload.limit), self.bench.variables(workload), connections, seconds, self.database)

    def seconds(self, workload: Workload, contender: str, request: Request | None, connections: int, seconds: float) -> float:
        """As asked, or three times as long as all connections need for an answer: what has not ended is not counted."""
        if request is None:
            return max(seconds, min(3 * self.limit(workload, connections, None).p99 / 1000, LONGEST))
        begun = 0.0
        for _ in range(2):  # the first may be the first of its kind
            begun = time.perf_counter()
            self.servers[contender].ask(request.method, request.path, request.body or None, workload.client_of(contender))
        return max(seconds, min(3 * connections * (time.perf_counter() - begun), LONGEST))

    def check(self, workload: Workload, asked: dict[str, list[Request]]) -> None:
        asyncio.run(
            answers.check(workload, self.bench, self.servers, asked, self.cluster.url(embedded.DATABASE, embedded.SUPERUSER))
        )

    def tidy(self) -> None:
        """Brings the open window back to what the commands would have left: the others write neither cells nor history, and ours grows."""

        async def work() -> None:
            connection = await asyncpg.connect(self.cluster.url(embedded.DATABASE, embedded.SUPERUSER))
            await connection.execute(
                "DELETE FROM judgement_history h USING windows w WHERE w.tenant_id = h.tenant_id AND w.no = h.window_no AND w.code = $1",
                self.data.window,
            )
            await connection.execute("VACUUM judgements, judgement_history, cells, totals")
            ids = await connection.fetch("SELECT id FROM schools WHERE urn = ANY ($1)", self.bench.trust.urns)
            await count_afresh(connection, [row["id"] for row in ids], self.data.window)
            await connection.close()

        asyncio.run(work())
        self.untidy.unlink(missing_ok=True)


def interleave(
    run: Run, workload: Workload, connections: list[int], rounds: int, seconds: float, progress: Progress
) -> list[report.Result]:
    """Each round asks every contender in turn, and begins with another one."""
    asked = run.asked(workload)
    if workload.writes:
        run.untidy.touch()
    run.check(workload, asked)
    files: dict[str, Path | None] = {contender: run.file(workload, contender, requests) for contender, requests in asked.items()}
    if workload.limit:
        files[LIMIT] = None
    found = []
    for number in sorted({min(number, workload.most_connections) for number in connections}):
        result = report.Result(workload.name, number, {contender: [] for contender in files})
        lasting = {
            contender: run.seconds(workload, contender, asked[contender][0] if file else None, number, seconds)
            for contender, file in files.items()
            if contender != CONSTANT
        }
        task = progress.add_task(f"{workload.name} × {number}", total=(rounds + 1) * len(files))
        order = list(files)
        for i in range(rounds + 1):
            for contender in order:
                warming = i == 0
                if not warming or files[contender]:  # the limit is warm from being tried
                    measured = run.measure(
                        workload, contender, files[contender], number, 1 if warming else lasting.get(contender, seconds)
                    )
                if not warming:
                    result.measures[contender].append(measured)
                progress.advance(task)
            order = order[1:] + order[:1]
        found.append(result)
        if workload.writes:
            run.tidy()
    return found


def main(
    workload: Annotated[list[str], typer.Option(help=f"Which: {', '.join(WORKLOADS)}; all unless said.")] = [],  # noqa: B006
    rounds: Annotated[int, typer.Option(help="Times that each contender is measured.")] = 3,
    seconds: Annotated[float, typer.Option(help="For how long each time.")] = 3,
    connections: Annotated[list[int], typer.Option(help="16 unless said.")] = [16],  # noqa: B006
    full: Annotated[bool, typer.Option(help="At 1, 16 and 64 connections.")] = False,
    scale: Annotated[int, typer.Option(help="1 or 10: how much data, as a multiple of 2 million judgements.")] = 1,
    only_ours: Annotated[bool, typer.Option(help="Leave the ordinary servers out.")] = False,
    profile: Annotated[str, typer.Option(help="Print where the time of this workload goes, in place of measuring.")] = "",
) -> None:
    """Measure what requests cost, beside what they could cost."""
    unknown = [name for name in [*workload, *([profile] if profile else [])] if name not in WORKLOADS]
    if unknown:
        raise SystemExit(f"There is no workload {unknown[0]}. There are {', '.join(WORKLOADS)}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    install()
    with ExitStack() as held:
        run = Run(held, scale, with_ordinary=not only_ours and not profile)
        if profile:
            return _profile(run, WORKLOADS[profile])
        results, failed = report.Results(scale), []
        with Progress(console=console) as progress:
            for name in workload or WORKLOADS:
                at = [1, 16, 64] if full else connections
                try:
                    results.results += interleave(run, WORKLOADS[name], at, rounds, seconds, progress)
                except Unfit as problem:
                    failed.append(str(problem))
        results.plans = profiling.first_plans(run.bench, workload or list(WORKLOADS))
    report.show(results, FOLDER, console)
    said, picture = FOLDER / f"results-x{scale}.json", FOLDER / "bench.png"
    results.save(said)
    subprocess.run([str(VENV / "bin" / "python"), str(Path(__file__).parent / "draw.py"), str(said), str(picture)], check=True)
    console.print(f"{said}\n{picture}", soft_wrap=True)
    for problem in failed:
        console.print(f"[red]not measured:[/red] {problem}", soft_wrap=True)
    if failed:
        raise SystemExit(1)


def _profile(run: Run, workload: Workload) -> None:
    for contender, requests in run.asked(workload).items():
        console.rule(f"[bold]{workload.name}: {contender}[/bold]")
        client = workload.client_of(contender)
        file = run.file(workload, contender, requests)
        profiling.sample(run.servers[contender], client, file, run.database, VENV, 8, console)
    first: Any = next(iter(run.asked(workload).values()))[0]
    if not workload.writes:
        asyncio.run(profiling.explain(run.cluster, run.data, first, workload.client, console))
    for name, milliseconds in profiling.first_plans(run.bench, [workload.name]).items():
        console.print(f"first-time plan of {name}: {milliseconds:.1f} ms")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
