"""One measurement: wrk on a server, requests in bulk, or pgbench on the database, for some seconds; and what it cost."""

import asyncio
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from domain.store import embedded
from domain.store.programs import find_binaries
from tests.bench.meter import measure_backends, measure_tree, postmaster, resident_bytes
from tests.bench.servers import Server, Unfit
from tests.bench.traffic import Stream

HERE = Path(__file__).parent


@dataclass
class Measure:
    """Milliseconds, but for the rate (requests a second) and memory (megabytes); None where there is no such thing.

    `database_cpu` is that of all processes of PostgreSQL, `backend_cpu` that of the backends of the database alone.
    """

    rate: float
    p50: float
    p99: float
    database_cpu: float
    server_cpu: float | None = None
    memory: float | None = None
    backend_cpu: float | None = None


@dataclass
class Database:
    """The database that is asked, so that its CPU is counted."""

    cluster: embedded.Cluster
    name: str
    postmaster: int = field(init=False)

    def __post_init__(self) -> None:
        self.postmaster = postmaster(self.cluster)

    @property
    def superuser_url(self) -> str:
        return self.cluster.url(self.name, embedded.SUPERUSER)


def find_wrk() -> str:
    return shutil.which("wrk") or _missing("wrk", "wrk")


def find_pgbench() -> str:
    """That of the PostgreSQL that runs, else the system's."""
    beside = find_binaries().folder / "pgbench"
    if beside.is_file():
        return str(beside)
    return shutil.which("pgbench") or _missing("pgbench", "postgresql-contrib (or postgresql)")


def _missing(program: str, package: str) -> str:
    raise SystemExit(f"{program} is needed: install Debian's package {package}, or run `make bench` as root, which does.")


Costs = Callable[[int], tuple[float, float, float]]


@contextmanager
def _costs(server: Server, database: Database) -> Iterator[Costs]:
    """Milliseconds of CPU that each of so many answers has cost since the block began: the server's, PostgreSQL's, and the backends'."""
    with ExitStack() as stack:
        by_server = stack.enter_context(measure_tree(server.process.pid))
        by_database = stack.enter_context(measure_tree(database.postmaster))
        by_backends = stack.enter_context(measure_backends(database.cluster, database.name))

        def each(answers: int) -> tuple[float, float, float]:
            by = by_server(), by_database(), by_backends()
            server_cpu, database_cpu, backend_cpu = (1000 * seconds / max(answers, 1) for seconds in by)
            return server_cpu, database_cpu, backend_cpu

        yield each


def _settle(root: int) -> None:
    """Waits for what wrk has hung up on: a server goes on with it, and would disturb who is measured next."""
    for _ in range(600):
        with measure_tree(root) as spent:
            time.sleep(0.1)
            if spent() < 0.015:
                return


def measure(server: Server, client: str, stream: Stream, connections: int, seconds: float, database: Database) -> Measure:
    """Requests of a stream on so many connections, by one thread of wrk (see load.lua)."""
    headers = [f"Authorization: Bearer {server.token(client)}", "Content-Type: application/json"]
    command = [
        find_wrk(),
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "60s",
        "-s",
        str(HERE / "load.lua"),
    ]
    command += [part for header in headers for part in ("-H", header)]
    at = "-" if stream.position is None else str(stream.position.at)
    command += [server.base_url, "--", str(stream.file), at, stream.expected, stream.read]
    with _costs(server, database) as costs:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        said = json.loads(next((line for line in reversed(lines) if line.startswith("{")), "{}"))
        server_cpu, database_cpu, backend_cpu = costs(said.get("requests", 0))
    if done.returncode or not said:
        raise Unfit(f"wrk failed: {done.stdout}{done.stderr}")
    _settle(server.process.pid)
    if stream.position is not None:
        stream.position.at = said["at"]
    wrong = {name: said[name] for name in ("refused", "timeouts", "broken") if said[name]}
    if said["wrong"] > connections:  # a change that the end of an earlier measurement has cut off makes a later one the same again
        wrong |= {"wrong": said["wrong"], "such as": lines[-1]}
    if wrong:
        raise Unfit(f"of {said['requests']} requests of {stream.file.name} some failed: {wrong}")
    memory = sum(resident_bytes(server.process.pid).values()) / 1e6
    rate = said["requests"] / said["seconds"]
    return Measure(rate, said["p50"], said["p99"], database_cpu, server_cpu, memory, backend_cpu)


def measure_bulk(server: Server, client: str, stream: Stream, connections: int, seconds: float, database: Database) -> Measure:
    """The same where a request takes long: each that was begun is waited for, so that what it cost is known."""
    headers = {"Authorization": f"Bearer {server.token(client)}", "Content-Type": "application/json"}
    taken: list[float] = []

    async def work() -> float:
        begun = time.perf_counter()

        async def send_in_turn() -> None:
            while time.perf_counter() - begun < seconds:
                request, sent = stream.take(), time.perf_counter()
                answer = await http.request(request.method, request.path, content=request.body, headers=headers)
                taken.append(1000 * (time.perf_counter() - sent))
                if answer.status_code != 200 or not stream.is_right(answer.text.replace('": ', '":')):
                    raise Unfit(f"{stream.file.name}: {answer.status_code} {answer.text[:600]}, not {stream.expected}")

        async with httpx2.AsyncClient(base_url=server.base_url, timeout=120) as http:
            await asyncio.gather(*(send_in_turn() for _ in range(connections)))
        return time.perf_counter() - begun

    with _costs(server, database) as costs:
        lasted = asyncio.run(work())
        server_cpu, database_cpu, backend_cpu = costs(len(taken))
    memory = sum(resident_bytes(server.process.pid).values()) / 1e6
    p50, p99 = _percentiles(taken)
    return Measure(len(taken) / lasted, p50, p99, database_cpu, server_cpu, memory, backend_cpu)


def _percentiles(taken: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(taken, n=100) if len(taken) > 1 else taken * 99
    return cuts[49], cuts[98]


def pgbench(
    database: Database, scripts: list[tuple[str, int]], variables: dict[str, object], connections: int, seconds: float | None
) -> Measure:
    """Scripts of limit/ by weight, by one thread, once on each connection where no seconds are said; the latencies are from its log.

    They use the tables of the schema `fixed`. Each connection plans a statement once (a short run would measure the planner otherwise), but for
    R4, which is worth a plan of its own, and memory to sort in.
    """
    place = urlsplit(database.superuser_url)
    often = ["-t", "1"] if seconds is None else ["-T", str(max(1, round(seconds)))]
    command = [find_pgbench(), "-n", "-M", "prepared", "-c", str(connections), "-j", "1", *often]
    command += [part for name, weight in scripts for part in ("-f", f"{HERE / 'limit' / name}.sql@{weight}")]
    command += [part for name, value in variables.items() for part in ("-D", f"{name}={value}")]
    command += ["-h", str(place.hostname), "-p", str(place.port), "-U", str(place.username), "--log", place.path[1:]]
    planning = "work_mem=256MB" if scripts[0][0] == "r4" else "plan_cache_mode=force_generic_plan"
    environment = {"PGPASSWORD": str(place.password), "PGOPTIONS": f"-c search_path=fixed -c {planning}"}
    with tempfile.TemporaryDirectory() as folder, measure_tree(database.postmaster) as by_database:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        time.sleep(0.3)  # its connections end after it, and what they took is known when they have
        database_cpu = by_database()
        if done.returncode or "number of failed transactions: 0" not in done.stdout:
            raise Unfit(f"pgbench failed: {done.stdout}{done.stderr}")
        lines = [line for log in Path(folder).glob("pgbench_log.*") for line in log.read_text().splitlines()]
    taken = [int(line.split()[2]) / 1000 for line in lines]  # client, transaction, microseconds, …
    rate = next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps ="))
    p50, p99 = _percentiles(taken)
    return Measure(rate, p50, p99, 1000 * database_cpu / max(len(taken), 1))
