"""make bench: what each kind of request costs, side by side in one run: a median, and its ratio to the same server's constant answer.

One keep-alive connection, requests of the kinds interleaved, so that a noisy machine disturbs all alike. Trust the ratios, not the milliseconds.
"""

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import track
from rich.table import Table

from domain.engine import embedded
from domain.engine.migrate import migrate
from tests.conftest import fresh_database, serving
from tests.published import results

DATA = Path(__file__).parents[1] / "published" / "data"
ROUNDS = 200
GRAPHQL = """query($id: ID!) { pupil(id: $id) {
  id sex yearGroup judgements(first: 20) { nodes { grade subjectCode windowCode } } targets(first: 20) { nodes { grade } } } }"""
PAGE = """query($n: Int!) { pupils(first: $n) { nodes {
  id sex yearGroup judgements(first: 20) { nodes { grade subject { name } window { name } } } } } }"""


class Wire:
    """A connection that is kept."""

    def __init__(self, base_url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path} answered {answer.status}: {text[:500]!r}")
        return json.loads(text)


def workloads(wire: Wire, loaded: results.Loaded) -> dict[str, Callable[[], Any]]:
    ids = [row["id"] for row in wire.ask("GET", "/v1/pupils?first=1000&fields=id")["data"]]
    turn = iter(range(10**9))
    school, pupils = max(loaded.pupils.items(), key=lambda each: len(each[1]))
    batch = results.whole_pupils.judgements(school, pupils)

    def id_() -> str:
        return str(ids[next(turn) % len(ids)])

    return {
        "a constant answer": lambda: wire.ask("GET", "/health/live"),
        "R1 one pupil, judgements, targets: REST": lambda: wire.ask(
            "GET",
            f"/v1/pupils/{id_()}?fields=id,sex,yearGroup,judgements.grade,judgements.subjectCode,judgements.windowCode,targets.grade&include=judgements,targets",
        ),
        "R1 the same: GraphQL": lambda: wire.ask("POST", "/graphql", {"query": GRAPHQL, "variables": {"id": id_()}}),
        "R2 50 pupils × judgements × names: REST": lambda: wire.ask(
            "GET",
            "/v1/pupils?first=50&fields=id,sex,yearGroup,judgements.grade,judgements.subject.name,judgements.window.name&include=judgements.subject,judgements.window",
        ),
        "R2 the same: GraphQL": lambda: wire.ask("POST", "/graphql", {"query": PAGE, "variables": {"n": 50}}),
        "R3 100 pupils, flat": lambda: wire.ask("GET", "/v1/pupils?first=100&fields=id,sex,yearGroup"),
        f"W2 {len(batch['entries'])} judgements, unchanged": lambda: wire.ask("POST", "/v1/judgements", batch),
        "R4 aggregates by school × subject": lambda: wire.ask(
            "GET", f"/v1/aggregates?window={results.WINDOW}&groupBy=school,subject"
        ),
    }


def main() -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        cluster = embedded.start(Path(folder) / "data")
        try:
            migrate(cluster.url(embedded.DATABASE, "markonce_owner"))
            with serving(fresh_database(cluster)) as server:
                gias = [DATA / name for name in ("establishments.csv", "groups.csv", "group_links.csv")]
                loaded = results.load(server, [DATA / "ks2-2018.csv"], gias, show=True)
                server.register("bench", "trusts=all", "schools=all")
                wire = Wire(server.base_url, server.token("bench"))
                kinds = workloads(wire, loaded)
                times: dict[str, list[float]] = {name: [] for name in kinds}
                for _ in track(range(ROUNDS), "asking", console=console):
                    for name, ask in kinds.items():
                        begun = time.perf_counter()
                        ask()
                        times[name].append(time.perf_counter() - begun)
        finally:
            cluster.stop()
    constant = statistics.median(times["a constant answer"])
    table = Table("", "median ms", "p99 ms", "× constant")
    for name, taken in times.items():
        median = statistics.median(taken)
        table.add_row(
            name, f"{median * 1000:.2f}", f"{statistics.quantiles(taken, n=100)[-1] * 1000:.2f}", f"{median / constant:.1f}"
        )
    console.print(table)


if __name__ == "__main__":
    main()
