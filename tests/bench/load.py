"""One measurement: wrk on a server, or pgbench on the database, for some seconds; and what it cost."""

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from domain.engine.programs import find_binaries
from tests.bench.servers import Server, Unfit, cpu_seconds, resident_bytes

HERE = Path(__file__).parent


@dataclass
class Measure:
    """Milliseconds, but for the rate (requests a second) and memory (megabytes); None where there is no such thing."""

    rate: float
    p50: float
    p99: float
    database_cpu: float
    server_cpu: float | None = None
    memory: float | None = None


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


@contextmanager
def _spent(root: int) -> Iterator[Callable[[], float]]:
    """CPU seconds of a tree of processes within the block."""
    before = cpu_seconds(root)
    yield lambda: cpu_seconds(root) - before


def _settle(root: int) -> None:
    """Waits for what wrk has hung up on: a server goes on with it, and would disturb who is measured next."""
    for _ in range(300):
        with _spent(root) as spent:
            time.sleep(0.2)
            if spent() < 0.03:
                return


def wrk(server: Server, client: str, requests: Path, connections: int, seconds: float, database: int) -> Measure:
    """Requests of a file (see load.lua) on so many connections, by one thread."""
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
    with _spent(server.process.pid) as by_server, _spent(database) as by_database:
        done = subprocess.run([*command, server.base_url, "--", str(requests)], capture_output=True, text=True, check=False)
        server_cpu, database_cpu = by_server(), by_database()
    _settle(server.process.pid)
    if done.returncode:
        raise Unfit(f"wrk failed: {done.stdout}{done.stderr}")
    said = json.loads(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("{")))
    wrong = {name: said[name] for name in ("refused", "timeouts", "broken") if said[name]}
    if wrong:
        raise Unfit(f"of {said['requests']} requests of {requests.name} some failed: {wrong}")
    answered = max(said["requests"], 1)
    return Measure(
        said["requests"] / said["seconds"],
        said["p50"],
        said["p99"],
        1000 * database_cpu / answered,
        1000 * server_cpu / answered,
        resident_bytes(server.process.pid) / 1e6,
    )


def pgbench(
    url: str, scripts: list[tuple[str, int]], variables: dict[str, object], connections: int, seconds: float | None, database: int
) -> Measure:
    """Scripts of limit/ by weight, by one thread, once on each connection where no seconds are said; the latencies are from its log.

    Each connection plans a statement once (a short run would measure the planner otherwise), but for R4, which is worth a plan of its own,
    and memory to sort in.
    """
    place = urlsplit(url)
    often = ["-t", "1"] if seconds is None else ["-T", str(max(1, round(seconds)))]
    command = [find_pgbench(), "-n", "-M", "prepared", "-c", str(connections), "-j", "1", *often]
    command += [part for name, weight in scripts for part in ("-f", f"{HERE / 'limit' / name}.sql@{weight}")]
    command += [part for name, value in variables.items() for part in ("-D", f"{name}={value}")]
    command += ["-h", str(place.hostname), "-p", str(place.port), "-U", str(place.username), "--log", place.path[1:]]
    options = "-c work_mem=256MB" if scripts[0][0] == "r4" else "-c plan_cache_mode=force_generic_plan"
    environment = {"PGPASSWORD": str(place.password), "PGOPTIONS": options}
    with tempfile.TemporaryDirectory() as folder, _spent(database) as by_database:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        time.sleep(0.3)  # its connections end after it, and what they took is known when they have
        database_cpu = by_database()
        if done.returncode or "number of failed transactions: 0" not in done.stdout:
            raise Unfit(f"pgbench failed: {done.stdout}{done.stderr}")
        lines = [line for log in Path(folder).glob("pgbench_log.*") for line in log.read_text().splitlines()]
    taken = [int(line.split()[2]) / 1000 for line in lines]  # client, transaction, microseconds, …
    rate = next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps ="))
    cuts = statistics.quantiles(taken, n=100) if len(taken) > 1 else taken * 99
    return Measure(rate, cuts[49], cuts[98], 1000 * database_cpu / max(len(taken), 1))
