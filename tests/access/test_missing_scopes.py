"""A scope that the token does not carry is one refusal, in either interface: 403, naming each thing asked for and the scope it needs.

What GraphQL tells in `extensions.problem` is the body that REST answers; held at some schools only, a field is null at the others instead.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.fixtures.databases import Databases
from tests.fixtures.settings import ROOT
from tests.fixtures.small_trust import Trust, entry, open_trust, opened, roll, sent, upn

GRAPHQL = "application/graphql-response+json"
SCOPES = "schools:read,pupils:read,judgements:read"


@pytest_asyncio.fixture(scope="module")
async def small_trust(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", "trust:4128=all")
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)]))
        await sent(vendor, "/v1/pupils", roll("Elm", [entry(3)]))
        await opened(vendor)
        yield made


@pytest_asyncio.fixture(scope="module")
async def app(small_trust: Trust) -> Any:
    return await small_trust.client("app", f"trust:4128={SCOPES}")


@pytest_asyncio.fixture(scope="module")
async def pupil(app: Any) -> str:
    return str((await app.get("/v1/pupils")).json()["data"][0]["id"])


ASKED: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "a field": ("/v1/pupils?fields=id,upn", "{ pupils { nodes { id upn } } }", [("pupil.upn", "pupils:upn")]),
    "several fields": (
        "/v1/pupils?fields=dateOfBirth,upn,surname",
        "{ pupils { nodes { dateOfBirth upn surname } } }",
        [("pupil.dateOfBirth", "pupils:birth"), ("pupil.upn", "pupils:upn"), ("pupil.surname", "pupils:name")],
    ),
    "a field under another name, twice": (
        "/v1/pupils?fields=upn",
        "{ all: pupils { edges { node { number: upn ...again } } } } fragment again on Pupil { same: upn }",
        [("pupil.upn", "pupils:upn")],
    ),
    "an order": ("/v1/pupils?fields=id&sort=-upn", "{ pupils(orderBy: [{field: upn}]) { nodes { id } } }", [("pupil.upn", "pupils:upn")]),
    "a field of a linked row, and of a linked page": (
        "/v1/judgements?fields=pupil.upn,againstTarget&include=pupil",
        "{ judgements { nodes { againstTarget pupil { upn } } } }",
        [("judgement.againstTarget", "targets:read"), ("pupil.upn", "pupils:upn")],
    ),
    "a link": ("/v1/pupils?fields=id,targets.id&include=targets", "{ pupils { nodes { id targets { nodes { id } } } } }", [("targets", "targets:read")]),
    "a resource": ("/v1/schemes?fields=code", "{ schemes { nodes { code } } }", [("schemes", "schemes:read")]),
    "a field and a link of one row": (
        "/v1/pupils/PUPIL?fields=upn,targets.id&include=targets",
        '{ pupil(id: "PUPIL") { upn targets { nodes { id } } } }',
        [("pupil.upn", "pupils:upn"), ("targets", "targets:read")],
    ),
    "what no id names": ("/v1/pupils/nonsense?fields=upn", '{ pupil(id: "nonsense") { upn } }', [("pupil.upn", "pupils:upn")]),
    "aggregates": (
        "/v1/aggregates?groupBy=subject,window",
        "{ pooled: aggregates(groupBy: [subject, window]) { nodes { eligible } } }",
        [("aggregates", "aggregates:read or aggregates:internal")],
    ),
}  # fmt: skip


def check(problem: Any, needs: list[tuple[str, str]]) -> None:
    assert (problem["status"], problem["type"].rsplit("/", 1)[1]) == (403, "scope-missing")
    assert problem["issues"] == [
        {"at": what, "code": "scope-missing", "message": f"{what} needs the scope {scope}."} for what, scope in needs
    ]
    assert (
        problem["detail"]
        == ", ".join(f"{what} needs {scope}" for what, scope in needs) + ". GET /v1/me lists what the client holds."
    )


@pytest.mark.parametrize("what", ASKED)
async def test_reading_without_the_scope_is_the_same_refusal_in_both_interfaces(what: str, app: Any, pupil: str) -> None:
    url, query, needs = ASKED[what]
    rest = await app.get(url.replace("PUPIL", pupil))
    assert (rest.status_code, rest.headers["content-type"]) == (403, "application/problem+json")
    check(rest.json(), needs)
    for accept, status in ((GRAPHQL, 403), ("application/json", 200)):
        answer = await app.post("/graphql", json={"query": query.replace("PUPIL", pupil)}, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, accept)
        (error,) = answer.json()["errors"]
        assert error["extensions"] == {"code": "scope-missing", "problem": rest.json()}
        assert "data" not in answer.json()


async def test_filters_in_a_body_are_the_same_refusal(app: Any) -> None:
    """In one order, whichever they were written in: neither JSON objects nor coerced arguments have any."""
    rest = await app.post("/v1/pupils/lookup", json={"where": {"upn": upn(1), "surname": ["x"]}, "fields": ["id"]})
    document = f'{{ pupils(where: {{surname: ["x"], upn: ["{upn(1)}"]}}) {{ nodes {{ id }} }} }}'
    answer = await app.post("/graphql", json={"query": document})
    assert rest.status_code == 403
    check(rest.json(), [("pupil.surname", "pupils:name"), ("pupil.upn", "pupils:upn")])
    assert [error["extensions"]["problem"] for error in answer.json()["errors"]] == [rest.json()]


async def test_a_command_without_its_scope_is_the_same_refusal(app: Any) -> None:
    rest = await app.post("/v1/judgements", json={})
    assert rest.status_code == 403
    check(rest.json(), [("recordJudgements", "judgements:write")])
    document = 'mutation { one: recordJudgements(input: {window: "x", entries: []}) { received } }'
    answer = (await app.post("/graphql", json={"query": document})).json()
    assert answer["data"] == {"one": None}
    assert [(error["path"], error["extensions"]["problem"]) for error in answer["errors"]] == [(["one"], rest.json())]


async def test_the_import_needs_its_scope_on_the_installation(small_trust: Trust, app: Any) -> None:
    check((await app.post("/v1/imports/gias")).json(), [("importGias", "imports:write")])
    trusts_only = await small_trust.client("importer", "trust:4128=imports:write")
    groups = ("groups.csv", (ROOT / "tests" / "published" / "data" / "groups.csv").read_bytes())
    answer = await trusts_only.post("/v1/imports/gias", data={"asOf": "2022-04-20"}, files={"file": groups})
    check(answer.json(), [("importGias", "imports:write on the installation")])


async def test_held_at_some_schools_only_a_field_is_null_at_the_others(small_trust: Trust) -> None:
    some = await small_trust.client("some", "trust:4128=schools:read,pupils:read", "school:100001=pupils:name")
    rest = (await some.get("/v1/pupils?fields=id,surname,school.name&include=school")).json()["data"]
    answer = (await some.post("/graphql", json={"query": "{ pupils { nodes { id surname school { name } } } }"})).json()
    assert answer["data"]["pupils"]["nodes"] == rest
    shown = [("Elm", None), ("Oak", "Surname1"), ("Oak", "Surname2")]
    assert sorted((row["school"]["name"], row["surname"]) for row in rest) == shown


async def test_what_cannot_be_an_id_is_nothing(app: Any) -> None:
    assert (await app.get("/v1/pupils/nonsense")).status_code == 404
    answer = await app.post("/graphql", json={"query": '{ pupil(id: "nonsense") { id } node(id: "nonsense") { id } }'})
    assert answer.json()["data"] == {"pupil": None, "node": None}
