"""Fixtures: one embedded PostgreSQL a worker, a fresh database from a migrated template, statement counting, and a server on a real socket.

`MARKONCE_POSTGRES=system` runs the suite on the system's PostgreSQL instead of the wheel's.
"""

import gc
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from domain.store import embedded
from domain.store.database import Database
from domain.store.migrate import migrate
from tests.fixtures.databases import (
    Databases,
    Statements,
    choose_folder,
    drop_database,
    fresh_database,
    open_counted,
    shorten_work,
)
from tests.fixtures.demo import Demonstration
from tests.fixtures.interfaces import Interfaces, open_interfaces
from tests.fixtures.privacy import find_personal_data
from tests.fixtures.ready_trusts import Filling, ReadyTrusts, register_vendor
from tests.fixtures.server import Server, free_port, serving
from tests.fixtures.small_trust import Trust
from tests.fixtures.two_trusts import TwoTrusts, build_two_trusts, copy_two_trusts

LISTED_FILES = 10
COLLECTOR_THRESHOLDS = 20_000, 10, 10
"""After how many new objects Python looks for cycles: 700, its own number, takes a sixth of the time of a process with so many modules and tests."""
SHARED = {"server": "server", "demonstration": "journeys", "two_trusts": "", "module_databases": "", "web": ""}
"""Fixtures that take long to set up, and the group of the tests that use one: of a session, or (where it is empty) of a module."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What the collection leaves lives as long as the process: Python need not look for cycles in it while it is made, nor ever after."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*COLLECTOR_THRESHOLDS)
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a fixture run in one process, which sets it up once; the others fill the gaps between such groups.

    Every test has an id of its own: of those that share one, a parallel run makes one only, and says nothing.
    """
    if shared := [name for name, times in Counter(item.nodeid for item in items).items() if times > 1]:
        raise pytest.UsageError(f"Tests that share an id: {', '.join(shared)}")
    for item in items:
        used = [group for name, group in SHARED.items() if name in getattr(item, "fixturenames", ())]
        if used and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(used[0] or item.location[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The files that took longest, so that whoever adds a test sees what the suite's time goes on."""
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.location[0]] += report.duration
    if len(seconds) > LISTED_FILES:
        terminalreporter.section(f"the {LISTED_FILES} longest of {len(seconds)} files")
        for path, taken in sorted(seconds.items(), key=lambda item: -item[1])[:LISTED_FILES]:
            terminalreporter.write_line(f"{taken:6.0f} s  {path}")


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
    assert [line for line in seen if find_personal_data(line)] == []


@pytest.fixture(scope="session")
def cluster() -> Iterator[embedded.Cluster]:
    with tempfile.TemporaryDirectory(prefix="markonce-tests-", dir=choose_folder()) as folder:
        running = embedded.start(Path(folder) / "data", durable=False)
        try:
            shorten_work(running)
            migrate(running.url(embedded.DATABASE, "markonce_owner"))
            yield running
        finally:
            running.stop()


@pytest.fixture
def databases(cluster: embedded.Cluster) -> Iterator[Databases]:
    """A fresh, migrated database for one test."""
    made = fresh_database(cluster)
    yield made
    drop_database(made)


@pytest.fixture(scope="module")
def module_databases(cluster: embedded.Cluster) -> Iterator[Databases]:
    """A fresh, migrated database for one module."""
    made = fresh_database(cluster)
    yield made
    drop_database(made)


@pytest_asyncio.fixture(scope="session")
async def ready_trusts(cluster: embedded.Cluster) -> AsyncIterator[ReadyTrusts]:
    """The trusts that tests copy."""
    made = ReadyTrusts(cluster)
    yield made
    await made.close()


@pytest.fixture
def fill_trust(request: pytest.FixtureRequest) -> Filling | None:
    """What is in the trust of a test from the start: the vendor as its first client, where the test uses it. A module or folder may have more."""
    return register_vendor if "vendor" in request.fixturenames else None


@pytest_asyncio.fixture
async def small_trust(
    request: pytest.FixtureRequest, ready_trusts: ReadyTrusts, fill_trust: Filling | None
) -> AsyncIterator[Trust]:
    """A trust of three schools and a school without one, for one test. It has a database of its own, which `databases` is not."""
    assert "databases" not in request.fixturenames, "small_trust has databases of its own"
    async with ready_trusts.copy(fill_trust) as made:
        yield made


@pytest_asyncio.fixture(scope="session")
async def filled_two_trusts(cluster: embedded.Cluster) -> TwoTrusts:
    """What the modules copy. Nobody is connected to its database."""
    made = await build_two_trusts(fresh_database(cluster))
    await made.database.close()
    return made


@pytest_asyncio.fixture(scope="module")
async def two_trusts(filled_two_trusts: TwoTrusts) -> AsyncIterator[TwoTrusts]:
    """Two trusts and a school, and clients of many kinds, for the tests of a module."""
    made = await copy_two_trusts(filled_two_trusts)
    yield made
    await made.database.close()


@pytest_asyncio.fixture(scope="module")
async def interfaces(two_trusts: TwoTrusts) -> AsyncIterator[Interfaces]:
    """REST and GraphQL on the two trusts, for the tests of a module."""
    async with open_interfaces(two_trusts) as both:
        yield both


@pytest.fixture
def vendor(small_trust: Trust) -> Any:
    """The client of the whole trust, which may do everything there."""
    return small_trust.made[0]


@pytest.fixture
def statements() -> Statements:
    return Statements()


@pytest_asyncio.fixture
async def database(databases: Databases, statements: Statements) -> AsyncIterator[Database]:
    """The app role's pool on a fresh database, its statements counted."""
    opened = await open_counted(statements, databases.app_url)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def server(cluster: embedded.Cluster) -> Iterator[Server]:
    """A server shared by the session, with no data but the operator."""
    with serving(fresh_database(cluster)) as running:
        yield running


@pytest.fixture(scope="session")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstration]:
    """A demonstration that runs while the tests that use it do."""
    made = Demonstration(free_port(), tmp_path_factory.mktemp("demonstration") / "data")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def demo_facts(demonstration: Demonstration) -> Path:
    """Its demo.json."""
    return demonstration.folder / "demo.json"
