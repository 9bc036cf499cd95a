"""Traces one request in so many, by OpenTelemetry: a span of the request, and one for each statement and wait for a connection.

Whether a request is traced is decided before anything is made of it, by chance alone: what a client sends neither forces
nor prevents it. Spans are made once the request has ended, from the times that it collected. A client's `traceparent`
becomes a link to its span; our trace is one of its own. No attribute holds a value of a request or of a statement.

The exporter reads OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_SERVICE_NAME.
"""

import asyncio
import time
from collections.abc import Mapping
from importlib.util import find_spec
from random import random
from threading import Thread
from typing import TYPE_CHECKING, Any

from domain.store.statement_times import StatementTime

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

STOP_SECONDS = 2.0
"""Seconds for the last spans to be sent when the server stops."""


def is_installed() -> bool:
    """Whether the packages of the extra `traces` are there."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None and find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


class Tracing:
    """Traces one request in `one_in`. Without an `exporter` spans are sent by OTLP over HTTP, from a thread of its own."""

    def __init__(self, one_in: int, exporter: "SpanExporter | None" = None) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # here, since they take 25 MB
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self._share = 1 / one_in
        resource = Resource({"service.name": "markonce"}).merge(OTELResourceDetector().detect())
        # what was chosen here is always sampled, whatever OTEL_TRACES_SAMPLER says
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        else:
            self._provider.add_span_processor(SimpleSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("markonce")

    def choose(self) -> bool:
        """Whether the next request is traced."""
        return random() < self._share  # noqa: S311 (a sample is no secret)

    def finish(
        self,
        name: str,
        seconds: float,
        attributes: Mapping[str, str | int],
        times: list[StatementTime],
        traceparent: str | None,
        cause: str | None,
    ) -> str:
        """Makes the spans of a request that has taken so many seconds until now, and returns the id of its trace. `cause` is that of a failure.

        The spans of statements follow in the next turn of the event loop, when the last of them are known.
        """
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, Status, StatusCode

        ended = time.time_ns()
        links, began = _make_links(traceparent), ended - int(seconds * 1e9)
        span = self._tracer.start_span(name, Context(), SpanKind.SERVER, attributes, links, start_time=began)
        if cause is not None:
            span.set_status(Status(StatusCode.ERROR, cause))
        asyncio.get_running_loop().call_soon(self._finish_statements, span, times, ended)
        return f"{span.get_span_context().trace_id:032x}"

    def _finish_statements(self, parent: Any, times: list[StatementTime], ended: int) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        context = set_span_in_context(parent)
        for statement in times:
            span = self._tracer.start_span(
                statement.name, context, SpanKind.CLIENT, {"db.system.name": "postgresql"}, start_time=statement.began
            )
            if statement.error is not None:
                span.set_status(Status(StatusCode.ERROR, statement.error))
            span.end(statement.ended)
        parent.end(ended)

    async def stop(self) -> None:
        """Sends the last spans, within STOP_SECONDS."""
        stopping = Thread(target=self._provider.shutdown, daemon=True)  # which may wait for a collector that does not answer
        stopping.start()
        await asyncio.to_thread(stopping.join, STOP_SECONDS)


def _make_links(traceparent: str | None) -> list[Any]:
    """Returns the link to the client's span (W3C Trace Context); none where the header field is malformed. Its `tracestate`, whose values are the
    client's own, is left out."""
    from opentelemetry.trace import Link, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if traceparent is None:
        return []
    sent = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": traceparent})).get_span_context()
    return [Link(sent)] if sent.is_valid else []
