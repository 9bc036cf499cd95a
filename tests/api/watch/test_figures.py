"""Figures: a counter goes on when its worker ends, a gauge does not, and no client makes more series than there is room for."""

import os
import re
from collections.abc import Iterator

import pytest

from api.watch import board as boards
from api.watch import requests
from api.watch.board import Board, create_memory, read_board
from api.watch.exposition import Totals, write_figures
from api.watch.figures import BOUNDS, FIGURES, MAX_CLIENTS, OTHER, SUM
from api.watch.requests import RequestCounts
from tests.fixtures.settings import ROOT


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = create_memory()
    yield descriptor
    os.close(descriptor)


def count(counts: RequestCounts, client: str = "a", route: str = "/v1/pupils", status: int = 200, seconds: float = 0.003) -> None:
    counts.count("GET", route, status, client, seconds, 100, 0.001, 2)


def numbers(descriptor: int) -> dict[tuple[str, ...], tuple[float, ...]]:
    return {(series.name, *series.labels): series.numbers for series in read_board(descriptor)}


def test_a_request_is_counted_by_route_status_client_and_interface(memory: int) -> None:
    counts = RequestCounts(Board(memory))
    for seconds in (0.003, 0.0025, 40.0):
        count(counts, seconds=seconds)
    count(counts, route="/graphql", status=503)
    found = numbers(memory)
    assert found["markonce_requests_total", "rest", "GET", "/v1/pupils", "200", "a"] == (3,)
    histogram = found["markonce_request_seconds", "rest", "GET", "/v1/pupils", "200"]
    assert histogram[:2] == (1, 1)
    assert histogram[len(BOUNDS)] == 1
    assert sum(histogram[:SUM]) == 3
    assert histogram[SUM] == pytest.approx(40.0055)
    assert found["markonce_requests_total", "graphql", "GET", "/graphql", "503", "a"] == (1,)
    assert sum(found["markonce_client_request_seconds", "a", "graphql"][:SUM]) == 1
    assert found["markonce_quota_cost_total", "a", "rest"] == (6,)
    assert found["markonce_response_bytes_total", "rest"] == (300,)


def test_clients_beyond_the_limit_share_a_label(memory: int) -> None:
    """As do the methods that nobody has heard of: whoever sends requests makes no series."""
    counts = RequestCounts(Board(memory))
    for i in range(5 * MAX_CLIENTS):
        count(counts, client=f"client {i}")
    count(counts, client="client 0")
    counts.count("BREW", "(unknown)", 404, "", 0.0, 0, 0.0, 0)
    counts.count("WHEN", "(unknown)", 404, "", 0.0, 0, 0.0, 0)
    totals = {key: value for key, value in numbers(memory).items() if key[0] == "markonce_requests_total"}
    assert len({key[-1] for key in totals}) == MAX_CLIENTS + 2
    assert totals["markonce_requests_total", "rest", "GET", "/v1/pupils", "200", OTHER] == (4 * MAX_CLIENTS,)
    assert totals["markonce_requests_total", "rest", "GET", "/v1/pupils", "200", "client 0"] == (2,)
    assert totals["markonce_requests_total", "pages", OTHER, "(unknown)", "404", ""] == (2,)
    assert len(counts._positions) < 3 * MAX_CLIENTS


def test_combinations_and_memory_are_bounded(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_COMBINATIONS", 10)
    counts = RequestCounts(Board(memory))
    for i in range(50):
        count(counts, client=f"client {i}")
    assert len(counts._positions) == 11
    counts.board._next = boards.SLOTS - 1
    for i in range(50):
        counts.count_problem("/v1/x", 400 + i, "a")
    assert numbers(memory)["markonce_figures_dropped_total",] == (49,)


def test_counters_outlive_a_worker_and_gauges_do_not() -> None:
    totals, first, second = Totals(), create_memory(), create_memory()
    totals.add(first)
    count(RequestCounts(Board(first)))
    Board(first)  # a second writer of the same memory would be an error of ours; a reader changes nothing
    totals.read()
    board = Board(second)
    board.put("markonce_pool_waiting", 3)
    count(RequestCounts(board), client="b")
    totals.add(second)
    totals.retire(second)
    found = totals.read()
    assert ("markonce_pool_waiting", ()) not in found
    assert found["markonce_requests_total", ("rest", "GET", "/v1/pupils", "200", "a")] == [1]
    assert found["markonce_requests_total", ("rest", "GET", "/v1/pupils", "200", "b")] == [1]
    assert found["markonce_response_bytes_total", ("rest",)] == [200]
    totals.retire(first)
    assert totals.read() == found


def test_the_text_is_that_of_prometheus() -> None:
    totals, memory = Totals(), create_memory()
    totals.add(memory)
    count(RequestCounts(Board(memory)), client='a"\n')
    text, media_type = write_figures(totals.read(), "")
    lines = text.decode().splitlines()
    assert media_type.startswith("text/plain; version=0.0.4")
    assert r'markonce_requests_total{client="a\"\n",interface="rest",method="GET",route="/v1/pupils",status="200"} 1.0' in lines
    buckets = [line.rpartition(" ")[2] for line in lines if line.startswith("markonce_request_seconds_bucket")]
    assert (buckets[:2], len(buckets)) == (["0.0", "1.0"], len(BOUNDS) + 1)
    assert set(buckets[1:]) == {"1.0"}
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == set(FIGURES)
    assert write_figures(totals.read(), "application/openmetrics-text; version=1.0.0")[0].endswith(b"# EOF\n")
    totals.retire(memory)


def test_names_follow_the_conventions_and_documentation_has_all() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    for name, figure in FIGURES.items():
        assert re.fullmatch(r"markonce(_[a-z]+)+", name)
        assert name.endswith("_total") == (figure.kind == "counter"), name
        assert figure.doc.endswith(".")
    assert "markonce_requests_total" in page
