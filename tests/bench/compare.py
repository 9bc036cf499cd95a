"""What two builds cost, side by side: medians, their ratio, and how far the ratio can be trusted."""

import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

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
FIGURES = {"server": "server_cpu", "backends": "backend_cpu"}


@dataclass
class Cell:
    """The measures of one workload by one interface, one a round of each build."""

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

    def ratio(self, figure: str) -> float:
        """Of the medians, the newer build's to the older's."""
        return _ratio(list(zip(_values(self.after, figure), _values(self.before, figure), strict=True)))

    def interval(self, figure: str) -> tuple[float, float]:
        """Where the ratio of nineteen in twenty runs would lie, as far as these rounds tell: a bootstrap over rounds."""
        pairs = list(zip(_values(self.after, figure), _values(self.before, figure), strict=True))
        draw = random.Random(1)
        ratios = sorted(_ratio(draw.choices(pairs, k=len(pairs))) for _ in range(DRAWS))
        return ratios[round(0.025 * DRAWS)], ratios[round(0.975 * DRAWS) - 1]

    def verdict(self, itself: float) -> str:
        """`itself` is the ratio of a build to itself: the bound holds beyond what that differs."""
        allowed = self.bound * max(1.0, itself)
        if self.ratio("total") <= allowed:
            return "within"
        return "unclear" if self.interval("total")[0] <= allowed else "above"


def _values(measures: list[Measure], figure: str) -> list[float]:
    if figure == "rate":
        return [measure.rate for measure in measures]
    names = FIGURES.values() if figure == "total" else [FIGURES[figure]]
    return [sum(getattr(measure, name) for name in names) for measure in measures]


def _ratio(pairs: list[tuple[float, float]]) -> float:
    after, before = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    return after / before if before else float("nan")


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
            cell["interval"] = known.interval("total")
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
        console.print(self._processes())
        console.print(str(self.save()), soft_wrap=True)
        above = [f"{name}: CPU of a request" for name, verdict in verdicts.items() if verdict == "above"]
        above += [name for name, is_over in self._limits().items() if is_over]
        for name in above if self.before != "self" else ():
            console.print(f"[red]above its bound:[/red] {name}")
        return [] if self.before == "self" else above

    def _costs(self, itself: dict[str, float], verdicts: dict[str, str]) -> Table:
        rounds = len(self.cells[0].before)
        title = (
            f"CPU of a request in µs, {self.before} → {self.after}: medians of {rounds} rounds at {self.connections} connections"
        )
        names = (
            "",
            "interface",
            "answers",
            "server",
            "÷",
            "backends",
            "÷",
            "total",
            "÷",
            "95 %",
            "itself",
            "bound",
            "",
            "requests/s",
            "÷",
        )
        table = Table(*names, title=title)
        for cell in self.cells:
            of = [text for figure in (*FIGURES, "total") for text in (_both(cell, figure, 1000), f"{cell.ratio(figure):.3f}")]
            low, high = cell.interval("total")
            known = f"{itself[cell.name]:.3f}" if cell.name in itself else "–"
            interface = REST if cell.contender.startswith(REST) else GRAPHQL
            kept = "–" if WORKLOADS[cell.workload].writes else "none kept" if cell.contender in NONE_KEPT else "kept"
            found = (
                *of,
                f"{low:.3f}–{high:.3f}",
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
        after = self.after_process.described()
        for name, value in self.before_process.described().items():
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
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
