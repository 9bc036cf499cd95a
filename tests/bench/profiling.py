"""Where the time of a read goes: in the server (py-spy, while it is under load), in PostgreSQL (EXPLAIN of the product's own statement), and
the first time that a shape is asked for."""

import asyncio
import json
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
from rich.console import Console
from rich.table import Table

from api.app import build_app
from api.settings import Settings
from domain.engine import embedded
from domain.engine.database import Database
from tests.bench import load
from tests.bench.data import Data
from tests.bench.servers import Server, tree
from tests.bench.workloads import R1_PATH, R1_QUERY, R2_PATH, R2_QUERY, Bench, Request

PLANNED, REPEATED = 5, 4


def first_plans(bench: Bench, workloads: list[str]) -> dict[str, float]:
    """Milliseconds that the first request of a shape takes beyond the quickest of the next ones: reading, compiling and PostgreSQL's own
    planning, of those of R1 and R2 that are asked about. Medians over shapes that differ in the order of fields, or in an alias."""
    pupil = bench.pupils(1)[0]

    def rotated(path: str, i: int) -> Request:
        before, _, rest = path.partition("fields=")
        names, ampersand, after = rest.partition("&")
        turned = names.split(",")
        return Request("GET", f"{before}fields={','.join(turned[i:] + turned[:i])}{ampersand}{after}")

    def aliased(query: str, i: int, variables: dict[str, str]) -> Request:
        source = " ".join(query.split()).replace("{ id ", f"{{ other{i}: id id ", 1)
        return Request("POST", "/graphql", json.dumps({"query": source, "variables": variables}))

    shapes: dict[str, list[Request]] = {}
    if "R1" in workloads:
        shapes["R1, REST"] = [rotated(R1_PATH.format(pupil), i) for i in range(1, PLANNED + 1)]
        shapes["R1, GraphQL"] = [aliased(R1_QUERY, i, {"id": pupil}) for i in range(PLANNED)]
    if "R2" in workloads:
        shapes["R2, REST"] = [rotated(R2_PATH.format(bench.cursors[0]), i) for i in range(1, PLANNED + 1)]
        shapes["R2, GraphQL"] = [aliased(R2_QUERY, i, {"after": bench.cursors[0]}) for i in range(PLANNED)]
    headers = {"Authorization": f"Bearer {bench.server.token()}", "Content-Type": "application/json"}
    with httpx2.Client(base_url=bench.server.base_url, headers=headers, timeout=60) as client:

        def taken(request: Request) -> float:
            begun = time.perf_counter()
            answer = client.request(request.method, request.path, content=request.body or None)
            assert answer.status_code == 200, answer.text
            return 1000 * (time.perf_counter() - begun)

        return {
            name: median(taken(request) - min(taken(request) for _ in range(REPEATED)) for request in requests)
            for name, requests in shapes.items()
        }


class Noting(Database):
    """Keeps the last statement that was read, with its arguments."""

    last: tuple[str, tuple[Any, ...]] = ("", ())

    async def read(self, statement: str, *arguments: Any) -> Any:
        self.last = (statement, arguments)
        return await super().read(statement, *arguments)


async def explain(cluster: embedded.Cluster, data: Data, request: Request, client: str, console: Console) -> None:
    """The statement that the product makes of a request, and what PostgreSQL does with it as the app role, row-level security in force."""
    url = cluster.url(embedded.DATABASE, "markonce_app")
    database = await Noting.open(url, size=1)
    assert isinstance(database, Noting)
    app = build_app(Settings(database_url=url, secret=data.secret.encode(), base_url="http://bench"), database)
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://bench") as asking:
            token = await asking.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=data.clients[client])
            headers = {"Authorization": f"Bearer {token.json()['access_token']}", "Content-Type": "application/json"}
            answer = await asking.request(request.method, request.path, content=request.body or None, headers=headers)
            assert answer.status_code == 200, answer.text
        statement, arguments = database.last
        async with database.register() as connection:
            prepared, times = await connection.prepare(statement), []
            for _ in range(50):
                begun = time.perf_counter()
                await prepared.fetchrow(*arguments)
                times.append(1000 * (time.perf_counter() - begun))
            plans = [await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", *arguments) for _ in range(3)]
    finally:
        await database.close()
    console.rule("statement")
    console.out(statement, highlight=False)
    console.rule("plan")
    for line in plans[-1]:
        console.out(line[0], highlight=False)
    console.print(
        f"\n{len(answer.content):,} bytes; the statement has {len(statement):,} characters; prepared, from Python:"
        f" {median(times):.2f} ms (planned anew each time, if PostgreSQL finds that cheaper: see Planning Time above)"
    )


def sample(server: Server, client: str, requests: Path, database: int, venv: Path, seconds: int, console: Console) -> None:
    """What the worker does under 16 connections, by py-spy: the share of samples in each function itself, and in it or below it."""
    worker = max(tree(server.process.pid), key=lambda pid: sum(map(int, tree(pid)[pid][11:13])))
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "stacks"
        command = [
            str(venv / "bin" / "py-spy"),
            "record",
            "-p",
            str(worker),
            "-d",
            str(seconds),
            "-r",
            "200",
            "-f",
            "raw",
            "-o",
            str(raw),
        ]
        load.wrk(server, client, requests, 16, 1, database)  # warm
        spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        measured = load.wrk(server, client, requests, 16, seconds + 2, database)
        said = spy.communicate()[0].decode()
        if spy.returncode or not raw.exists():
            raise SystemExit(f"py-spy cannot look into the worker (it needs root, or kernel.yama.ptrace_scope=0): {said[-500:]}")
        stacks = [line.rpartition(" ") for line in raw.read_text().splitlines()]
    itself: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for stack, _, count in stacks:
        frames = [_named(frame) for frame in stack.split(";")]
        itself[frames[-1]] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    total = max(itself.total(), 1)
    console.rule("server")
    console.print(
        f"{measured.rate:,.0f} requests/s under py-spy, {measured.server_cpu:.2f} ms of CPU each; {total:,} samples of the worker"
    )
    table = Table("in itself", "%", "in it or below", "%")
    for (own, n), (whole, m) in zip(itself.most_common(30), within.most_common(45)[15:], strict=False):
        table.add_row(own, f"{100 * n / total:.1f}", whole, f"{100 * m / total:.1f}")
    console.print(table)


def _named(frame: str) -> str:
    """`function (package/file.py)`: without the line and the way to the package."""
    name, _, place = frame.partition(" (")
    path = place.rstrip(")").split(":")[0].split("/")
    return f"{name} ({'/'.join(path[-2:])})" if place else name


def run(bench: Bench, cluster: embedded.Cluster, request: Request, client: str, console: Console) -> None:
    asyncio.run(explain(cluster, bench.data, request, client, console))
