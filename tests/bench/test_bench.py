"""That the bench measures what it says: a write is a change each time, no workload takes another's change away, and a slower build is found."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.bench.compare import Cell, combine
from tests.bench.data import FIRST_UID, FIRST_URN, Data, Trust
from tests.bench.load import Measure
from tests.bench.servers import Server
from tests.bench.traffic import FASTAPI, GRAPHQL, REST, Bench, Position, Workload, make_stream
from tests.bench.watching import measure_costs
from tests.bench.workloads import WORKLOADS
from tests.bench.writes import M1, W1, W1_KEYED, W1_SCHOOL, W1_UNCHANGED, W2, W2_UNCHANGED

SCHOOLS = 20
WRITING = [workload for workload in WORKLOADS.values() if workload.writes]


@pytest.fixture(scope="module")
def bench() -> Bench:
    trust = Trust(FIRST_UID, [FIRST_URN + i for i in range(SCHOOLS)], 0)
    data = Data(0, "", "2025-26/summer", 2025, [trust], {})
    return Bench(data, Server("http://nowhere", None))  # type: ignore[arg-type]  # writes need no answers to be made of


def judgements(body: Any) -> dict[tuple[str, str, str], str]:
    """By window, pupil and subject, what a body of any contender's writes."""
    inner = body.get("variables", body)
    batch = inner.get("input", inner)
    return {(batch["window"], entry["id"], entry["subject"]): entry["grade"] for entry in batch.get("entries", ())}


@pytest.mark.parametrize(
    ("workload", "contender"),
    [
        (W1, REST),
        (W1, GRAPHQL),
        (W1, FASTAPI),
        (W1_SCHOOL, REST),
        (W1_KEYED, REST),
        (M1, REST),
        (M1, GRAPHQL),
        (W2, REST),
        (W2, FASTAPI),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_every_write_changes_what_the_one_before_it_wrote(bench: Bench, workload: Workload, contender: str) -> None:
    assert workload.first_values
    stored: dict[Any, str] = {}
    for batch in workload.first_values(bench):
        stored |= judgements(batch)
    requests = [request for request in workload.asks[contender](bench) if request.method == "POST"]
    sent = 0
    for request in [*requests, *requests]:  # the file is sent again and again
        for key, grade in judgements(json.loads(request.body)).items():
            assert stored[key] != grade
            stored[key] = grade
            sent += 1
    assert sent >= 6 * len(stored)


@pytest.mark.parametrize("workload", [W1_UNCHANGED, W2_UNCHANGED], ids=lambda workload: workload.name)
def test_an_unchanged_write_says_what_is_stored(bench: Bench, workload: Workload) -> None:
    assert workload.first_values
    stored: dict[Any, str] = {}
    for batch in workload.first_values(bench):
        stored |= judgements(batch)
    for request in workload.asks[REST](bench):
        found = judgements(json.loads(request.body))
        assert found
        assert found.items() <= stored.items()


def test_no_workload_writes_the_pupils_of_another(bench: Bench) -> None:
    shares = [set(bench.numbers(workload.share)) for workload in WRITING if workload.share and not workload.makes_windows]
    assert len(shares) == 8
    assert all(shares)
    assert not [1 for one, other in combinations(shares, 2) if one & other]


def test_a_stream_goes_on_where_the_other_interface_ended(bench: Bench, tmp_path: Path) -> None:
    position = Position()
    rest, graph = (make_stream(W1, contender, bench, tmp_path, position) for contender in (REST, GRAPHQL))
    first, second = judgements(json.loads(rest.take().body)), judgements(json.loads(graph.take().body))
    assert first.keys() != second.keys()
    assert second == judgements(json.loads(rest.requests[1].body))
    assert rest.is_right('{"received":1,"created":0,"updated":1,"unchanged":0}')
    assert not rest.is_right('{"received":1,"created":0,"updated":0,"unchanged":1}')


def cell(*ratios: float) -> Cell:
    """A cell whose newer build costs so many times the older in each round."""
    found = Cell("R1", REST)
    for ratio in ratios:
        found.add([Measure(1, 1, 1, 1, 1, 1, 1)] * 2, [Measure(1, 1, 1, 1, ratio, 1, ratio)] * 2)
    return found


def test_a_slower_build_is_above_its_bound_and_noise_is_not() -> None:
    assert cell(1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0).verdict(1.0) == "within"
    assert cell(1.05, 1.06, 1.07, 1.05, 1.06, 1.08, 1.05).verdict(1.0) == "above"
    assert cell(1.5, 1.6).verdict(1.0) == "–"  # so few rounds tell nothing
    assert cell(0.95, 1.06, 1.07, 0.98, 1.2, 0.9, 1.05).verdict(1.0) == "unclear"
    assert cell(1.05, 1.06, 1.07, 1.05, 1.06, 1.08, 1.05).verdict(0.95) == "unclear"  # a build differs as much from itself


def test_what_falls_on_every_request_shows_in_all_cells_together() -> None:
    ratio, low, high = combine([cell(1.02, 1.06, 1.04), cell(1.05, 1.01, 1.06)])
    assert 1.02 < low < ratio < high < 1.06


def test_the_costs_of_watching_are_measured() -> None:
    assert {what: cost > 0 for what, cost in measure_costs(500).items()} == dict.fromkeys(measure_costs(1), True)
