"""Traces: chosen by chance alone, linked to the client's, with the names of statements and no value of a request."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from api.settings import Settings, SettingsError
from api.watch import traces
from api.watch.traces import Tracing
from domain.store.statement_times import name_statement
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import Trust

THEIRS = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED = f"00-{THEIRS}-00f067aa0ba902b7-01"
NAME, UPN = "Zebedee-Plantagenet", "A123456789012"


class Traced:
    """The spans of the application of a trust, each of whose requests is traced."""

    def __init__(self, trust: Trust, client: Any) -> None:
        self.watch, self.client, self.trust = trust.transport.app.state.watch, client, trust  # type: ignore[attr-defined]
        self.exporter = InMemorySpanExporter()
        self.watch.tracing = Tracing(1, self.exporter)

    async def spans(self) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """The one span of a request since the last call, and those of its statements."""
        await asyncio.sleep(0)  # they are made in the turn after the answer
        made = self.exporter.get_finished_spans()
        self.exporter.clear()
        (root,) = (span for span in made if span.parent is None)
        return root, [span for span in made if span is not root]


@pytest_asyncio.fixture
async def traced(small_trust: Trust) -> AsyncIterator[Traced]:
    made = Traced(small_trust, await small_trust.client("vendor", "trust:4128=all"))
    yield made
    made.watch.tracing = None


async def test_a_request_and_its_statements_are_spans(traced: Traced) -> None:
    with structlog.testing.capture_logs() as lines:
        await traced.client.get("/v1/schools?fields=id")
    root, statements = await traced.spans()
    assert (root.name, root.kind, root.links, root.status.status_code) == ("GET /v1/schools", SpanKind.SERVER, (), StatusCode.UNSET)
    assert root.resource.attributes["service.name"] == "markonce"
    assert root.attributes == {
        "http.request.method": "GET",
        "http.route": "/v1/schools",
        "http.response.status_code": 200,
        "markonce.client": traced.trust.credentials["vendor"][0],
        "markonce.tenant": str(traced.trust.ids["trust"]),
    }
    assert {span.name for span in statements} >= {"read schools", "wait for a connection"}
    for span in statements:
        assert span.context is not None
        assert span.parent is not None
        assert root.context is not None
        assert (span.kind, span.parent.span_id, span.context.trace_id) == (
            SpanKind.CLIENT,
            root.context.span_id,
            root.context.trace_id,
        )
        assert span.start_time is not None
        assert span.end_time is not None
        assert root.end_time is not None
        assert span.start_time <= span.end_time
    assert [line["trace"] for line in lines] == [f"{root.context.trace_id:032x}"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("sent", "is_linked"),
    [
        (SAMPLED, True),
        (SAMPLED[:-2] + "00", True),
        ("00-x", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", False),
        ("x" * 5000, False),
    ],
)
async def test_a_clients_trace_is_linked_and_not_continued(traced: Traced, sent: str, is_linked: bool) -> None:
    headers = {"traceparent": sent, "tracestate": f"vendor={UPN}", "baggage": f"pupil={UPN}"}
    await traced.client.get("/v1/schools?fields=name", headers=headers)
    root, statements = await traced.spans()
    assert root.context is not None
    assert [f"{link.context.trace_id:032x}" for link in root.links] == ([THEIRS] if is_linked else [])
    assert f"{root.context.trace_id:032x}" != THEIRS
    assert UPN not in "".join(span.to_json() for span in (root, *statements))


async def test_a_client_neither_forces_nor_prevents_a_trace(traced: Traced) -> None:
    traced.watch.tracing._share = 0.0
    for flag in ("00", "01", "ff"):
        await traced.client.get("/v1/schools?fields=urn", headers={"traceparent": f"00-{THEIRS}-00f067aa0ba902b7-{flag}"})
    await asyncio.sleep(0)
    assert traced.exporter.get_finished_spans() == ()
    chosen = Tracing(100, traced.exporter)
    assert 50 < sum(chosen.choose() for _ in range(10_000)) < 200


async def test_no_span_holds_a_value_of_a_request(traced: Traced) -> None:
    """Of reads and writes in both interfaces, refused or not."""
    pupil = {"school": {"urn": 100001}, "entries": [{"upn": UPN, "surname": NAME, "forename": NAME, "birthday": "2011-02-03"}]}
    query = {"query": '{ pupils(where: {surname: "' + NAME + '"}) { nodes { id } } }'}
    for path, body in (("/v1/pupils", pupil), ("/v1/pupils/lookup", {"where": {"surname": NAME, "upn": UPN}}), ("/graphql", query)):
        await traced.client.post(path, json=body, headers={"Idempotency-Key": f"key-{UPN}"})
        root, statements = await traced.spans()
        text = "".join(span.to_json() for span in (root, *statements))
        assert statements, path
        assert [hidden for hidden in (NAME, UPN, "2011-02-03", SECRET) if hidden in text] == []
        for span in statements:
            assert re.fullmatch(r"[A-Z]+( [a-z_0-9]+)?|read [A-Za-z ]+|wait for a connection|statement", span.name), span.name
    for path in (f"/{NAME}", f"/v1/pupils/{NAME}"):
        await traced.client.get(path)
        root, statements = await traced.spans()
        assert NAME not in "".join(span.to_json() for span in (root, *statements))


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        (
            "SELECT x.* FROM (SELECT set_config('markonce.caller', $1, true) s OFFSET 0) c CROSS JOIN LATERAL (SELECT 1 FROM pupils p) x",
            "SELECT pupils",
        ),
        ("SELECT lock_schools($1, $2, $3)", "SELECT lock_schools"),
        ("BEGIN; SELECT set_config('markonce.caller', 'A123456789012', true)", "BEGIN"),
        ("INSERT INTO judgements (a) SELECT * FROM unnest($1::int[])", "INSERT judgements"),
        ("WITH gone AS (DELETE FROM staged_rows WHERE n = 1) UPDATE jobs SET a = 1", "WITH staged_rows"),
        ("UPDATE pupils SET surname = 'Zebedee FROM Somewhere'", "UPDATE pupils"),
        ("SELECT 1", "SELECT"),
        ("SELECT reach_version FROM clients WHERE id = $1", "SELECT clients"),
        ("VACUUM pupils", "statement"),
    ],
)
def test_a_statement_is_named_by_words_of_ours(sql: str, name: str) -> None:
    assert name_statement(sql) == name


async def test_a_collector_that_does_not_answer_delays_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "STOP_SECONDS", 0.05)
    tracing = Tracing(1, InMemorySpanExporter())
    monkeypatch.setattr(tracing._provider, "shutdown", lambda: __import__("time").sleep(30))
    async with asyncio.timeout(10):
        await tracing.stop()


def test_a_setting_without_the_packages_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"DATABASE_URL": "postgresql://x@127.0.0.1/x", "MARKONCE_SECRET": SECRET, "MARKONCE_TRACE_ONE_IN": "100"}
    assert Settings.from_environment(environment).trace_one_in == 100
    monkeypatch.setattr("api.settings.is_installed", lambda: False)
    with pytest.raises(SettingsError, match="requirements-traces"):
        Settings.from_environment(environment)
