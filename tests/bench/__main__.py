"""make bench: our server by both interfaces, two ordinary servers, and PostgreSQL itself, on the same data and interleaved in one run.

    make bench                                        every workload at 16 connections
    make bench ARGS='--workload R1 --rounds 3'        one of them, in a minute
    make bench ARGS='--workload W1 --workload W1-key --rounds 1'   writes, in two minutes
    make bench ARGS='--profile R1'                    where its time goes
    make bench ARGS='--functions'                     which functions of the product a request enters
    make bench ARGS='--full'                          at 1, 16 and 64 connections
    make bench ARGS='--scale 10'                      on ten times the data, in a folder of its own
    make bench ARGS='--against v1.0'                  this tree beside another commit, each on its own database: is it slower?
    make bench ARGS='--against self --watched --workload R1'   with figures beside without
    make bench ARGS='--against self --watched --traced 100 --workload R1'   with figures, and traces of one request in a hundred, beside without
    make bench ARGS='--watching'                      what counting and tracing cost a request, in this process
    make bench ARGS='--against self'                  this tree beside itself: how far two measurements of the same differ

The limit is pgbench with prepared statements, the scripts of limit/, run as the superuser: the natural SQL with its tenant predicate, no policies,
on tables that do not change with the product. Machines are noisy: trust the ratios within a round, and CPU per request, more than requests a second.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from tests.bench import against, functions, load, process, profiling, report, watching
from tests.bench.beside import COPY, Run, interleave
from tests.bench.servers import NOW, ORDINARY, Unfit
from tests.bench.traffic import Workload
from tests.bench.workloads import WORKLOADS
from tests.fixtures.settings import ROOT

FOLDER = ROOT / ".markonce" / "bench"
VENV = FOLDER / "venv"
console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=170)


def install() -> None:
    """What the ordinary servers need, in an environment of its own, again when requirements.txt changes; and pgbench."""
    wanted, installed = ORDINARY / "requirements.txt", VENV / "requirements.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        console.print("Setting up .markonce/bench/venv …")
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(wanted)], check=True)
        shutil.copy(wanted, installed)
    load.find_pgbench()


def install_wrk() -> None:
    """By root, where it is missing and Debian's packages are at hand."""
    if shutil.which("wrk") is None and shutil.which("apt-get") and os.geteuid() == 0:
        console.print("Installing wrk …")
        subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], check=False, stdout=subprocess.DEVNULL)
    load.find_wrk()


def main(
    workload: Annotated[list[str], typer.Option(help=f"Which: {', '.join(WORKLOADS)}; all unless said.")] = [],  # noqa: B006
    rounds: Annotated[int, typer.Option(help="Rounds in which each contender is measured: 3 unless said, 7 with --against.")] = 0,
    seconds: Annotated[
        float, typer.Option(help="For how long each time: 3 unless said, 1 with --against, four times a round.")
    ] = 0,
    connections: Annotated[list[int], typer.Option(help="16 unless said.")] = [16],  # noqa: B006
    full: Annotated[bool, typer.Option(help="At 1, 16 and 64 connections.")] = False,
    scale: Annotated[int, typer.Option(help="1 or 10: how much data, as a multiple of 2 million judgements.")] = 1,
    only_ours: Annotated[bool, typer.Option(help="Leave the ordinary servers out.")] = False,
    profile: Annotated[str, typer.Option(help="Print where the time of this workload goes, in place of measuring.")] = "",
    show_functions: Annotated[
        bool, typer.Option("--functions", help="Print which functions requests enter, in place of measuring.")
    ] = False,
    revision: Annotated[
        str, typer.Option("--against", help="Measure this tree beside another commit, or beside itself: self.")
    ] = "",
    watched: Annotated[bool, typer.Option(help="With --against: this tree with an operations port.")] = False,
    traced: Annotated[int, typer.Option(help="With --watched: and traces of one request in so many.")] = 0,
    show_watching: Annotated[
        bool, typer.Option("--watching", help="Print what counting and tracing cost a request, in place of measuring.")
    ] = False,
    schools: Annotated[int, typer.Option(help="With --against: the schools of its trust, each with 300 pupils.")] = 40,
) -> None:
    """Measure what requests cost, beside what they could cost."""
    unknown = [name for name in [*workload, *([profile] if profile else [])] if name not in WORKLOADS]
    if unknown:
        raise SystemExit(f"There is no workload {unknown[0]}. There are {', '.join(WORKLOADS)}.")
    if show_watching:
        for what, microseconds in watching.measure_costs().items():
            console.print(f"{microseconds:8.1f} µs  {what}")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    install_wrk()
    if revision:
        chosen = [WORKLOADS[name] for name in workload or against.USUAL]
        with watching.collecting() as collector:
            make_settings = partial(watching.make_settings, traced, collector) if watched else dict
            return _against(revision, against.Plan(chosen, rounds or 7, seconds or 1, connections[0], schools, make_settings))
    if not show_functions:
        install()
    with ExitStack() as stack:
        run = Run(stack, FOLDER, scale, None if only_ours or profile or show_functions else VENV, console)
        if profile:
            return _profile(run, WORKLOADS[profile])
        if show_functions:
            return _functions(run)
        at = [1, 16, 64] if full else connections
        _beside(run, workload or list(WORKLOADS), at, rounds or 3, seconds or 3, scale)


def _beside(run: Run, names: list[str], connections: list[int], rounds: int, seconds: float, scale: int) -> None:
    """Measures and shows all contenders; fails where one was not measured."""
    results, failed = report.Results(scale), []
    with Progress(console=console) as progress:
        for name in names:
            try:
                results.results += interleave(run, WORKLOADS[name], connections, rounds, seconds, progress)
            except Unfit as problem:
                failed.append(str(problem))
    results.plans = profiling.first_plans(run.bench, names)
    entered = functions.find_entered_functions(NOW, run.cluster, COPY, run.data, run.folder / "server.log")
    counts = {name: len(lines) for name, lines in entered.items()}
    results.process = process.describe_process(run.ours, run.database, counts)
    report.show(results, FOLDER, console)
    said, picture = FOLDER / f"results-x{scale}.json", FOLDER / "bench.png"
    results.save(said)
    subprocess.run([str(VENV / "bin" / "python"), str(Path(__file__).parent / "draw.py"), str(said), str(picture)], check=True)
    console.print(f"{said}\n{picture}", soft_wrap=True)
    for problem in failed:
        console.print(f"[red]not measured:[/red] {problem}", soft_wrap=True)
    if failed:
        raise SystemExit(1)


def _against(revision: str, plan: against.Plan) -> None:
    """Measures and shows both builds; fails where the newer is above a bound."""
    try:
        comparison = against.compare(revision, plan, FOLDER, console)
    except Unfit as problem:
        raise SystemExit(f"not measured: {problem}") from problem
    if comparison.show(console):
        raise SystemExit(1)


def _functions(run: Run) -> None:
    functions.show(functions.find_entered_functions(NOW, run.cluster, COPY, run.data, run.folder / "server.log"), console)


def _profile(run: Run, workload: Workload) -> None:
    streams = run.streams(workload)
    run.prepare(workload, streams)
    for contender, stream in streams.items():
        console.rule(f"[bold]{workload.name}: {contender}[/bold]")
        run.make_windows(workload, contender, stream, 20)
        profiling.sample(run.servers[contender], workload, contender, stream, run.database, VENV, 8, console)
    first: Any = next(iter(streams.values())).requests[0]
    if not workload.writes:
        asyncio.run(profiling.explain(run.cluster, run.data, first, workload.client, console))
    for name, milliseconds in profiling.first_plans(run.bench, [workload.name]).items():
        console.print(f"first-time plan of {name}: {milliseconds:.1f} ms")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
