"""What two builds cost, side by side: medians, their ratio, and how far the ratio can be trusted."""

import json
import random
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import geometric_mean, mean, median, quantiles

from rich.console import Console
from rich.table import Table

from tests.bench.load import Measure
from tests.bench.process import Process
from tests.bench.traffic import GRAPHQL, NONE_KEPT, REST
from tests.bench.workloads import WORKLOADS

BOUND, GRAPHQL_WRITES = 1.03, 1.2
"""The most that a request may cost in the newer build, as a multiple of the older; a mutation by GraphQL may cost more."""
START, MEMORY = 0.3, 210e6
"""Seconds by which the newer build may begin to serve later, and bytes that its supervisor and worker may hold."""
DRAWS = 2000
FEWEST = 5
"""Rounds below which nothing is held against a bound."""
CAPTION = (
    "server: supervisor and worker; backends: PostgreSQL's of that database. ÷: the median of the rounds' ratios, and where it lies in 95 % of"
    " draws of them; calm: of the cheapest quarter of the rounds; itself: the last ratio of a build to itself (--against self)"
)
FIGURES = {"server": "server_cpu", "backends": "backend_cpu"}


@dataclass
class Cell:
    """The measures of one workload by one interface, of each build one a round."""

    workload: str
    contender: str
    before: list[Measure] = field(default_factory=list)
    after: list[Measure] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.workload} {self.contender}"

    @property
    def bound(self) -> float:
        return GRAPHQL_WRITES if WORKLOADS[self.workload].writes and self.contender == GRAPHQL else BOUND

    def add(self, before: list[Measure], after: list[Measure]) -> None:
        """What was measured in a round, as means."""
        self.before.append(_mean(before))
        self.after.append(_mean(after))

    def ratios(self, figure: str) -> list[float]:
        """The newer build's to the older's, in each round."""
        pairs = zip(_values(self.after, figure), _values(self.before, figure), strict=True)
        return [after / before if before else float("nan") for after, before in pairs]

    def ratio(self, figure: str) -> float:
        """The median of the rounds' ratios: both were measured within seconds of each other."""
        return median(self.ratios(figure))

    def calm_ratio(self, figure: str) -> float:
        """The same of each build's cheapest rounds, their lower quartiles: what the machine does beside makes a request dearer, never cheaper."""
        after, before = (quantiles(_values(rounds, figure), n=4, method="inclusive")[0] for rounds in (self.after, self.before))
        return after / before if before else float("nan")

    def interval(self, figure: str) -> tuple[float, float]:
        """Where the ratio of nineteen in twenty runs would lie, as far as these rounds tell: a bootstrap over rounds."""
        ratios, draw = self.ratios(figure), random.Random(1)
        found = sorted(median(draw.choices(ratios, k=len(ratios))) for _ in range(DRAWS))
        return found[round(0.025 * DRAWS)], found[round(0.975 * DRAWS) - 1]

    def verdict(self, itself: float) -> str:
        """`itself` is the ratio of a build to itself: the bound holds beyond what that differs from 1. Few rounds tell nothing."""
        allowed = self.bound * max(itself, 1 / itself)
        if len(self.before) < FEWEST:
            return "–"
        if self.ratio("total") <= self.bound:
            return "within"
        return "above" if min(self.interval("total")[0], self.calm_ratio("total")) > allowed else "unclear"


def _values(measures: list[Measure], figure: str) -> list[float]:
    if figure == "rate":
        return [measure.rate for measure in measures]
    names = FIGURES.values() if figure == "total" else [FIGURES[figure]]
    return [sum(getattr(measure, name) for name in names) for measure in measures]


def _mean(measures: list[Measure]) -> Measure:
    values = {f.name: [getattr(measure, f.name) for measure in measures] for f in fields(Measure)}
    return Measure(**{name: mean(found) for name, found in values.items()})


def combine(cells: list[Cell]) -> tuple[float, float, float]:
    """The geometric mean of the ratios of all rounds of all cells, and where it would lie in nineteen of twenty runs: a change that falls on
    every request shows here first."""
    ratios, draw = [cell.ratios("total") for cell in cells], random.Random(1)
    found = sorted(geometric_mean(r for cell in ratios for r in draw.choices(cell, k=len(cell))) for _ in range(DRAWS))
    return geometric_mean(r for cell in ratios for r in cell), found[round(0.025 * DRAWS)], found[round(0.975 * DRAWS) - 1]


@dataclass
class Comparison:
    """One run. Processes and seconds to the first answer are those of the servers with kept answers."""

    before: str
    after: str
    schools: int
    connections: int
    cells: list[Cell]
    before_process: Process
    after_process: Process
    folder: Path

    def save(self) -> Path:
        path = self.folder / f"against-{self.before}.json"
        said = asdict(self) | {"folder": str(self.folder)}
        for cell, known in zip(said["cells"], self.cells, strict=True):
            cell["ratios"] = {figure: known.ratio(figure) for figure in (*FIGURES, "total", "rate")}
            cell["interval"], cell["verdict"] = known.interval("total"), known.verdict(1.0)
        path.write_text(json.dumps(said, indent=1))
        return path

    def itself(self) -> dict[str, float]:
        """The ratio of a build to itself, by cell, where that was measured before."""
        path = self.folder / "against-self.json"
        if self.before == "self" or not path.exists():
            return {}
        return {
            f"{cell['workload']} {cell['contender']}": cell["ratios"]["total"] for cell in json.loads(path.read_text())["cells"]
        }

    def show(self, console: Console) -> list[str]:
        """Prints all and answers what is above its bound."""
        itself = self.itself()
        verdicts = {cell.name: cell.verdict(itself.get(cell.name, 1.0)) for cell in self.cells}
        console.print(self._costs(itself, verdicts))
        ratio, low, high = combine(self.cells)
        console.print(f"all together: {ratio:.3f} (95 %: {low:.3f}–{high:.3f})")
        console.print(self._processes())
        console.print(str(self.save()), soft_wrap=True)
        above = [f"{name}: CPU of a request" for name, verdict in verdicts.items() if verdict == "above"]
        above += [name for name, is_over in self._limits().items() if is_over]
        for name in above if self.before != "self" else ():
            console.print(f"[red]above its bound:[/red] {name}")
        return [] if self.before == "self" else above

    def _costs(self, itself: dict[str, float], verdicts: dict[str, str]) -> Table:
        rounds = len(self.cells[0].before)
        title = f"CPU of a request in µs, {self.before} → {self.after}: {rounds} rounds at {self.connections} connections"
        costs = [name for figure in (*FIGURES, "total") for name in (figure, "÷")]
        names = ("", "interface", "answers", *costs, "95 %", "calm", "itself", "bound", "", "requests/s", "÷")
        table = Table(*names, title=title, caption=CAPTION)
        for cell in self.cells:
            of = [text for figure in (*FIGURES, "total") for text in (_both(cell, figure, 1000), f"{cell.ratio(figure):.3f}")]
            low, high = cell.interval("total")
            known = f"{itself[cell.name]:.3f}" if cell.name in itself else "–"
            interface = REST if cell.contender.startswith(REST) else GRAPHQL
            kept = "–" if WORKLOADS[cell.workload].writes else "none kept" if cell.contender in NONE_KEPT else "kept"
            found = (
                *of,
                f"{low:.3f}–{high:.3f}",
                "–" if rounds < FEWEST else f"{cell.calm_ratio('total'):.3f}",
                known,
                f"{cell.bound}",
                verdicts[cell.name],
                _both(cell, "rate", 1),
                f"{cell.ratio('rate'):.2f}",
            )
            table.add_row(cell.workload, interface, kept, *found)
        return table

    def _processes(self) -> Table:
        table = Table("kept answers", self.before, self.after, title="Process")
        after = self.after_process.to_table()
        for name, value in self.before_process.to_table().items():
            table.add_row(name, value, after[name])
        return table

    def _limits(self) -> dict[str, bool]:
        """What else is bound, and whether it is above that."""
        before, after = self.before_process, self.after_process
        found = {
            "seconds to the first answer": after.started > before.started + START,
            "memory of supervisor and worker": after.supervisor + after.worker > MEMORY,
        }
        more = {
            f"functions entered by {name}": count > before.functions.get(name, count) for name, count in after.functions.items()
        }
        return found | more


def _both(cell: Cell, figure: str, times: float) -> str:
    before, after = (times * median(_values(measures, figure)) for measures in (cell.before, cell.after))
    return f"{_figure(before)} → {_figure(after)}"


def _figure(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
