"""What is measured: each workload as it is asked of each contender, with ids drawn from the data, and what issue 4 wants of it."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tests.bench import rows
from tests.bench.data import Data, Trust
from tests.bench.servers import Server

REST, GRAPHQL, LIMIT, FASTAPI, STRAWBERRY, CONSTANT = "REST", "GraphQL", "limit", "FastAPI ORM", "Strawberry", "constant"
OURS = (REST, GRAPHQL)
ROUTES = 5000
"""Requests in the file of a workload."""
PAGES = 250


class Request(NamedTuple):
    """What is sent; with an entity tag, on condition that the answer has changed."""

    method: str
    path: str
    body: str = ""
    if_none_match: str = ""


@dataclass(frozen=True)
class Workload:
    """`targets` are the least ratios wanted of ours to a contender's rate; `rows` is what one request writes.

    `asks` makes the requests of a server, by contender; `limit` are the scripts of pgbench with their weights. `client` is who asks ours.
    Where a request takes seconds, more than `most_connections` would only measure a queue.
    """

    name: str
    title: str
    asks: dict[str, Callable[["Bench"], list[Request]]]
    limit: tuple[tuple[str, int], ...] = ()
    targets: dict[str, float] = field(default_factory=dict)
    client: str = "trust"
    schools: int = 100
    rows: int = 0
    writes: bool = False
    most_connections: int = 64
    clients: dict[str, str] = field(default_factory=dict)

    @property
    def contenders(self) -> list[str]:
        return [*self.asks, *([LIMIT] if self.limit else [])]

    def client_of(self, contender: str) -> str:
        return self.clients.get(contender, self.client)


@dataclass
class Bench:
    """What requests are made of: the data, and our server for cursors."""

    data: Data
    server: Server
    draw: random.Random = field(default_factory=lambda: random.Random(4))

    @property
    def trust(self) -> Trust:
        return self.data.trust(100)

    def variables(self, workload: Workload) -> dict[str, object]:
        """Those of the scripts in limit/."""
        trust = self.data.trust(workload.schools)
        given = {"tenant": trust.id, "first": trust.first, "pupils": trust.pupils, "batches": trust.pupils // BATCH}
        return given | {"window": self.data.window, "client": self.data.clients["trust"][0]}

    def pupils(self, count: int = ROUTES) -> list[str]:
        trust = self.trust
        return [rows.pupil_id(trust.first + self.draw.randrange(trust.pupils)) for _ in range(count)]

    @cached_property
    def cursors(self) -> list[str]:
        """Of the end of each hundred pupils of the trust; the same order has the same cursors, whatever is asked for, through either door."""
        found, after = [], ""
        for _ in range(PAGES):
            page = self.server.ask("GET", f"/v1/pupils?fields=id&first=100{after}")["page"]
            found.append(page["endCursor"])
            after = f"&after={page['endCursor']}"
        return found

    @property
    def places(self) -> list[str]:
        """The pupils at which those cursors stand."""
        return [rows.pupil_id(self.trust.first + 100 * (i + 1) - 1) for i in range(PAGES)]

    def entries(self, pupils: Iterable[int], subjects: Iterable[str]) -> list[dict[str, str]]:
        return [
            {"id": rows.pupil_id(n), "subject": subject, "grade": self.draw.choice(self.grades(n))}
            for n in pupils
            for subject in subjects
        ]

    def urn(self, n: int) -> int:
        return self.trust.urns[(n - self.trust.first) // rows.PUPILS]

    def grades(self, n: int) -> tuple[str, ...]:
        """What the scheme of a pupil's school has, as data.py dealt them out."""
        return ("Below", "Just at", "At") if self.urn(n) % 4 == 0 else ("WTS", "EXS", "GDS")


def _get(paths: Iterable[str]) -> list[Request]:
    return [Request("GET", path) for path in paths]


def _post(path: str, bodies: Iterable[object]) -> list[Request]:
    return [Request("POST", path, json.dumps(body)) for body in bodies]


def _graphql(query: str, variables: Iterable[object]) -> list[Request]:
    return _post("/graphql", ({"query": " ".join(query.split()), "variables": each} for each in variables))


# R1

_LATEST = "subjectCode windowCode grade expected recordedAt"
_CURRENT = "subjectCode horizonPoint grade basis recordedAt"
_ONE = "id forename surname sex yearGroup"


def _fields(row: str, **links: str) -> str:
    return ",".join([*row.split(), *(f"{link}.{name}" for link, names in links.items() for name in names.split())])


R1_PATH = "/v1/pupils/{}?include=latestJudgements,currentTargets&fields=" + _fields(
    _ONE, latestJudgements=_LATEST, currentTargets=_CURRENT
)
R1_QUERY = f"""query($id: ID!) {{ pupil(id: $id) {{ {_ONE}
    latestJudgements {{ nodes {{ {_LATEST} }} }} currentTargets {{ nodes {{ {_CURRENT} }} }} }} }}"""
R1_STRAWBERRY = f"""query($id: UUID!) {{ pupil(id: $id) {{ {_ONE}
    latestJudgements {{ {_LATEST} }} currentTargets {{ {_CURRENT} }} }} }}"""

R1 = Workload(
    "R1",
    "one pupil, latest judgements, targets",
    {
        REST: lambda b: _get(map(R1_PATH.format, b.pupils())),
        GRAPHQL: lambda b: _graphql(R1_QUERY, ({"id": id_} for id_ in b.pupils())),
        FASTAPI: lambda b: _get(f"/pupils/{id_}" for id_ in b.pupils()),
        STRAWBERRY: lambda b: _graphql(R1_STRAWBERRY, ({"id": id_} for id_ in b.pupils())),
    },
    (("r1", 1),),
    {LIMIT: 0.55, FASTAPI: 35, STRAWBERRY: 90},
)

# R2

_PAGE = "id forename surname yearGroup"
_JUDGEMENT = "grade recordedAt"
R2_PATH = (
    "/v1/pupils?first=50&judgements.first=15&include=judgements.subject,judgements.window&fields="
    + _fields(_PAGE, judgements=f"{_JUDGEMENT} subject.name window.name")
    + "&after={}"
)
R2_QUERY = f"""query($after: String!) {{ pupils(first: 50, after: $after) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {_PAGE}
    judgements(first: 15) {{ nodes {{ {_JUDGEMENT} subject {{ name }} window {{ name }} }} }} }} }} }}"""
R2_STRAWBERRY = f"""query($after: UUID!) {{ pupils(first: 50, after: $after) {{ {_PAGE}
    judgements {{ {_JUDGEMENT} subject {{ name }} window {{ name }} }} }} }}"""

R2 = Workload(
    "R2",
    "50 pupils × 15 judgements × subject and window names",
    {
        REST: lambda b: _get(map(R2_PATH.format, b.cursors)),
        GRAPHQL: lambda b: _graphql(R2_QUERY, ({"after": cursor} for cursor in b.cursors)),
        FASTAPI: lambda b: _get(f"/pupils?first=50&after={id_}" for id_ in b.places),
        STRAWBERRY: lambda b: _graphql(R2_STRAWBERRY, ({"after": id_} for id_ in b.places)),
    },
    (("r2", 1),),
    {LIMIT: 1.8, FASTAPI: 40, STRAWBERRY: 230},
)

# R3

_FLAT = "id forename surname sex yearGroup dateOfBirth"
R3_PATH = f"/v1/pupils?first=100&fields={_fields(_FLAT)}&after={{}}"
R3_QUERY = (
    f"query($after: String!) {{ pupils(first: 100, after: $after) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {_FLAT} }} }} }}"
)
R3_STRAWBERRY = f"query($after: UUID!) {{ pupils(first: 100, after: $after) {{ {_FLAT} }} }}"

R3 = Workload(
    "R3",
    "100 pupils, flat, deep page",
    {
        REST: lambda b: _get(map(R3_PATH.format, b.cursors)),
        GRAPHQL: lambda b: _graphql(R3_QUERY, ({"after": cursor} for cursor in b.cursors)),
        FASTAPI: lambda b: _get(f"/flat?first=100&after={id_}" for id_ in b.places),
        STRAWBERRY: lambda b: _graphql(R3_STRAWBERRY, ({"after": id_} for id_ in b.places)),
    },
    (("r3", 1),),
    {LIMIT: 0.7, FASTAPI: 8, STRAWBERRY: 30},
)

# R4: a page of 1,000 groups, and all of them on the fly

GROUP = "schoolUrn subject window eligible valid expected higher"
R4_QUERY = (
    f"query($trust: ID!) {{ aggregates(trust: $trust, groupBy: [school, subject, window], first: 1000) {{ nodes {{ {GROUP} }} }} }}"
)


def _r4(name: str, schools: int, client: str, targets: dict[str, float]) -> Workload:
    return Workload(
        name,
        f"aggregates of a trust of {schools}",
        {
            REST: lambda b: _get([f"/v1/aggregates?groupBy=school,subject,window&first=1000&trust={b.data.trust(schools).uid}"]),
            GRAPHQL: lambda b: _graphql(R4_QUERY, [{"trust": str(b.data.trust(schools).uid)}]),
        },
        (("r4", 1),),
        targets,
        client,
        schools,
        most_connections=2,
    )


# R5: 304


def _unchanged(b: Bench) -> list[Request]:
    """Nothing where answers have no ETag yet."""
    found = []
    for path in map(R1_PATH.format, b.pupils(300)):
        etag = b.server.send("GET", path).headers.get("etag")
        if etag is None:
            return []
        found.append(Request("GET", path, if_none_match=etag))
    return found


R5 = Workload(
    "R5",
    "not modified",
    {REST: _unchanged, CONSTANT: lambda b: _get(["/health/live"])},
    targets={CONSTANT: 0.4},
)

# W1 and W2

_RECEIVED = "received created updated unchanged"
W_QUERY = f"mutation($input: JudgementBatchInput!) {{ recordJudgements(input: $input) {{ {_RECEIVED} }} }}"
W_STRAWBERRY = (
    "mutation($window: String!, $entries: [Entry!]!) { recordJudgements(window: $window, entries: $entries) { received } }"
)
BATCH = 1250
"""Pupils of whom a batch judges four subjects."""


def _batch(b: Bench, pupils: Iterable[int], subjects: Iterable[str]) -> dict[str, object]:
    return {"window": b.data.window, "entries": b.entries(pupils, subjects)}


def _ones(b: Bench) -> list[dict[str, object]]:
    numbers = [b.trust.first + b.draw.randrange(b.trust.pupils) for _ in range(ROUTES)]
    return [_batch(b, [n], [b.draw.choice(rows.SUBJECTS)]) | {"school": {"urn": b.urn(n)}} for n in numbers]


def _batches(b: Bench) -> list[dict[str, object]]:
    starts = [b.trust.first + BATCH * i for i in range(b.trust.pupils // BATCH)] * 3
    batches = []
    for start in starts:
        entries = [
            entry | {"school": {"urn": b.urn(n)}} for n in range(start, start + BATCH) for entry in b.entries([n], rows.SUBJECTS)
        ]
        batches.append({"window": b.data.window, "entries": entries})
    return batches


def _bare(batch: dict[str, object]) -> dict[str, object]:
    """Without schools, which the ordinary servers do not ask for."""
    entries = batch["entries"]
    assert isinstance(entries, list)
    return {"window": batch["window"], "entries": [{k: v for k, v in entry.items() if k != "school"} for entry in entries]}


W1 = Workload(
    "W1",
    "one judgement",
    {
        REST: lambda b: _post("/v1/judgements", _ones(b)),
        GRAPHQL: lambda b: _graphql(W_QUERY, ({"input": one} for one in _ones(b))),
        FASTAPI: lambda b: _post("/judgements", map(_bare, _ones(b))),
        STRAWBERRY: lambda b: _graphql(W_STRAWBERRY, map(_bare, _ones(b))),
    },
    (("w1", 1),),
    writes=True,
    rows=1,
)
W2 = Workload(
    "W2",
    "5,000 judgements in one request",
    {
        REST: lambda b: _post("/v1/judgements", _batches(b)),
        FASTAPI: lambda b: _post("/judgements", map(_bare, _batches(b))),
        STRAWBERRY: lambda b: _graphql(W_STRAWBERRY, map(_bare, _batches(b))),
    },
    (("w2", 1),),
    writes=True,
    rows=BATCH * len(rows.SUBJECTS),
    most_connections=2,
)


def _mixed(contender: str) -> Callable[[Bench], list[Request]]:
    def requests(b: Bench) -> list[Request]:
        reads, writes = R1.asks[contender](b), W1.asks[contender](b)
        return [write if i % 10 == 0 else read for i, (read, write) in enumerate(zip(reads, writes, strict=True))]

    return requests


M1 = Workload(
    "M1",
    "90 % R1, 10 % W1",
    {contender: _mixed(contender) for contender in (REST, GRAPHQL, FASTAPI, STRAWBERRY)},
    (("r1", 9), ("w1", 1)),
    {LIMIT: 0.5, FASTAPI: 30},
    writes=True,
)

# How far a client reaches: the same pupils of one school, for clients that reach it, its trust, and 2,000 schools in 400 tenants.


def _first_school(b: Bench) -> list[Request]:
    return _get(R1_PATH.format(rows.pupil_id(b.trust.first + n)) for n in range(rows.PUPILS))


REACHES = {"reach: a school": "school", "reach: a trust": "trust", "reach: 2,000": "wide"}
REACH = Workload(
    "reach",
    "R1 by how far the client reaches",
    dict.fromkeys(REACHES, _first_school),
    clients=REACHES,
)

WORKLOADS = {
    workload.name: workload
    for workload in (R1, R2, R3, _r4("R4-10", 10, "ten", {}), _r4("R4-100", 100, "trust", {LIMIT: 90}), R5, W1, W2, M1, REACH)
}
