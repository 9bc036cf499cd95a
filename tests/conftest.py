"""Fixtures: one embedded PostgreSQL a worker, a fresh database from a migrated template, statement counting, and a server on a real socket.

`MARKONCE_POSTGRES=system` runs the suite on the system's PostgreSQL instead of the wheel's.
"""

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio
import structlog

from domain.store import embedded
from domain.store.database import Database
from domain.store.migrate import migrate
from tests.privacy import PLANTED, children, told

if TYPE_CHECKING:
    from tests.trust import Trust
    from tests.world import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test has an id of its own: of those that share one, a parallel run makes one only, and says nothing."""
    if shared := [name for name, times in Counter(item.nodeid for item in items).items() if times > 1]:
        raise pytest.UsageError(f"Tests that share an id: {', '.join(shared)}")


ROOT = Path(__file__).parents[1]
SECRET = "a secret for the tests, which is long enough"
_names = count(1)


@pytest.fixture(scope="session", autouse=True)
def logs_of_the_suite() -> Iterator[None]:
    """Every line that an application in process logs, read once more at the end: no line holds a UPN, and no path more than its template."""
    seen: list[str] = []

    def note(_: Any, __: str, event: Any) -> Any:
        seen.append(json.dumps(event, default=str))
        return event

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, note, structlog.dev.ConsoleRenderer()])
    yield
    structlog.reset_defaults()
    assert [line for line in seen if told(line)] == []


@pytest.fixture(scope="session")
def cluster() -> Iterator[embedded.Cluster]:
    with tempfile.TemporaryDirectory(prefix="markonce-tests-") as folder:
        running = embedded.start(Path(folder) / "data", durable=False)
        try:
            migrate(running.url(embedded.DATABASE, "markonce_owner"))
            yield running
        finally:
            running.stop()


@dataclass(frozen=True)
class Databases:
    """One fresh database, as each role sees it."""

    cluster: embedded.Cluster
    name: str

    @property
    def app_url(self) -> str:
        return self.cluster.url(self.name, "markonce_app")

    @property
    def operator_url(self) -> str:
        return self.cluster.url(self.name, "markonce_operator")

    @property
    def owner_url(self) -> str:
        return self.cluster.url(self.name, "markonce_owner")


async def _create(cluster: embedded.Cluster) -> Databases:
    name = f"t{next(_names)}_{secrets.token_hex(3)}"
    connection = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
    # Copying the files costs half of what writing 12 MB of WAL does
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {embedded.DATABASE} OWNER markonce_owner STRATEGY file_copy")
    await connection.close()
    return Databases(cluster, name)


@pytest.fixture
def databases(cluster: embedded.Cluster) -> Databases:
    """A fresh, migrated database for one test."""
    return fresh_database(cluster)


@pytest.fixture(scope="module")
def module_databases(cluster: embedded.Cluster) -> Databases:
    """A fresh, migrated database for one module."""
    return fresh_database(cluster)


def fresh_database(cluster: embedded.Cluster) -> Databases:
    """A database of its own from the migrated template; in a thread, since an event loop may be running here."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(_create(cluster))).result()


@dataclass
class Statements:
    """The statements a database ran while counting: BEGIN, COMMIT and setting the context are not data statements."""

    seen: list[str] = field(default_factory=list)
    are_counted: bool = False

    def note(self, record: Any) -> None:
        self.seen.append(record.query)

    @property
    def data(self) -> list[str]:
        # asyncpg looks up array types once a connection; that and transaction control are not ours. How a client stands is asked by the clock
        not_data = (
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "SELECT set_config('markonce.caller'",
            "WITH RECURSIVE typeinfo_tree",
            "SELECT current_setting('jit')",
            "SELECT x.* FROM (SELECT set_config('markonce.caller', $1::uuid::text, true) AS s OFFSET 0) c CROSS JOIN LATERAL ( SELECT origins",
            "SELECT DISTINCT unnest(origins)",
        )
        return [" ".join(query.split()) for query in self.seen if not " ".join(query.split()).startswith(not_data)]

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        self.seen.clear()
        found: list[str] = []
        self.are_counted = True
        yield found
        self.are_counted = False
        found += self.data


def counting_database(statements: Statements) -> type[Database]:
    """The database whose statements are counted. A connection's query loggers do not see what is prepared without a name."""

    class Counted(Database):
        async def run_once(self, connection: Any, statement: str, *arguments: Any) -> Any:
            statements.seen.append(statement)
            return await super().run_once(connection, statement, *arguments)

    return Counted


@pytest_asyncio.fixture
async def hedgerow(databases: Databases) -> "AsyncIterator[Trust]":
    """A trust of three schools and a school without one, for one test."""
    from tests.trust import trust  # which is made of what stands here

    async with trust(databases) as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def world(module_databases: Databases) -> "AsyncIterator[World]":
    """Two trusts and a school, and clients of many kinds, for the tests of a module."""
    from tests.world import build  # which is made of what stands here

    made = await build(module_databases)
    yield made
    await made.database.close()


@pytest_asyncio.fixture
async def vendor(hedgerow: "Trust") -> Any:
    """The client of the whole trust, which may do everything there."""
    return await hedgerow.client("vendor", "trust:4128=all")


@pytest.fixture
def statements() -> Statements:
    return Statements()


@pytest_asyncio.fixture
async def database(databases: Databases, statements: Statements) -> AsyncIterator[Database]:
    """The app role's pool on a fresh database, its statements counted."""

    async def watch(connection: Any) -> None:
        connection.add_query_logger(statements.note)

    opened = await counting_database(statements).open(databases.app_url, on_connect=watch)
    yield opened
    await opened.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A server process on a loopback socket, and the clients registered with it."""

    base_url: str
    databases: Databases
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"
    secrets: dict[str, tuple[str, str]] = field(default_factory=dict)
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)

    def command(self, *arguments: str, check: bool = True) -> str:
        """What `python -m api …` prints when run against this server's database."""
        done = subprocess.run(
            [sys.executable, "-m", "api", *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def register(self, name: str, *grants: str, origins: tuple[str, ...] = ()) -> None:
        """Registers a client through the command line, as the operator would."""
        options = [*(("--grant", grant) for grant in grants), *(("--origin", origin) for origin in origins)]
        printed = self.command("client", "create", name, *(part for option in options for part in option))
        words = {line.split()[0]: line.split()[1] for line in printed.splitlines() if line.startswith("client_")}
        self.secrets[name] = (words["client_id"], words["client_secret"])

    def token(self, name: str) -> str:
        """An access token by client_credentials, good for five minutes more."""
        token, until = self.tokens.get(name, ("", 0.0))
        if time.monotonic() > until:
            answer = httpx2.post(f"{self.base_url}/oauth/token", data={"grant_type": "client_credentials"}, auth=self.secrets[name])
            assert answer.status_code == 200, answer.text
            token, until = answer.json()["access_token"], time.monotonic() + 300
            self.tokens[name] = token, until
        return token

    def client(self, name: str) -> httpx2.Client:
        """An HTTP client with this client's token."""
        return httpx2.Client(base_url=self.base_url, headers={"Authorization": f"Bearer {self.token(name)}"}, timeout=60)


@contextmanager
def serving(databases: Databases) -> Iterator[Server]:
    """`python -m api init` and `serve` on a fresh database, until the block ends."""
    port = free_port()
    environment = {
        **os.environ,
        "DATABASE_URL": databases.app_url,
        "DATABASE_OWNER_URL": databases.owner_url,
        "DATABASE_OPERATOR_URL": databases.operator_url,
        "MARKONCE_SECRET": SECRET,
        "MARKONCE_BASE_URL": f"http://127.0.0.1:{port}",
        "COLUMNS": "200",
    }
    prepared = subprocess.run(
        [sys.executable, "-m", "api", "init"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    words = {line.split()[0]: line.split()[1] for line in prepared.stdout.splitlines() if line.startswith("client_")}
    log = tempfile.NamedTemporaryFile(prefix="markonce-server-", suffix=".log", delete=False)  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "serve", "--port", str(port)], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    server = Server(
        environment["MARKONCE_BASE_URL"],
        databases,
        environment,
        process,
        {"operator": (words["client_id"], words["client_secret"])},
    )
    try:
        _wait_until_ready(server, Path(log.name))
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()
        logged = Path(log.name).read_text()
        Path(log.name).unlink()
        with ThreadPoolExecutor(1) as pool:  # an event loop may be running here
            names = pool.submit(children, databases.cluster.url(databases.name, embedded.SUPERUSER)).result()
        assert told(logged, names | {PLANTED}) == set(), "the server's log gives a child away"


def _wait_until_ready(server: Server, log: Path) -> None:
    for _ in range(300):
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended: {log.read_text()[-3000:]}")
        try:
            if httpx2.get(f"{server.base_url}/health/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the server is not ready: {log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def server(cluster: embedded.Cluster) -> Iterator[Server]:
    """A server shared by the session, with no data but the operator."""
    with serving(fresh_database(cluster)) as running:
        yield running


@pytest.fixture(scope="session")
def demo_facts(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Path]":
    """demo.json of a demonstration that runs while the tests of the group `journeys` do."""
    from tests.demonstration import demonstration  # which needs this module

    folder = tmp_path_factory.mktemp("demonstration") / "data"
    with demonstration(free_port(), folder):
        yield folder / "demo.json"


def import_register(server: Server) -> None:
    """Imports the register of the tests, since a client that reaches no school is refused."""
    data = ROOT / "tests" / "published" / "data"
    files = [str(data / name) for name in ("establishments.csv", "groups.csv", "group_links.csv")]
    server.command("import", "gias", *files, "--as-of", "2022-04-20", check=False)
