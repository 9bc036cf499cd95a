"""What is read: one pupil, pages of them, aggregates, what has not changed, and how far a client reaches."""

from tests.bench import rows
from tests.bench.traffic import (
    CONSTANT,
    FASTAPI,
    GRAPHQL,
    GRAPHQL_NONE,
    LIMIT,
    REST,
    REST_NONE,
    STRAWBERRY,
    Bench,
    Request,
    Workload,
    get,
    graphql,
)

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


def _r1_rest(b: Bench) -> list[Request]:
    return get(map(R1_PATH.format, b.pupils()))


def _r1_graphql(b: Bench) -> list[Request]:
    return graphql(R1_QUERY, ({"id": id_} for id_ in b.pupils()))


R1 = Workload(
    "R1",
    "one pupil, latest judgements, targets",
    {
        REST: _r1_rest,
        GRAPHQL: _r1_graphql,
        REST_NONE: _r1_rest,
        GRAPHQL_NONE: _r1_graphql,
        FASTAPI: lambda b: get(f"/pupils/{id_}" for id_ in b.pupils()),
        STRAWBERRY: lambda b: graphql(R1_STRAWBERRY, ({"id": id_} for id_ in b.pupils())),
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


def _r2_rest(b: Bench) -> list[Request]:
    return get(map(R2_PATH.format, b.cursors))


def _r2_graphql(b: Bench) -> list[Request]:
    return graphql(R2_QUERY, ({"after": cursor} for cursor in b.cursors))


R2 = Workload(
    "R2",
    "50 pupils × 15 judgements × subject and window names",
    {
        REST: _r2_rest,
        GRAPHQL: _r2_graphql,
        REST_NONE: _r2_rest,
        GRAPHQL_NONE: _r2_graphql,
        FASTAPI: lambda b: get(f"/pupils?first=50&after={id_}" for id_ in b.places),
        STRAWBERRY: lambda b: graphql(R2_STRAWBERRY, ({"after": id_} for id_ in b.places)),
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


def _r3_rest(b: Bench) -> list[Request]:
    return get(map(R3_PATH.format, b.cursors))


def _r3_graphql(b: Bench) -> list[Request]:
    return graphql(R3_QUERY, ({"after": cursor} for cursor in b.cursors))


R3 = Workload(
    "R3",
    "100 pupils, flat, deep page",
    {
        REST: _r3_rest,
        GRAPHQL: _r3_graphql,
        REST_NONE: _r3_rest,
        GRAPHQL_NONE: _r3_graphql,
        FASTAPI: lambda b: get(f"/flat?first=100&after={id_}" for id_ in b.places),
        STRAWBERRY: lambda b: graphql(R3_STRAWBERRY, ({"after": id_} for id_ in b.places)),
    },
    (("r3", 1),),
    {LIMIT: 0.7, FASTAPI: 8, STRAWBERRY: 30},
)

# R4: a page of 1,000 groups, and all of them on the fly

GROUP = "schoolUrn subject window eligible valid expected higher"
R4_QUERY = (
    f"query($trust: ID!) {{ aggregates(trust: $trust, groupBy: [school, subject, window], first: 1000) {{ nodes {{ {GROUP} }} }} }}"
)


def _r4(name: str, schools: int, client: str, goals: dict[str, float]) -> Workload:
    return Workload(
        name,
        f"aggregates of a trust of {schools}",
        {
            REST: lambda b: get([f"/v1/aggregates?groupBy=school,subject,window&first=1000&trust={b.data.trust(schools).uid}"]),
            GRAPHQL: lambda b: graphql(R4_QUERY, [{"trust": str(b.data.trust(schools).uid)}]),
        },
        (("r4", 1),),
        goals,
        client,
        schools,
        most_connections=2,
    )


R4_10, R4_100 = _r4("R4-10", 10, "ten", {}), _r4("R4-100", 100, "trust", {LIMIT: 90})

# R5: 304


def _unchanged(b: Bench) -> list[Request]:
    paths = map(R1_PATH.format, b.pupils(300))
    return [Request("GET", path, if_none_match=b.server.send("GET", path).headers["etag"]) for path in paths]


R5 = Workload(
    "R5",
    "not modified",
    {REST: _unchanged, REST_NONE: _unchanged, CONSTANT: lambda b: get(["/health/live"])},
    goals={CONSTANT: 0.4},
)

# How far a client reaches: the same pupils of one school, for clients that reach it, its trust, and 2,000 schools in 400 tenants.


def _first_school(b: Bench) -> list[Request]:
    return get(R1_PATH.format(b.data.pupil_id(b.trust.first + n)) for n in range(rows.PUPILS))


REACHES = {"reach: a school": "school", "reach: a trust": "trust", "reach: 2,000": "wide"}
REACH = Workload(
    "reach",
    "R1 by how far the client reaches",
    dict.fromkeys(REACHES, _first_school),
    clients=REACHES,
)
