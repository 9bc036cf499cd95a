"""Each status that the contract lists is provoked at each operation, and no answer lies outside of it: its status, media type, headers and body."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator
from starlette.routing import Route

from api.app import build_app
from api.http import body as api_body
from api.http.problem_catalogue import PROBLEM_CODES
from api.oauth import form
from api.rest.urls import url_of
from api.settings import Settings
from domain import COMMANDS, RESOURCES
from domain.declare.ids import new_id
from domain.store import database as engine
from tests.fixtures.databases import Databases
from tests.fixtures.server import Server
from tests.fixtures.sizes import choose_some
from tests.fixtures.statuses import (
    DOCUMENT,
    GRAPHQL,
    OPERATIONS,
    PROBLEM,
    PROVOKED,
    Contract,
    Request,
    another_app,
    as_stream,
    under_contract,
    without_tables,
)


@pytest_asyncio.fixture(scope="module")
async def contract(module_databases: Databases) -> AsyncIterator[Contract]:
    async with under_contract(module_databases) as made:
        yield made


# What is checked of an answer

OF_HTTP = {
    *("content-type", "content-length", "content-encoding", "content-disposition", "cache-control", "vary", "connection"),
    *("server-timing", "access-control-expose-headers", "content-security-policy", "referrer-policy", "x-content-type-options"),
}
"""Header fields that HTTP gives any answer, which the document does not list."""
NEEDED = {
    401: {"www-authenticate"},
    415: {"accept-post", "accept-patch", "accept-encoding"},
    429: {"retry-after"},
    503: {"retry-after"},
    507: {"retry-after"},
}
"""By status, header fields of which one is there."""


def resolved(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        node = DOCUMENT["components"]["/".join(node["$ref"].split("/")[2:-1])][node["$ref"].rsplit("/", 1)[1]]
    return node


def issue_codes(node: Any) -> Iterator[str]:
    """The codes of all issues in an answer."""
    if isinstance(node, dict):
        yield from (issue["code"] for issue in node.get("issues") or ())
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from issue_codes(child)


def faults(name: str, answer: httpx2.Response) -> list[str]:
    """What of an answer the contract does not say."""
    responses, status = OPERATIONS[name][2]["responses"], str(answer.status_code)
    if status not in responses:
        return [f"the status {status} is not listed: {answer.text[:300]}"]
    response = resolved(responses[status])
    found = []
    media_type, content = answer.headers.get("content-type", "").split(";")[0], response.get("content", {})
    if (media_type or None) not in (content or {None: None}):
        found.append(f"{status} as {media_type or 'nothing'} is not listed")
    listed = {header.lower() for header in response.get("headers", {})} | OF_HTTP
    found += [f"{status} with {header} is not listed" for header in answer.headers if header not in listed]
    needed = NEEDED.get(answer.status_code, set())
    if needed and not needed & set(answer.headers):
        found.append(f"{status} without any of {needed}")
    if media_type.endswith("json") and media_type in content:
        validator = Draft202012Validator({**content[media_type]["schema"], "components": DOCUMENT["components"]})
        found += [f"{status}: {error.json_path} {error.message[:200]}" for error in validator.iter_errors(answer.json())]
    if media_type.endswith("json"):
        found += [f"{status}: {code} is not in the catalogue" for code in set(issue_codes(answer.json())) - set(PROBLEM_CODES)]
    if media_type == PROBLEM:
        problem = answer.json()
        if problem["status"] != answer.status_code:
            found.append(f"{status} says it is {problem['status']}")
        code = PROBLEM_CODES.get(problem["type"].rsplit("/", 1)[1])
        if code is not None and problem["title"] != code.title:
            found.append(f"{status}: the title of {code.code} is {problem['title']}")
    return found


async def of_graphql(c: Contract, good: Request) -> AsyncIterator[httpx2.Response]:
    """The newer media type, and the statuses that a GraphQL request has both before its document is read and after."""
    newer = good.having(Accept=GRAPHQL)
    yield await c.send(newer)
    yield await c.send(newer.sending(json={"query": "{ nothing }"}))
    async with c.taken.without_caller():
        yield await c.send(newer, "busy")  # it is not known who asks
    yield await c.send(newer, "busy")
    async with c.taken.without_caller():
        yield await c.send(newer, "busy")
    async with another_app(c.here.databases, 100_000) as (http, _), without_tables(c.here.databases, "reach"):
        yield await replace(c, apps={"broken": http}).send(newer, "broken")


async def well(c: Contract, name: str, statuses: set[int]) -> AsyncIterator[httpx2.Response]:
    """The answers to requests that are in order: also as a spreadsheet, tried without effect, and to who has the answer."""
    good, operation = await c.good(name), OPERATIONS[name][2]
    yield await c.send(good)
    if statuses > {200} and statuses & {201, 204}:
        yield await c.send((await c.good(name)).asking(dryRun="true"))
    if 202 in statuses:
        streamed = as_stream(name, await c.good(name)).having(Idempotency_Key=f"stream-{name}")
        yield await c.send(streamed)
        again = await c.send(streamed)
        assert again.headers["idempotency-replayed"] == "true"
        yield again
    if "text/csv" in operation["responses"]["200"].get("content", {}):
        yield await c.send(good.asking(format="csv"))
    if {"text/calendar", "application/json"} <= {*operation["responses"]["200"].get("content", {})}:
        yield await c.send(good.asking(format="ics"))
    if "image/svg+xml" in operation["responses"]["200"].get("content", {}):
        yield await c.send(good.having(Accept="image/svg+xml"))
    if "text/html" in operation["responses"]["200"].get("content", {}):
        yield await c.send(good.having(Accept="text/html"))
    if 304 in statuses:
        tag = (await c.send(good)).headers["etag"]
        yield await c.send(good.having(If_None_Match=tag))
    if name == "graphql":
        async for answer in of_graphql(c, good):
            yield answer
    elif any(parameter.get("$ref", "").endswith("/IdempotencyKey") for parameter in operation.get("parameters", ())):
        repeated = (await c.good(name)).having(Idempotency_Key=f"twice-{name}")
        yield await c.send(repeated)
        again = await c.send(repeated)
        assert again.headers["idempotency-replayed"] == "true"
        yield again


@pytest.mark.parametrize("name", choose_some(OPERATIONS, 2))
async def test_every_status_that_is_listed_is_answered_as_listed(
    name: str, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.05)
    monkeypatch.setattr(api_body, "MAX_BODY_SECONDS", 0.05)
    monkeypatch.setattr(form, "MAX_BODY_SECONDS", 0.05)
    responses = {int(status): resolved(response) for status, response in OPERATIONS[name][2]["responses"].items()}
    answers = [answer async for answer in well(contract, name, {status for status in responses if status < 400})]
    for status in sorted(status for status in responses if status >= 400):
        answer = await PROVOKED[status](contract, name, await contract.good(name))
        assert answer.status_code == status, (status, answer.status_code, answer.text[:500])
        answers.append(answer)
    assert [fault for answer in answers for fault in faults(name, answer)] == []
    answered = {(answer.status_code, answer.headers.get("content-type", "").split(";")[0]) for answer in answers}
    assert answered == {(status, kind) for status, of in responses.items() for kind in of.get("content", {"": None})}


@pytest.mark.parametrize("path", DOCUMENT["paths"])
async def test_every_other_method_is_405_and_names_those_there_are(path: str, contract: Contract) -> None:
    methods = {method.upper() for method in DOCUMENT["paths"][path]}
    there = methods | {"HEAD"} if "GET" in methods else methods
    url = path.replace("{id}", str(new_id(4))).replace("{key}", "k").replace("{code}", "not-found")
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"):
        for client in ("vendor", None):
            answer = await contract.send(Request(method, url, client))
            if method in there:
                assert answer.status_code != 405
                continue
            assert (answer.status_code, answer.headers["content-type"]) == (405, PROBLEM)
            assert set(answer.headers["allow"].split(", ")) == there
            assert method == "HEAD" or answer.json()["type"].endswith("/problems/method")


def test_every_command_has_a_place() -> None:
    assert {(method, path) for method, path, _ in OPERATIONS.values()} >= {
        (url_of(command)[0].lower(), url_of(command)[1]) for command in COMMANDS.values()
    }


BESIDE = {
    **dict.fromkeys(("/", "/openapi.json", "/health/live", "/health/ready", "/oauth/jwks"), "application/json"),
    "/.well-known/oauth-authorization-server": "application/json",
    "/.well-known/oauth-protected-resource": "application/json",
    **dict.fromkeys(("/docs", "/explorer"), "text/html"),
    "/assets/{version}/{name}": PROBLEM,
}
"""What is served beside the contract, and as what: an asset that is not there is a problem."""


async def test_what_is_served_beside_the_contract(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    """To GET and HEAD alone; what needs the database is 503 while it is busy. Nothing else is served."""
    app = build_app(Settings("", b"x" * 32))
    paths = {route.path.replace(":path", "") for route in app.routes if isinstance(route, Route)}
    assert paths == set(DOCUMENT["paths"]) | set(BESIDE)
    monkeypatch.setattr(engine, "POOL_SECONDS", 0.05)
    for path, kind in BESIDE.items():
        url = re.sub(r"\{\w+\}", "x", path)
        for client in (None, "vendor"):
            answer = await contract.send(Request("GET", url, client))
            assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (404 if kind == PROBLEM else 200, kind)
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = await contract.send(Request(method, url))
            assert (answer.status_code, answer.headers["content-type"], answer.headers["allow"]) == (405, PROBLEM, "GET, HEAD")
        async with contract.taken.without_caller():
            answer = await contract.send(Request("GET", url), "busy")
        if path in ("/health/ready", "/oauth/jwks"):
            assert (answer.status_code, answer.headers["content-type"]) == (503, PROBLEM)
            assert int(answer.headers["retry-after"]) > 0
        else:
            assert answer.status_code in (200, 404)
    for method in ("GET", "POST", "OPTIONS"):
        answer = await contract.send(Request(method, "/v1/nothing"))
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)


OF_THE_MOMENT = {"date", "x-request-id", "server-timing", "ratelimit", "ratelimit-policy", "content-length"}


def test_head_is_get_without_a_body(server: Server) -> None:
    """On a socket: of rows, of what is refused, and of what is beside the contract."""
    reads = [path for path, methods in DOCUMENT["paths"].items() if "get" in methods]
    with server.client("operator") as client:
        for path in (*reads, *BESIDE, "/v1/nothing"):
            url = re.sub(r"\{\w+\}", "x", path)
            get, head = client.get(url), client.head(url)
            assert (head.status_code, head.content) == (get.status_code, b""), url
            told = [{name: value for name, value in of.headers.items() if name not in OF_THE_MOMENT} for of in (get, head)]
            assert told[0] == told[1], url


OPEN_TO_READERS = {
    *("listAggregates", "listPublications", "getPublication", "listHistoryOfPublication", "listPublicationChanges"),
    *("getMe", "getJob", "getIdempotencyKey", "getKeptAnswers", "getLinkedCalendar", "graphql", "listProblems", "getProblem"),
}
"""What a client with aggregates:read alone may ask: aggregates and their editions, what is its own, and what is the same for everybody."""


async def test_a_reader_of_aggregates_reads_nothing_else_of_a_trust(contract: Contract) -> None:
    """Otherwise another list, count or error would show what an edition hides; through both interfaces."""
    answered = set()
    for name in OPERATIONS:
        good = await contract.good(name)
        if good.client is not None:
            status = (await contract.send(replace(good, client="portal"))).status_code
            answered |= set() if status == 403 else {name}
    assert answered == OPEN_TO_READERS
    for resource in RESOURCES.values():
        document = {"query": f"{{ {resource.plural} {{ nodes {{ __typename }} }} }}"}
        asked = replace(await contract.good("graphql"), client="portal").sending(json=document)
        body = (await contract.send(asked)).json()
        assert ("errors" in body) is (resource.name not in ("publication", "publicationChange")), resource.name
