"""The operations port of the supervisor: `/health/live`, `/health/ready` and `/metrics`, for those who run the server.

It answers while a worker starts, hangs or stops. It needs no token, so it listens on the loopback unless the operator
says otherwise. Nothing that it says is of a school or a child.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Thread
from typing import Any

from api.watch.exposition import Key, Totals, write_figures

PROGRAM_VERSION = "0.1.0"
MAX_CONNECTIONS = 8
"""Connections at once. One more is closed."""
CONNECTION_SECONDS = 5.0
"""Seconds for which a connection may be silent."""
WORKER_SECONDS = 4.0
"""Seconds for the worker to answer whether it is ready. It answers within two, whatever the database does."""
HUNG_SECONDS = 60.0
"""Seconds without a sample after which the worker does not live any more."""
DRAINING = "The server stops as planned: it answers the requests that it has, and others should go elsewhere."
"""As in `api/http/health.py`, which takes too much memory to import."""
STARTING = "The worker process is starting."
SILENT = "The worker process does not answer."


@dataclass
class Watched:
    """What the supervisor knows. `address` is where the worker listens."""

    address: tuple[Any, ...]
    base_url: str
    totals: Totals = field(default_factory=Totals)
    is_serving: bool = False
    is_draining: bool = False
    starts: int = 0
    failures: int = 0


@dataclass(frozen=True)
class Health:
    """An answer of /health/ready: status, body, and the checks that fail."""

    status: int
    body: bytes
    checks: tuple[str, ...] = ()


def describe_health(watched: Watched) -> Health:
    """Returns whether the server is ready: as the worker says, unless it stops, starts or does not answer."""
    if watched.is_draining:
        return _make_health(watched, "draining", "The server is stopping", "draining", "draining", DRAINING)
    if not watched.is_serving:
        return _make_health(watched, "not-ready", "The server is not ready", "worker", "worker-not-ready", STARTING)
    host, port = watched.address[:2]
    connection = HTTPConnection({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port, timeout=WORKER_SECONDS)  # noqa: S104
    try:
        connection.request("GET", "/health/ready")
        response = connection.getresponse()
        body = response.read()
        checks = [issue["at"] for issue in json.loads(body).get("issues", [])] if response.status != HTTPStatus.OK else []
        return Health(response.status, body, tuple(checks))
    except (OSError, HTTPException, ValueError):
        return _make_health(watched, "not-ready", "The server is not ready", "worker", "worker-not-ready", SILENT)
    finally:
        connection.close()


def _make_health(watched: Watched, code: str, title: str, check: str, issue: str, detail: str) -> Health:
    status = int(HTTPStatus.SERVICE_UNAVAILABLE)
    problem = {
        "type": f"{watched.base_url}/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "issues": [{"at": check, "code": issue, "message": detail}],
    }
    return Health(status, json.dumps(problem, separators=(",", ":")).encode(), (check,))


def measure_silence(totals: dict[Key, list[float]]) -> float | None:
    """Returns the seconds since the worker last sampled; None where it never has."""
    sampled = totals.get(("markonce_worker_sampled_seconds", ()))
    return None if sampled is None else max(time.monotonic() - sampled[0], 0.0)


def collect_figures(watched: Watched) -> dict[Key, list[float]]:
    """Returns the figures of the workers and of the supervisor."""
    totals, health = watched.totals.read(), describe_health(watched)
    own: dict[str, float] = {
        "markonce_ready": health.status == HTTPStatus.OK,
        "markonce_draining": watched.is_draining,
        "markonce_worker_serving": watched.is_serving,
        "markonce_worker_starts_total": watched.starts,
        "markonce_worker_failures_total": watched.failures,
    }
    if (silence := measure_silence(totals)) is not None:
        own["markonce_worker_silent_seconds"] = silence
    totals |= {(name, ()): [float(number)] for name, number in own.items()}
    totals |= {("markonce_failing_checks", (check,)): [1.0] for check in health.checks}
    totals["markonce_info", (PROGRAM_VERSION,)] = [1.0]
    return totals


def is_hung(watched: Watched) -> bool:
    """Whether the worker serves, and has not sampled for so long that it should be killed."""
    silence = measure_silence(watched.totals.read()) if watched.is_serving else None
    return silence is not None and silence > HUNG_SECONDS


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "Markonce", ""
    timeout = CONNECTION_SECONDS
    server: "_Server"

    def do_GET(self) -> None:
        watched, path = self.server.watched, self.path.partition("?")[0]
        if path == "/health/live":
            hung = is_hung(watched)
            body = b'{"status":"hung"}' if hung else b'{"status":"alive"}'
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE if hung else HTTPStatus.OK, body)
        elif path == "/health/ready":
            health = describe_health(watched)
            self._answer(health.status, health.body, "application/problem+json" if health.checks else "application/json")
        elif path == "/metrics":
            self._answer(HTTPStatus.OK, *write_figures(collect_figures(watched), self.headers.get("Accept", "")))
        else:
            self._answer(HTTPStatus.NOT_FOUND, b'{"paths":["/health/live","/health/ready","/metrics"]}')

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "2")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Logs nothing: probes come every few seconds."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, watched: Watched) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.watched = listener, watched
        self._free = BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a connection that breaks off."""


def serve_operations(listener: socket.socket, watched: Watched) -> Callable[[], None]:
    """Answers on the operations port in a thread. Returns what ends it."""
    server = _Server(listener, watched)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True, name="operations").start()
    return server.server_close


def read_base_url() -> str:
    """Returns the base URL of the server, for the types of problems."""
    return os.environ.get("MARKONCE_BASE_URL", "http://127.0.0.1:8000").rstrip("/")
