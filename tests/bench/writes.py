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

CONFIRMED = "2026-10"
"""A month that lies after the values that the data begin with. Each of its days confirms what the one before it has said."""
DAYS = 12

Bodies = Callable[[Bench, int], list[dict[str, object]]]
"""The bodies of a turn."""


def _batch(b: Bench, pairs: Iterable[tuple[int, str]], turn: int, window: str = "", day: int = 0) -> dict[str, object]:
    """The judgements of these pairs, recorded on a day of CONFIRMED, if one is said."""
    dated = {"recordedAt": f"{CONFIRMED}-{day:02}T12:00:00Z"} if day else {}
    return {"window": window or b.data.window, "entries": [b.entry(n, subject, turn) | dated for n, subject in pairs]}


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


def _confirmed(share: Share) -> Callable[[Bench], list[Request]]:
    """Batches that say what is stored, each recorded a day after the one before it about the same pupils."""

    def requests(b: Bench) -> list[Request]:
        numbers = b.numbers(share)
        parts = [numbers[i : i + BATCH] for i in range(0, len(numbers) - BATCH + 1, BATCH)]
        pairs = [[(n, subject) for n in part for subject in rows.SUBJECTS] for part in parts]
        return post("/v1/judgements", (_batch(b, each, 0, day=day) for day in range(2, DAYS + 2) for each in pairs))

    return requests


def _keyed(bodies: Bodies) -> Callable[[Bench], list[Request]]:
    """The requests of `_changed`, each with an Idempotency-Key."""
    return lambda b: [request._replace(key="bench-") for request in _changed(bodies, REST)(b)]


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

_BULK, _BULK_SAME, _BULK_CONFIRMED, _BULK_NEW = (
    Share(range(250), 0, 0.6),
    Share(range(250), 0.6, 0.9),
    Share(range(250), 0.9, 1),
    Share(range(250)),
)
_ONES, _KEYED, _ONES_SAME = Share(range(250, 265)), Share(range(265, 270)), Share(range(270, 280))
_MIXED, _ONE_SCHOOL = Share(range(280, 300), 0, 0.99), Share(range(280, 300), 0.99, 1)

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
W1_SCHOOL = Workload(
    "W1-school",
    "one judgement, changed, all of one school",
    {contender: _changed(_one_by_one(_ONE_SCHOOL), contender) for contender in (REST, GRAPHQL, FASTAPI)},
    (("w1", 1),),
    rows=1,
    share=_ONE_SCHOOL,
    outcome="updated",
    first_values=_all_at_once(_ONE_SCHOOL, -1),
)
W1_KEYED = Workload(
    "W1-key",
    "one judgement, changed, with an Idempotency-Key",
    {REST: _keyed(_one_by_one(_KEYED))},
    (("w1", 1),),
    rows=1,
    share=_KEYED,
    outcome="updated",
    first_values=_all_at_once(_KEYED, -1),
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
W2_CONFIRMED = Workload(
    "W2-confirmed",
    "5,000 judgements that say what is stored, with a later recordedAt",
    {REST: _confirmed(_BULK_CONFIRMED)},
    (("w2_unchanged", 1),),
    rows=BATCH * len(rows.SUBJECTS),
    most_connections=2,
    share=_BULK_CONFIRMED,
    outcome="unchanged",
    first_values=lambda b: [{**_batch(b, ((n, s) for n in b.numbers(_BULK_CONFIRMED) for s in rows.SUBJECTS), 0, day=1)}],
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
