"""make faults: kills, cuts, freezes and refusals under writers, and what must hold then. It fails where one promise is broken, or a part is missing.

    make faults                                   all of it, about an hour
    make faults ARGS='cuts freezes --small'       two trials, as small as in the suite
    make faults ARGS='kills --seed 7'             again as it was: the seed decides what is done, and when
    make faults ARGS='kills --count 40'           so many of what the trial counts

Each trial has a PostgreSQL and a server of its own, in a folder that is removed; no other process is touched.
"""

import asyncio
import logging
import random
import signal
import sys
import time
import traceback
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.catalogue import TRIALS, Trial
from tests.faults.laboratory.result import Result
from tests.faults.laboratory.site import laboratory

LONGEST = 3_600
"""Seconds after which a trial is ended."""
console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=150)


async def perform(trial: Trial, count: int, seed: int, progress: Progress) -> Result:
    """Runs a trial on a laboratory of its own. What it raises is told as a promise broken: a part that is missing is no reason to skip it."""
    task = progress.add_task(trial.name, total=trial.steps(count))
    begun = time.monotonic()
    try:
        async with asyncio.timeout(LONGEST), laboratory(durable=trial.durable) as lab:
            result = await trial.run(lab, count, seed, lambda: progress.advance(task))
    except Exception as problem:
        result = Result(trial.name, seed)
        result.add_break("the trial runs to its end", f"{problem!r} {traceback.format_exc()[-200:]}")
    result.numbers["seconds"] = f"{time.monotonic() - begun:.0f}"
    return result


def show(results: list[Result]) -> None:
    """The numbers of each trial, and what was broken."""
    table = Table("trial", "seed", "numbers", "broken", title="Faults", show_lines=True)
    for result in results:
        numbers = "\n".join(f"{name}: {value}" for name, value in result.numbers.items())
        broken = "\n".join(f"[red]{times} ×[/red] {escape(promise)}" for promise, times in result.broken.items())
        table.add_row(result.trial, str(result.seed), escape(numbers), broken or "[green]nothing[/green]")
    console.print(table)
    for result in results:
        for promise, examples in result.examples.items():
            console.print(f"[bold]{result.trial}: {escape(promise)}[/bold]")
            for example in examples:
                console.print(f"  {escape(example)}", soft_wrap=True)


def main(
    trial: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(TRIALS)}; all unless said.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides what is done and when; by chance unless said.")] = None,
    full: Annotated[bool, typer.Option("--full/--small", help="All of it, or as little as the suite does.")] = True,
    count: Annotated[int | None, typer.Option(help="So many kills, cuts, freezes, shapes, seconds or rounds.")] = None,
) -> None:
    """Break what can break, and say which promises did."""
    unknown = [name for name in trial or () if name not in TRIALS]
    if unknown:
        raise SystemExit(f"There is no trial {unknown[0]}. There are {', '.join(TRIALS)}.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seed = random.randrange(1_000_000) if seed is None else seed
    results = []
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in trial or TRIALS:
            chosen = TRIALS[name]
            progress.console.print(f"{name}, seed {seed}: {chosen.about}")
            results.append(asyncio.run(perform(chosen, count or (chosen.full if full else chosen.small), seed, progress)))
    show(results)
    if any(result.broken for result in results):
        console.print(
            f"[red]Promises were broken.[/red] Again: make faults ARGS='{' '.join(trial or ())} --seed {seed}'", soft_wrap=True
        )
        raise SystemExit(1)
    console.print("[green]Every promise was kept.[/green]")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()
