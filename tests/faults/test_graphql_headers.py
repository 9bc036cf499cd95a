"""What a mutation or query is refused with is told as in REST: headers and, where the media type lets it have one, the status.

The text is GraphQL over HTTP: a response with `data` is a 2xx, one without has the status of its error, and application/json is 200 for every
document that was read.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import permutations
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from api.graphql.endpoint import negotiate_media_type
from api.http.problems import HttpProblem, merge_headers
from domain.declare.errors import Busy, DatabaseError, InProgress, NotFound
from domain.declare.ids import new_id
from domain.store import database as engine
from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import Trust, entry, open_trust, opened, roll, sent

NEWER, OLDER = "application/graphql-response+json", "application/json"
MEDIA_TYPES = (NEWER, OLDER)


def recorded(key: str | None = None, given: str = "$b") -> str:
    return f"recordPupils(input: {given}, idempotencyKey: {json.dumps(key)}) {{ received }}"


def renamed(id_: str, version: int = 1, field: str = "forename") -> str:
    return f'updatePupil(input: {{id: "{id_}", expectedVersion: {version}, {field}: "A"}}) {{ id }}'


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", "trust:4128=all")
        await opened(vendor)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
        yield made


@asynccontextmanager
async def in_progress(here: Trust, *keys: str) -> AsyncIterator[None]:
    """Requests with these keys have not finished: each holds its lock."""
    client_id = await here.value("SELECT id FROM clients WHERE name = 'vendor'")
    names = [f"{client_id} record_pupils {key}" for key in keys]
    for name in names:
        await here.operator.execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", name)
    try:
        yield
    finally:
        for name in names:
            await here.operator.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", name)


@asynccontextmanager
async def busy(here: Trust, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Every connection is lent to somebody else for longer than a request waits."""
    vendor = here.made[0]
    assert (await vendor.post("/graphql", json={"query": "{ __typename }"})).status_code == 200  # so that it is known who asks
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.02)
    taken = [here.database.without_caller() for _ in range(10)]
    for each in taken:
        await each.__aenter__()
    try:
        yield
    finally:
        for each in taken:
            await each.__aexit__(None, None, None)


async def ask(here: Trust, accept: str, fields: str, kind: str = "mutation") -> httpx2.Response:
    """The answer to an operation of these fields."""
    variables = {"b": roll("Oak", [entry(1)])} if "$b" in fields else {}
    text = f"{kind} {'($b: PupilBatchInput!)' if variables else ''} {{ {fields} }}"
    answer = await here.made[0].post("/graphql", json={"query": text, "variables": variables}, headers={"Accept": accept})
    assert answer.headers["content-type"] == f"{accept}; charset=utf-8"
    assert answer.status_code == 200 or "data" not in answer.json()
    return answer


def problems(answer: httpx2.Response) -> list[tuple[Any, int]]:
    return [(error.get("path"), error["extensions"]["problem"]["status"]) for error in answer.json()["errors"]]


@pytest.mark.parametrize("accept", MEDIA_TYPES)
async def test_a_mutation_while_the_database_is_busy(here: Trust, accept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with busy(here, monkeypatch):
        rest = await here.made[0].post("/v1/pupils", json=roll("Oak", [entry(1)]))
        one = await ask(here, accept, recorded())
        two = await ask(here, accept, f"a: {recorded()} b: {recorded()} __typename")
    assert (rest.status_code, problems(one), problems(two)) == (503, [(["recordPupils"], 503)], [(["a"], 503), (["b"], 503)])
    for answer in (one, two):
        assert answer.headers["retry-after"] == rest.headers["retry-after"]
        assert answer.status_code == (503 if accept == NEWER else 200)
        assert answer.json()["errors"][0]["extensions"]["problem"] == rest.json()
    if accept == OLDER:
        assert two.json()["data"] == {"a": None, "b": None, "__typename": "Mutation"}


READS = {
    "rows": "schools { nodes { id } }",
    "me": "me { token { scopes } }",
    "aggregates": 'aggregates(window: "2017-18/KS2", groupBy: [subject]) { nodes { subject } }',
    "receipt": 'receipt(key: "x") { operation }',
    "rows and what a function answers": "schools { nodes { id } } me { token { scopes } }",
}


@pytest.mark.parametrize("accept", MEDIA_TYPES)
@pytest.mark.parametrize("name", READS)
async def test_a_query_while_the_database_is_busy(here: Trust, name: str, accept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with busy(here, monkeypatch):
        answer = await ask(here, accept, READS[name], "query")
    assert [status for _, status in problems(answer)] == [503]
    assert int(answer.headers["retry-after"]) > 0
    assert answer.status_code == (503 if accept == NEWER else 200)


@pytest.mark.parametrize("accept", MEDIA_TYPES)
async def test_one_root_of_a_query_that_may_be_asked_again(here: Trust, accept: str) -> None:
    async with in_progress(here, "running"):
        answer = await ask(here, accept, 'schools { nodes { id } } r: receipt(key: "running") { operation }', "query")
        rest = await here.made[0].get("/v1/idempotency-keys/running")
    assert problems(answer) == [(["r"], 409)]
    assert answer.headers["retry-after"] == rest.headers["retry-after"]
    assert answer.status_code == (409 if accept == NEWER else 200)


ABSENT = str(new_id(4))
ALIKE = {
    "absent": ([renamed(ABSENT), renamed("x")], 404),
    "a version that is past": ([renamed("PUPIL", 99), renamed("PUPIL", 98)], 412),
    "invalid": ([renamed("PUPIL", field="upn"), recorded(given='{asOf: "1850-01-01", entries: []}')], 422),
    "a key that is none": ([recorded("two words"), recorded("")], 400),
    "a state": (['openWindow(input: {id: "WINDOW"}) { id }', 'reopenWindow(input: {id: "WINDOW"}) { id }'], 409),
}


@pytest.mark.parametrize("accept", MEDIA_TYPES)
@pytest.mark.parametrize("name", ALIKE)
async def test_commands_that_all_fail_alike_have_their_status(here: Trust, name: str, accept: str) -> None:
    vendor, (commands, status) = here.made[0], ALIKE[name]
    ids = {noun: (await vendor.get(f"/v1/{noun}s?fields=id")).json()["data"][0]["id"] for noun in ("pupil", "window")}
    fields = " ".join(f"c{i}: {command}" for i, command in enumerate(commands))
    answer = await ask(here, accept, fields.replace("PUPIL", ids["pupil"]).replace("WINDOW", ids["window"]))
    assert problems(answer) == [([f"c{i}"], status) for i in range(len(commands))]
    assert answer.status_code == (status if accept == NEWER else 200)
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("accept", MEDIA_TYPES)
async def test_what_failed_in_part_or_differently_is_200_and_says_when_to_try_again(here: Trust, accept: str) -> None:
    async with in_progress(here, "running"):
        differently = await ask(here, accept, f"a: {renamed(ABSENT)} b: {recorded('running')}")
        in_part = await ask(here, accept, f"a: {recorded()} b: {recorded('running')}")
    assert problems(differently) == [(["a"], 404), (["b"], 409)]
    assert (differently.status_code, differently.json()["data"]) == (200, {"a": None, "b": None})
    assert problems(in_part) == [(["b"], 409)]
    assert (in_part.status_code, in_part.json()["data"]) == (200, {"a": {"received": 1}, "b": None})
    for answer in (differently, in_part):
        assert int(answer.headers["retry-after"]) > 0


def test_the_longest_of_several_waits_is_reported() -> None:
    waits = [InProgress("It runs."), Busy("The school is locked.", retry_after=30), Busy("The pool is full."), NotFound()]
    for errors in permutations(waits):
        assert merge_headers(errors) == {"Retry-After": "30"}
    assert merge_headers([NotFound()]) == {}
    assert int(merge_headers([DatabaseError("It is away.")])["Retry-After"]) > 0


@pytest.mark.parametrize("accept", MEDIA_TYPES)
async def test_a_replayed_answer_is_marked_as_one(here: Trust, accept: str) -> None:
    """Where it is every command's, as in REST."""
    kept = recorded(f"kept-{accept}")
    first, again = [await ask(here, accept, kept) for _ in range(2)]
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json() == again.json()
    both = await ask(here, accept, f"a: {kept} b: {recorded()}")
    assert "idempotency-replayed" not in both.headers


CHOSEN = {
    "": NEWER,
    "*/*": OLDER,
    "application/*": OLDER,
    NEWER: NEWER,
    f"{NEWER}; charset=utf-8": NEWER,
    f"{NEWER}, {OLDER};q=0.9": NEWER,
    f"{OLDER}, {NEWER}": OLDER,
    f"{OLDER};q=0.5, {NEWER};q=0.6": NEWER,
    f"*/*, {NEWER}": NEWER,
    f"{OLDER};q=0, */*": NEWER,
    f"text/html, {OLDER};q=0.1": OLDER,
    f"{NEWER};q=2, {OLDER};q=0.1": OLDER,
    "APPLICATION/GRAPHQL-RESPONSE+JSON": NEWER,
}


@pytest.mark.parametrize("header", CHOSEN)
def test_the_media_type_is_chosen_by_what_the_client_accepts(header: str) -> None:
    assert negotiate_media_type(header) == CHOSEN[header]


@pytest.mark.parametrize(
    "header", ["text/html", "application/json;q=0", "*/*;q=0", "application/graphql+json", ";", "application/json;q=nan"]
)
def test_without_a_representation_it_is_406(header: str) -> None:
    with pytest.raises(HttpProblem) as refused:
        negotiate_media_type(header)
    assert refused.value.status == 406


@pytest.mark.parametrize(
    "body", [[], {}, {"query": 1}, {"query": "{ me }", "variables": []}, {"query": "{ me }", "operationName": 1}, "x"]
)
async def test_a_body_that_is_no_request_is_refused_as_in_rest(here: Trust, body: Any) -> None:
    answers = [await here.made[0].post("/graphql", json=body, headers={"Accept": accept}) for accept in MEDIA_TYPES]
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
        assert answer.json()["issues"]
