"""Where the time of a read goes: in the server (py-spy, while it is under load), in PostgreSQL (EXPLAIN of the product's own statement), and
the first time that a shape is asked for."""

import json
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from statistics import median

import httpx2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.app import build_app
from api.logs import configure_logging
from api.settings import Settings
from domain.read.explain import open_recording_database
from domain.store import embedded
from domain.store.database import READ_SECONDS
from tests.bench import load
from tests.bench.beside import COPY
from tests.bench.data import Data
from tests.bench.load import Database, Measure
from tests.bench.meter import tree
from tests.bench.reads import R1_PATH, R1_QUERY, R2_PATH, R2_QUERY
from tests.bench.servers import Server
from tests.bench.traffic import Bench, Request, Stream, Workload

PLANNED, REPEATED = 5, 4
OURS_IN = re.compile(r"\((.*/)?(api|domain)/")


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


async def explain(cluster: embedded.Cluster, data: Data, request: Request, client: str, console: Console) -> None:
    """The statement that the product makes of a request, and what PostgreSQL does with it as the app role, row-level security in force."""
    url = cluster.url(COPY, "markonce_app")
    os.environ["MARKONCE_LOG"] = "warnings"
    configure_logging()
    database = await open_recording_database(url, READ_SECONDS)
    app = build_app(Settings(database_url=url, secret=data.secret.encode(), base_url="http://bench", cache_mb=0), database)
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://bench") as asking:
            token = await asking.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=data.clients[client])
            headers = {"Authorization": f"Bearer {token.json()['access_token']}", "Content-Type": "application/json"}
            database.recorded = []
            for _ in range(2):  # the first may read what names there are, too
                answer = await asking.request(request.method, request.path, content=request.body or None, headers=headers)
                assert answer.status_code == 200, answer.text
        statement, arguments = database.recorded[-1]
        async with database.without_caller() as connection:
            taken = {}
            for mode in ("auto", "force_generic_plan", "force_custom_plan"):
                await connection.execute(f"SET plan_cache_mode = {mode}")
                prepared, times = await connection.prepare(statement), []
                for _ in range(50):
                    begun = time.perf_counter()
                    await prepared.fetchrow(*arguments)
                    times.append(1000 * (time.perf_counter() - begun))
                taken[mode] = f"{mode} {median(times):.2f} ms"
            plans = [await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", *arguments) for _ in range(3)]
    finally:
        await database.close()
    console.rule("statement")
    console.out(statement, highlight=False)
    console.rule("plan")
    for line in plans[-1]:
        console.out(line[0], highlight=False)
    console.print(f"\n{len(answer.content):,} bytes; the statement has {len(statement):,} characters")
    console.print(f"run again and again from Python, by plan_cache_mode: {', '.join(taken.values())}")


def sample(
    server: Server,
    workload: Workload,
    contender: str,
    stream: Stream,
    database: Database,
    venv: Path,
    seconds: int,
    console: Console,
) -> None:
    """What the worker does under load, by py-spy: the share of samples in each function itself, and in it or below it."""

    def measure(lasting: float) -> Measure:
        measured = load.measure_bulk if workload.is_bulk else load.measure
        connections = min(16, workload.most_connections)
        return measured(server, workload.client_of(contender), stream, connections, lasting, database)

    measure(2)  # warm, and the worker is the busy one of the supervisor's children
    processes = tree(server.process.pid)
    worker = max(processes.keys() - {server.process.pid}, key=lambda pid: sum(map(int, processes[pid][11:13])))
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
        spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        measured = measure(seconds + 2)
        said = spy.communicate()[0].decode()
        if spy.returncode or not raw.exists():
            raise SystemExit(f"py-spy cannot look into the worker (it needs root, or kernel.yama.ptrace_scope=0): {said[-500:]}")
        stacks = [line.rpartition(" ") for line in raw.read_text().splitlines()]
    itself: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for stack, _, count in stacks:
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        itself[frames[-1]] += int(count)
        for frame in {frame for frame in frames if OURS_IN.search(frame)}:
            within[frame] += int(count)
    total = max(itself.total(), 1)
    console.rule("server")
    console.print(
        f"{measured.rate:,.0f} requests/s under py-spy, {measured.server_cpu:.2f} ms of CPU each; {total:,} samples of running Python"
    )
    table = Table("in itself", "%", "of ours, in it or below", "%")
    for own, whole in zip_longest(itself.most_common(30), within.most_common(30)):
        table.add_row(
            *(cell for pair in (own, whole) for cell in ((escape(pair[0]), f"{100 * pair[1] / total:.1f}") if pair else ("", "")))
        )
    console.print(table)
