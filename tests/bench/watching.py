"""What watching costs a request: counting it, deciding whether it is traced, and its spans where it is.

In this process, in microseconds of its processor time.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.watch.board import Board, create_memory
from api.watch.requests import RequestCounts
from api.watch.traces import Tracing
from domain.store.statement_times import StatementTime
from tests.fixtures.server import free_port

CLIENT, ROUTE = "01a21e9a-90c0-7014-961d-d0357310b42a", "/v1/pupils/{id}"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class _Collector(BaseHTTPRequestHandler):
    server: "_Sink"

    def do_POST(self) -> None:
        self.server.take(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Logs nothing."""


class _Sink(ThreadingHTTPServer):
    def __init__(self, take: Callable[[bytes], object]) -> None:
        super().__init__(("127.0.0.1", 0), _Collector)
        self.take = take


@contextmanager
def collecting(take: Callable[[bytes], object] = len) -> Iterator[str]:
    """The URL of a collector, which calls `take` with each body that it is sent."""
    server = _Sink(take)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def make_settings(one_in: int, collector: str) -> dict[str, str]:
    """The settings of a server that is watched, and traced where `one_in` is not 0."""
    settings = {"MARKONCE_OPS_PORT": str(free_port())}
    return settings | ({"MARKONCE_TRACE_ONE_IN": str(one_in), "OTEL_EXPORTER_OTLP_ENDPOINT": collector} if one_in else {})


def _measure(work: Callable[[], object], times: int) -> float:
    work()
    begun = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begun) / times * 1e6


async def _measure_spans(times: int) -> float:
    """A request with a wait for a connection and one statement, kept in memory: what sends spans by OTLP runs in a thread."""
    exporter, now = InMemorySpanExporter(), time.time_ns()
    tracing, statements = (
        Tracing(1, exporter),
        [StatementTime("wait for a connection", now, now), StatementTime("read pupils", now, now)],
    )
    attributes = {"http.request.method": "GET", "http.route": ROUTE, "http.response.status_code": 200, "markonce.client": CLIENT}
    begun = time.process_time()
    for _ in range(times):
        tracing.finish(f"GET {ROUTE}", 0.001, attributes, statements, TRACEPARENT, None)
        await asyncio.sleep(0)
    exporter.clear()
    return (time.process_time() - begun) / times * 1e6


def measure_costs(times: int = 20_000) -> dict[str, float]:
    """Microseconds by what is done for a request."""
    counts, tracing = RequestCounts(Board(create_memory())), Tracing(100, InMemorySpanExporter())
    return {
        "counted": _measure(lambda: counts.count("GET", ROUTE, 200, CLIENT, 0.003, 100, 0.001, 1), times),
        "not chosen for a trace": _measure(tracing.choose, times),
        "traced, with two spans below": asyncio.run(_measure_spans(max(times // 10, 1))),
    }
