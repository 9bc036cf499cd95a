"""What is written: judgements, one or 5,000 in a request, which change what is stored, repeat it, or are the first of their kind."""

from collections.abc import Callable, Iterable
from itertools import cycle

from tests.bench import rows
from tests.bench.reads import R1
from tests.bench.traffic import (
    BATCH,
    FASTAPI,
    GRAPHQL,
    LIMIT,
    REST,
    ROUTES,
    STRAWBERRY,
    TURN,
    TURNS,
    Bench,
    Request,
    Share,
    Workload,
    graphql,
    post,
    repeat_in_turns,
)

W_QUERY = "mutation($input: JudgementBatchInput!) { recordJudgements(input: $input) { received created updated unchanged } }"
W_STRAWBERRY = (
    "mutation($window: String!, $entries: [Entry!]!) { recordJudgements(window: $window, entries: $entries) { received } }"
)
MIXED = 10
"""One request of so many writes, where most read."""

Bodies = Callable[[Bench, int], list[dict[str, object]]]
"""The bodies of a turn."""


def _batch(b: Bench, pairs: Iterable[tuple[int, str]], turn: int, window: str = "") -> dict[str, object]:
    return {"window": window or b.data.window, "entries": [b.entry(n, subject, turn) for n, subject in pairs]}


def _bare(batch: dict[str, object]) -> dict[str, object]:
    """Without schools, which the ordinary servers do not ask for."""
    entries = batch["entries"]
    assert isinstance(entries, list)
    return {"window": batch["window"], "entries": [{k: v for k, v in entry.items() if k != "school"} for entry in entries]}


def _pairs(b: Bench, share: Share, most: int) -> list[tuple[int, str]]:
    """Pupils and subjects, each once, in an order of chance."""
    every = [(n, subject) for n in b.numbers(share) for subject in rows.SUBJECTS]
    b.draw.seed(5)
    return b.draw.sample(every, min(most, len(every)))


def _one_by_one(share: Share, most: int = ROUTES) -> Bodies:
    return lambda b, turn: [_batch(b, [pair], turn) for pair in _pairs(b, share, most)]


def _all_at_once(share: Share, turn: int, most: int = ROUTES) -> Callable[[Bench], list[dict[str, object]]]:
    """Those that _one_by_one names, in batches."""

    def bodies(b: Bench) -> list[dict[str, object]]:
        pairs = _pairs(b, share, most)
        return [_batch(b, pairs[i : i + ROUTES], turn) for i in range(0, len(pairs), ROUTES)]

    return bodies


def _in_bulk(share: Share, window: str = "") -> Bodies:
    def bodies(b: Bench, turn: int) -> list[dict[str, object]]:
        numbers = b.numbers(share)
        starts = range(0, len(numbers) - BATCH + 1, BATCH)
        return [
            _batch(b, ((n, subject) for n in numbers[i : i + BATCH] for subject in rows.SUBJECTS), turn, window) for i in starts
        ]

    return bodies


def _changed(bodies: Bodies, contender: str) -> Callable[[Bench], list[Request]]:
    """The requests of TURNS turns: each changes what the one before it about the same pupil has written."""
    return lambda b: _requests(contender, repeat_in_turns(lambda turn: bodies(b, turn)))


def _same(bodies: Bodies, contender: str) -> Callable[[Bench], list[Request]]:
    """The requests of one turn, again and again."""
    return lambda b: _requests(contender, bodies(b, 0))


def _requests(contender: str, bodies: Iterable[dict[str, object]]) -> list[Request]:
    match contender:
        case "REST":
            return post("/v1/judgements", bodies)
        case "GraphQL":
            return graphql(W_QUERY, ({"input": body} for body in bodies))
        case "FastAPI ORM":
            return post("/judgements", map(_bare, bodies))
        case _:
            return graphql(W_STRAWBERRY, map(_bare, bodies))


# Numbers within a school: 0 to 249 are written in bulk (the 1,250 of a batch are those of five schools), the others one by one.

_BULK, _BULK_SAME, _BULK_NEW = Share(range(250), 0, 0.6), Share(range(250), 0.6, 1), Share(range(250))
_ONES, _ONES_SAME, _MIXED = Share(range(250, 270)), Share(range(270, 280)), Share(range(280, 300))

W1 = Workload(
    "W1",
    "one judgement, changed",
    {contender: _changed(_one_by_one(_ONES), contender) for contender in (REST, GRAPHQL, FASTAPI, STRAWBERRY)},
    (("w1", 1),),
    rows=1,
    share=_ONES,
    outcome="updated",
    first_values=_all_at_once(_ONES, -1),
)
W1_UNCHANGED = Workload(
    "W1-unchanged",
    "one judgement that says what is stored",
    {contender: _same(_one_by_one(_ONES_SAME), contender) for contender in (REST, GRAPHQL)},
    rows=1,
    share=_ONES_SAME,
    outcome="unchanged",
    first_values=_all_at_once(_ONES_SAME, 0),
)
W2 = Workload(
    "W2",
    "5,000 judgements in one request, all changed",
    {contender: _changed(_in_bulk(_BULK), contender) for contender in (REST, FASTAPI, STRAWBERRY)},
    (("w2", 1),),
    rows=BATCH * len(rows.SUBJECTS),
    most_connections=2,
    share=_BULK,
    outcome="updated",
    first_values=lambda b: _in_bulk(_BULK)(b, -1),
)
W2_UNCHANGED = Workload(
    "W2-unchanged",
    "5,000 judgements that say what is stored",
    {contender: _same(_in_bulk(_BULK_SAME), contender) for contender in (REST, FASTAPI)},
    (("w2_unchanged", 1),),
    rows=BATCH * len(rows.SUBJECTS),
    most_connections=2,
    share=_BULK_SAME,
    outcome="unchanged",
    first_values=lambda b: _in_bulk(_BULK_SAME)(b, 0),
)
W2_CREATED = Workload(
    "W2-created",
    "5,000 judgements where nothing is stored",
    {contender: _same(_in_bulk(_BULK_NEW, f"created-{TURN}"), contender) for contender in (REST, FASTAPI)},
    (("w2_created", 1),),
    rows=BATCH * len(rows.SUBJECTS),
    most_connections=2,
    share=_BULK_NEW,
    outcome="created",
    makes_windows=True,
)


def _mixed(contender: str) -> Callable[[Bench], list[Request]]:
    writes = _changed(_one_by_one(_MIXED, ROUTES // MIXED), contender)

    def requests(b: Bench) -> list[Request]:
        reads, changes = cycle(R1.asks[contender](b)), iter(writes(b))
        return [next(changes) if i % MIXED == 0 else next(reads) for i in range(TURNS * ROUTES)]

    return requests


M1 = Workload(
    "M1",
    "90 % R1, 10 % W1",
    {contender: _mixed(contender) for contender in (REST, GRAPHQL, FASTAPI, STRAWBERRY)},
    (("r1", 9), ("w1", 1)),
    {LIMIT: 0.5, FASTAPI: 30},
    rows=1,
    share=_MIXED,
    outcome="updated",
    read='"latestJudgements":',
    first_values=_all_at_once(_MIXED, -1, ROUTES // MIXED),
)
