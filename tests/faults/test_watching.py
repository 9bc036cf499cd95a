"""What the log, the health checks and the figures say when PostgreSQL, a worker, the pool, the secret or the clock fail: of a real server."""

import asyncio
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from domain.clients.signing_keys import ensure_signing_key
from domain.store import embedded
from tests.bench.watching import collecting
from tests.faults.laboratory.proxy import Proxy
from tests.faults.processes import Marked, answers, marked, wait_until
from tests.fixtures.databases import Databases, drop_database, fresh_database
from tests.fixtures.privacy import find_personal_data
from tests.fixtures.registration import register_client
from tests.fixtures.server import free_port, prepare_installation, run_as_operator
from tests.fixtures.settings import SECRET

CLOCK = """
import os, time
_real, _path = time.time, os.environ["TEST_CLOCK"]
def _read():
    try:
        with open(_path) as file:
            return _real() + float(file.read() or 0)
    except OSError:
        return _real()
time.time = _read
"""
"""A sitecustomize.py, with which a test changes the clock of a process that runs."""
NAME, UPN = "Zebedee-Plantagenet", "A123456789012"
"""What a client sends, and must stand in no line, label or attribute."""
GONE = "database-unavailable"
WRITE = 'withdrawPlannedRoll(input: {id: "019a5c1e-7c00-7008-9a3b-6f0d2e8c1b47"}) { id }'


@dataclass
class Watching:
    """A server with an operations port, whose PostgreSQL is behind a proxy that can be cut off."""

    databases: Databases
    running: Marked
    port: int
    ops_port: int
    clock: Path
    proxy: Proxy
    loop: asyncio.AbstractEventLoop
    client: tuple[str, str] = ("", "")
    traces: list[bytes] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def ops(self, path: str) -> httpx2.Response:
        return httpx2.get(f"http://127.0.0.1:{self.ops_port}{path}", timeout=20)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return httpx2.get(f"http://127.0.0.1:{self.port}{path}", headers=self.headers, timeout=60, **options)

    def figures(self) -> dict[str, float]:
        """Every series by its name and labels, as Prometheus reads it."""
        lines = [line for line in self.ops("/metrics").text.splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The lines of the log, each of which is a JSON object."""
        made = [json.loads(line) for line in self.running.said.splitlines()]
        return [line for line in made if event in line["event"]]

    def expect_failing(self, *checks: str) -> None:
        """Waits until just these checks fail, in the health check of both ports and in the figures."""
        seen: list[Any] = []

        def look() -> bool:
            figures, answers_ = self.figures(), [self.ops("/health/ready"), self.get("/health/ready")]
            found = {re.findall(r'"(.+)"', name)[0] for name in figures if name.startswith("markonce_failing_checks{")}
            issues = [{issue["at"] for issue in answer.json().get("issues", [])} for answer in answers_]
            seen[:] = [found, *issues, *(answer.status_code for answer in answers_), figures["markonce_ready"]]
            for answer in answers_:
                assert [secret for secret in (SECRET, "markonce_app") if secret in answer.text] == []
            return seen == [set(checks)] * 3 + [503 if checks else 200] * 2 + [0 if checks else 1]

        wait_until(look, f"failing checks {checks}, not {seen}")

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def authorise(self) -> None:
        form = {"grant_type": "client_credentials"}
        answer = httpx2.post(f"http://127.0.0.1:{self.port}/oauth/token", data=form, auth=self.client)
        self.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


async def set_up(operator: Any) -> tuple[str, str]:
    await prepare_installation(operator)
    await operator.execute(
        "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status)"
        " SELECT id, id, 100001, 'A school', '1', 'Here', 'open' FROM (SELECT gen_random_uuid() AS id) x"
    )
    return await register_client(operator, "vendor", "school:100001=all")


@pytest.fixture(scope="module")
def watching(cluster: embedded.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    folder, databases, port, ops_port = tmp_path_factory.mktemp("watching"), fresh_database(cluster), free_port(), free_port()
    (folder / "sitecustomize.py").write_text(CLOCK)
    client = run_as_operator(databases, set_up)
    traces: list[bytes] = []
    with running_loop() as loop, collecting(traces.append) as collector:
        proxy = Proxy(cluster.port)
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
        environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "TEST_CLOCK": str(folder / "clock"),
            "DATABASE_URL": databases.app_url.replace(f":{cluster.port}/", f":{proxy.port}/"),
            "MARKONCE_SECRET": SECRET,
            "MARKONCE_BASE_URL": f"http://127.0.0.1:{port}",
            "MARKONCE_OPS_PORT": str(ops_port),
            "MARKONCE_DRAIN_SECONDS": "30",
            "MARKONCE_LOG_FORMAT": "json",
            "MARKONCE_POOL_SIZE": "3",
            "MARKONCE_READ_SECONDS": "2",
            "MARKONCE_TRACE_ONE_IN": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        with marked(["serve", "--port", str(port)], environment, folder / "log") as running:
            wait_until(lambda: answers(port) or running.process.poll() is not None, "the server")
            assert running.process.poll() is None, running.said
            made = Watching(databases, running, port, ops_port, folder / "clock", proxy, loop, client, traces)
            made.authorise()
            yield made
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
    drop_database(databases)


def list_span_names(bodies: list[bytes]) -> list[str]:
    """The names of the spans that a collector was sent (OTLP)."""
    requests = [ExportTraceServiceRequest.FromString(body) for body in list(bodies)]
    scopes = [scope for request in requests for resource in request.resource_spans for scope in resource.scope_spans]
    return [span.name for scope in scopes for span in scope.spans]


def wait_for(watching: Watching, is_so: Callable[[dict[str, float]], object], what: str) -> dict[str, float]:
    """The figures once they say so. The worker samples once a second."""
    found: dict[str, float] = {}

    def look() -> object:
        found.clear()
        found.update(watching.figures())
        return is_so(found)

    wait_until(look, what)
    return found


def test_a_server_that_is_well_says_so(watching: Watching) -> None:
    watching.expect_failing()
    assert watching.ops("/health/live").json() == {"status": "alive"}
    query = {"query": '{ pupils(where: {surname: "' + NAME + '"}) { nodes { id } } }'}
    http = f"http://127.0.0.1:{watching.port}"
    assert watching.get("/v1/schools?fields=id").status_code == 200
    assert watching.get(f"/v1/schools/{NAME}").status_code == 404
    for path in (f"/{NAME}", f"/v1/nothing/{UPN}", f"/v1/pupils/{UPN}", f"/v1/pupils?surname={NAME}"):
        assert watching.get(path).status_code in (400, 404)
    assert httpx2.post(f"{http}/graphql", json=query, headers=watching.headers).status_code == 200
    assert httpx2.post(f"{http}/v1/pupils/lookup", json={"where": {"upn": UPN}}, headers=watching.headers).status_code == 200
    before = watching.figures()  # a sample that was begun during the requests knows only some of them
    found = wait_for(
        watching, lambda figures: figures["markonce_worker_sampled_seconds"] > before["markonce_worker_sampled_seconds"], "a sample"
    )
    client = watching.client[0]
    labels = f'client="{client}",interface="rest",method="GET",route="/v1/schools",status="200"'
    assert found[f"markonce_requests_total{{{labels}}}"] == 1
    unknown = 'client="",interface="pages",method="GET",route="(unknown)",status="404"'
    assert found[f"markonce_requests_total{{{unknown}}}"] == 2
    assert found[f'markonce_client_request_seconds_count{{client="{client}",interface="graphql"}}'] == 1
    assert found["markonce_pool_size"] == 3
    assert found['markonce_cache_limit_bytes{cache="answers"}'] == 32_000_000
    assert found['markonce_backlog_items{backlog="jobs"}'] == 0
    assert 0 < found[f'markonce_quota_left_ratio{{client="{client}"}}'] <= 1
    (line,) = [line for line in watching.lines("request") if line["route"] == "/v1/schools"]
    assert (line["client"], line["status"], line["level"], line["method"]) == (client, 200, "info", "GET")
    assert line["tenant"] == run_as_operator(
        watching.databases, lambda operator: operator.fetchval("SELECT tenant_id::text FROM schools")
    )
    assert line["bytes"] > 0
    assert line["ms"] > 0
    assert re.fullmatch("[0-9a-f]{32}", line["request_id"])
    (started,) = watching.lines("server started")
    assert started["operations"] == watching.ops_port
    spans = {"read schools", "GET /v1/schools", "POST /graphql", "GET (unknown)"}
    wait_until(lambda: spans <= set(list_span_names(watching.traces)), "traces")  # they are sent a few at a time
    assert re.fullmatch("[0-9a-f]{32}", line["trace"])
    for text in (watching.ops("/metrics").text, watching.running.said, b"".join(watching.traces).decode("latin-1")):
        assert [
            hidden for hidden in (NAME, UPN, SECRET, watching.client[1], watching.headers["Authorization"]) if hidden in text
        ] == []
        assert find_personal_data(text) == set()


def test_a_pool_that_is_lent_out_is_seen(watching: Watching) -> None:
    """Two reads wait for a table that somebody has locked, and four more for a connection, since one client gets no third. The checks have one
    of their own."""

    async def lock() -> Any:
        connection = await asyncpg.connect(watching.databases.owner_url)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE schools")
        return connection

    locked = watching.run(lock())
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(watching.get, f"/v1/schools?fields=id&first={i + 1}") for i in range(6)]
        full = wait_for(watching, lambda figures: figures["markonce_pool_waiting"] == 4, "waiting requests")
        assert full['markonce_pool_connections{use="lent"}'] >= 2
        assert full["markonce_requests_in_progress"] >= 6
        watching.expect_failing()
        refused = [answer.result() for answer in asked]
    assert {answer.status_code for answer in refused} == {503}
    watching.run(locked.close())
    timeouts = 'markonce_database_failures_total{kind="timeout"}'
    found = wait_for(watching, lambda figures: figures["markonce_pool_waiting"] == 0 and figures[timeouts] == 6, "an empty queue")
    assert found["markonce_pool_waits_total"] >= 4
    assert found["markonce_pool_wait_seconds_total"] > 0
    assert found['markonce_problems_total{code="busy",interface="rest",status="503"}'] == 6
    told = [line for line in watching.lines("request") if line["status"] == 503]
    assert {line["level"] for line in told} == {"error"}
    assert {line["cause"] for line in told} <= {"busy QueryCanceledError 57014", "busy NoneFree"}


def test_a_database_that_is_gone_is_seen_and_so_is_its_return(watching: Watching) -> None:
    async def cut() -> None:
        assert watching.proxy._server is not None
        watching.proxy._server.close()
        watching.proxy.cut_all()

    watching.run(cut())
    watching.expect_failing("database")
    assert watching.ops("/health/live").status_code == 200
    http, query = f"http://127.0.0.1:{watching.port}", {"query": "{ schools { nodes { id name } } }"}
    form, graph = {"grant_type": "client_credentials"}, {"Accept": "application/graphql-response+json"}
    for answer in (
        watching.get("/v1/schools?fields=id,name"),
        httpx2.post(f"{http}/graphql", json=query, headers=watching.headers | graph),
        httpx2.post(f"{http}/graphql", json={"query": "mutation { " + WRITE + " }"}, headers=watching.headers | graph),
        httpx2.post(f"{http}/oauth/token", data=form, auth=watching.client),
    ):
        body = answer.json()
        problem = body["errors"][0]["extensions"]["problem"] if "errors" in body else body
        assert (answer.status_code, problem["type"].rpartition("/")[2], answer.headers["retry-after"]) == (503, GONE, "5"), body
        assert "nothing of this request was written" in problem["detail"]
    lost = 'markonce_database_failures_total{kind="lost"}'
    found = wait_for(watching, lambda figures: figures.get(lost, 0) >= 4, "failures")
    assert found["markonce_pool_connect_failures_total"] > 0
    codes = {name for name, count in found.items() if name.startswith("markonce_problems_total") and GONE in name and count}
    assert {re.findall('interface="(.+?)"', name)[0] for name in codes} == {"rest", "graphql", "oauth"}, codes
    (line,) = [line for line in watching.lines("not ready") if line["check"] == "database"]
    assert (line["level"], line["kind"]) == ("warning", "ConnectionRefusedError")
    last = [line for line in watching.lines("request") if line["route"] == "/v1/schools"][-1]
    assert (last["level"], last["status"], last["problem"]) == ("error", 503, GONE)
    assert "Error" in last["cause"]
    watching.run(watching.proxy.start())
    wait_until(lambda: answers(watching.port), "the server")
    watching.expect_failing()
    assert [line["level"] for line in watching.lines("ready again")] == ["warning"]
    assert watching.get("/v1/schools?fields=id,name").status_code == 200


def test_another_secret_and_another_clock_are_seen(watching: Watching) -> None:
    async def exchange_key(operator: Any) -> None:
        await operator.execute("UPDATE signing_keys SET retired_at = now()")
        await ensure_signing_key(operator, b"another secret, which is long enough too")

    async def restore_key(operator: Any) -> None:
        await operator.execute("DELETE FROM signing_keys WHERE retired_at IS NULL")
        await operator.execute("UPDATE signing_keys SET retired_at = NULL")

    run_as_operator(watching.databases, exchange_key)
    watching.clock.write_text("-95")
    watching.expect_failing("clock", "signing-key")
    watching.clock.unlink()
    run_as_operator(watching.databases, restore_key)
    watching.expect_failing()
    told = {line["check"]: line["message"] for line in watching.lines("not ready") if line["level"] == "warning"}
    assert "95 s apart" in told["clock"]
    assert told["signing-key"].startswith("MARKONCE_SECRET is not the one")


def test_a_worker_that_is_killed_is_seen_and_no_counter_goes_back(watching: Watching) -> None:
    before = watching.figures()
    (worker,) = [pid for pid in watching.running.workers if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: "worker" in {issue["at"] for issue in watching.ops("/health/ready").json().get("issues", [])}, "no worker")
    assert watching.figures()["markonce_ready"] == 0
    wait_until(lambda: watching.lines("The worker was ended by signal 9. It is started again."), "a line")
    wait_until(lambda: answers(watching.port), "another worker")
    after = wait_for(watching, lambda figures: figures["markonce_worker_serving"] == 1, "figures")
    assert (after["markonce_worker_starts_total"], after["markonce_worker_failures_total"]) == (2, 1)
    counters = [name for name in before if "_total" in name or "_bucket" in name or "_count" in name or "_sum" in name]
    assert len(counters) > 100
    assert [name for name in counters if after.get(name, 0) < before[name]] == []
    watching.expect_failing()
    (line,) = watching.lines("The worker was ended")
    assert (line["level"], line["worker"]) == ("error", worker)


def test_a_planned_stop_is_draining_while_requests_are_answered(watching: Watching) -> None:
    watching.running.signal(signal.SIGTERM)
    wait_until(lambda: watching.ops("/health/ready").status_code == 503, "draining")
    wait_until(lambda: watching.get("/health/ready").status_code == 503, "draining")
    watching.expect_failing("draining")
    assert watching.ops("/health/ready").json()["type"].endswith("/problems/draining")
    assert watching.ops("/health/live").status_code == 200
    assert watching.get("/v1/schools?fields=id").status_code == 200
    assert watching.figures()["markonce_draining"] == 1
    watching.running.signal(signal.SIGTERM)
    assert watching.running.process.wait(30) == 0
    assert [line["signal"] for line in watching.lines("server stopping")] == ["SIGTERM"]
    assert watching.lines()[-1]["event"] == "server stopped"
