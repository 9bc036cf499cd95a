"""What was measured, as a table, as JSON and (draw.py, in the bench's own environment) as a picture."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.load import Measure
from tests.bench.process import Process
from tests.bench.reads import REACHES
from tests.bench.traffic import CONSTANT, FASTAPI, GRAPHQL, LIMIT, NONE_KEPT, OURS, REST, STRAWBERRY
from tests.bench.workloads import WORKLOADS


@dataclass
class Result:
    """The measures of each contender, one a round, of a workload at so many connections."""

    workload: str
    connections: int
    measures: dict[str, list[Measure]] = field(default_factory=dict)

    def middle(self, contender: str) -> Measure:
        """The median of each figure."""
        rounds = self.measures[contender]
        known = {f.name: [value for m in rounds if (value := getattr(m, f.name)) is not None] for f in fields(Measure)}
        return Measure(**{name: median(values) if values else None for name, values in known.items()})  # type: ignore[arg-type]

    def ratio(self, contender: str, to: str, figure: str = "rate") -> float | None:
        """The median of the rounds' ratios: both were measured within seconds of each other."""
        if contender not in self.measures or to not in self.measures:
            return None
        pairs = zip(self.measures[contender], self.measures[to], strict=True)
        ratios = [getattr(mine, figure) / getattr(theirs, figure) for mine, theirs in pairs if getattr(theirs, figure)]
        return median(ratios) if ratios else None


@dataclass
class Results:
    """One run. `plans` are milliseconds that a first-time plan takes, by workload and interface; `process` is our server with kept answers."""

    scale: int
    results: list[Result] = field(default_factory=list)
    plans: dict[str, float] = field(default_factory=dict)
    process: Process | None = None

    def save(self, path: Path) -> None:
        said = asdict(self)
        for result, known in zip(said["results"], self.results, strict=True):
            result["median"] = {contender: asdict(known.middle(contender)) for contender in known.measures}
            result["goals"] = WORKLOADS[known.workload].goals
            result["ratios"] = {
                mine: {to: known.ratio(mine, to) for to in (LIMIT, FASTAPI, STRAWBERRY, CONSTANT) if to in known.measures}
                for mine in (*OURS, *NONE_KEPT)
                if mine in known.measures
            }
        path.write_text(json.dumps(said, indent=1))

    def of(self, workload: str) -> Result | None:
        return next((result for result in self.results if result.workload == workload and result.measures), None)


def show(results: Results, folder: Path, console: Console) -> None:
    console.print(_measured(results))
    if results.process:
        console.print(_tabulate(results.process))
    console.print(_goals(results, folder))


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _measured(results: Results) -> Table:
    names = ("", "conn.", "who", "requests/s", "p50 ms", "p99 ms", "server CPU ms", "PostgreSQL CPU ms", "MB")
    table = Table(*names, "× limit", "× FastAPI", "× Strawberry", title=f"Medians of interleaved rounds, scale {results.scale}")
    for result in results.results:
        for i, contender in enumerate(result.measures):
            m = result.middle(contender)
            rate = _figure(m.rate)
            if (many := WORKLOADS[result.workload].rows) > 1:
                rate += f" ({_figure(m.rate * many)} rows/s)"
            to = (CONSTANT if CONSTANT in result.measures else LIMIT, FASTAPI, STRAWBERRY)
            ratios = [result.ratio(contender, other) if contender in (*OURS, *NONE_KEPT) else None for other in to]
            place = (result.workload, str(result.connections)) if i == 0 else ("", "")
            cells = (m.p50, m.p99, m.server_cpu, m.database_cpu, m.memory, *ratios)
            table.add_row(*place, contender, rate, *map(_figure, cells), end_section=i == len(result.measures) - 1)
    return table


def _tabulate(process: Process) -> Table:
    """Our server's process, and what a connection to the database holds."""
    table = Table("our server, kept answers", "", title="Process")
    for name, value in process.to_table().items():
        table.add_row(name, value)
    return table


def _goals(results: Results, folder: Path) -> Table:
    """The goals beside what was found, at 16 connections or what was run."""
    table = Table("", "goal", "found", "", title="Goals")

    def add(what: str, goal: str, found: float | None, reached: bool) -> None:
        if found is not None:
            table.add_row(what, goal, _figure(found), "[green]reached[/green]" if reached else "[red]not reached[/red]")

    for result in results.results:
        at = f"{result.workload}, {result.connections} connections"
        for to, least in WORKLOADS[result.workload].goals.items():
            for contender in OURS:
                found = result.ratio(contender, to)
                add(f"{at}: {contender} ÷ {to}", f"≥ {least}", found, found is not None and found >= least)
        if result.workload in ("R1", "R2", "R3"):
            found = result.ratio(GRAPHQL, REST, "server_cpu")
            add(f"{at}: CPU of GraphQL ÷ REST", "≤ 1.1", found, found is not None and found <= 1.1)
        if result.workload == "reach" and len(result.measures) == len(REACHES):
            near, _, far = REACHES
            found = result.ratio(near, far)
            add(f"{at}: a school's rate ÷ 2,000 schools'", "≤ 1.3", found, found is not None and found <= 1.3)
    for name, milliseconds in results.plans.items():
        add(f"first-time plan of {name}, ms", "< 15", milliseconds, milliseconds < 15)
    if process := results.process:
        resident = (process.supervisor + process.worker) / 1e6
        add("memory of supervisor and worker, MB", "≤ 210", resident, resident <= 210)
        if process.backends:
            most = max(process.backends) / 1e6
            add("private memory of a connection to the database, the most, MB", "≤ 100", most, most <= 100)
    for name, found in _scaled(results, folder):
        add(f"{name}: what ten times the data keeps, ÷ what the limit keeps", "≥ 0.9", found, found >= 0.9)
    return table


def _scaled(results: Results, folder: Path) -> list[tuple[str, float]]:
    """Of R1 to R3, where the smaller data was measured at as many connections."""
    smaller = folder / "results-x1.json"
    if results.scale != 10 or not smaller.exists():
        return []
    before: list[Any] = json.loads(smaller.read_text())["results"]
    found = []
    for result in results.results:
        for then in before:
            if (then["workload"], then["connections"]) != (result.workload, result.connections) or LIMIT not in result.measures:
                continue
            for contender in OURS if result.workload in ("R1", "R2", "R3") else ():
                old = then["median"]
                kept = result.middle(contender).rate / old[contender]["rate"]
                found.append((f"{result.workload} {contender}", kept / (result.middle(LIMIT).rate / old[LIMIT]["rate"])))
    return found
