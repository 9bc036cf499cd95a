"""The operations port answers whatever the worker does, to few connections at once, and each of them not for long."""

import json
import socket
import time
from collections.abc import Iterator

import httpx2
import pytest

from api.http import health
from api.server import operations
from api.server.operations import Watched, serve_operations
from api.watch.board import Board, create_memory


@pytest.fixture
def worker() -> Iterator[socket.socket]:
    """Where a worker listens, which never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def watched(worker: socket.socket) -> Watched:
    return Watched(worker.getsockname(), "https://api.example")


@pytest.fixture
def ops(watched: Watched) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    end = serve_operations(listener, watched)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    end()


def test_a_worker_that_starts_or_hangs_is_not_ready(watched: Watched, ops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "WORKER_SECONDS", 0.1)
    for is_serving, message in ((False, "The worker process is starting."), (True, "The worker process does not answer.")):
        watched.is_serving = is_serving
        answer = httpx2.get(f"{ops}/health/ready")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.headers["retry-after"] == "2"
        problem = answer.json()
        assert (problem["type"], problem["detail"]) == ("https://api.example/problems/not-ready", message)
        assert problem["issues"] == [{"at": "worker", "code": "worker-not-ready", "message": message}]
        assert 'markonce_failing_checks{check="worker"} 1.0' in httpx2.get(f"{ops}/metrics").text
    watched.is_draining = True
    assert httpx2.get(f"{ops}/health/ready").json()["issues"][0]["at"] == "draining"
    assert operations.DRAINING == health.DRAINING


def test_a_worker_that_has_not_sampled_for_long_does_not_live(watched: Watched, ops: str) -> None:
    memory = create_memory()
    watched.totals.add(memory)
    assert httpx2.get(f"{ops}/health/live").status_code == 200
    board = Board(memory)
    for seconds, is_serving, status in ((1, True, 200), (operations.HUNG_SECONDS + 1, True, 503), (10**6, False, 200)):
        watched.is_serving = is_serving
        board.put("markonce_worker_sampled_seconds", time.monotonic() - seconds)
        assert httpx2.get(f"{ops}/health/live").status_code == status


def test_other_paths_and_methods_are_refused(ops: str) -> None:
    assert httpx2.get(f"{ops}/v1/pupils").status_code == 404
    assert httpx2.post(f"{ops}/metrics", content=b"x").status_code == 501
    assert httpx2.head(f"{ops}/metrics").headers["content-type"].startswith("text/plain")
    assert json.loads(httpx2.get(f"{ops}/health/live?probe=1").content) == {"status": "alive"}


def test_connections_that_say_nothing_keep_nobody_out(ops: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations._Handler, "timeout", 0.2)
    host, port = ops.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(2 * operations.MAX_CONNECTIONS)]
    for connection in silent:
        assert connection.recv(1) == b""  # too many are closed at once, and the others after a while
        connection.close()
    for _ in range(100):
        try:
            assert httpx2.get(f"{ops}/health/live").status_code == 200
            break
        except httpx2.TransportError:
            time.sleep(0.05)
    else:
        raise AssertionError("no connection is free")
