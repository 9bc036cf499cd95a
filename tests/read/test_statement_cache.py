"""What a request is read as is found again by its form; and what is read anew each time, which is all that is listed here."""

from typing import Any

import pytest

from api.graphql.plans import split_template
from domain.declare.ids import new_id
from tests.fixtures.small_trust import Trust, entry, opened, roll, sent

PUPIL = 4


def forms(small_trust: Trust) -> int:
    return int(small_trust.transport.app.state.plan_cache.size)  # type: ignore[attr-defined]


COMPILED = {
    "literals": '{ pupil(id: "%s") { id } }',
    "aliases": '{ one: pupil(id: "%s") { a: id b: id } }',
    "fragments": 'query { pupil(id: "%s") { ...P ... on Node { id } } } fragment P on Pupil { forename school { ...S } } fragment S on School { name }',
    "several roots": '{ pupil(id: "%s") { id } schools { nodes { name } } __typename }',
    "node": '{ node(id: "%s") { id __typename ... on Pupil { surname } } }',
    "skip and include": 'query { pupil(id: "%s") { id @include(if: true) surname @skip(if: true) } }',
    "nested connections": '{ pupil(id: "%s") { judgements(first: 2) { edges { cursor node { grade window { code } } } pageInfo { endCursor } } } }',
    "filters": '{ pupil(id: "%s") { judgements(where: {subjectCode: ["reading"]}, orderBy: [{field: grade}]) { nodes { id } } } }',
}
ANEW = {
    "where a client stands": "{ me { client { name } } }",
    "a kept answer": '{ receipt(key: "none") { data { operation } } }',
    "rows beside such": "{ me { client { name } } schools { nodes { name } } }",
    "an id of nothing": '{ pupil(id: "none") { id } }',
    "a node of nothing": '{ node(id: "none") { id } }',
    "what is not valid": "{ pupils { nodes { shoeSize } } }",
    "what may not be asked": "{ pupils(first: 5000) { nodes { id } } }",
}


@pytest.mark.parametrize("name", COMPILED)
async def test_a_document_is_read_once_whatever_its_values(name: str, vendor: Any, small_trust: Trust) -> None:
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)]))
    ids = [row["id"] for row in (await vendor.get("/v1/pupils?fields=id")).json()["data"]] + [str(new_id(PUPIL))]
    before = forms(small_trust)
    answers = [(await vendor.post("/graphql", json={"query": COMPILED[name] % id_})).json() for id_ in ids]
    assert forms(small_trust) == before + 1
    assert all("errors" not in answer for answer in answers)
    assert answers[0] != answers[2]
    assert next(iter(answers[2]["data"].values())) is None


@pytest.mark.parametrize("name", ANEW)
async def test_what_is_read_anew(name: str, vendor: Any, small_trust: Trust) -> None:
    await opened(vendor)
    before = forms(small_trust)
    first, second = [(await vendor.post("/graphql", json={"query": ANEW[name]})).json() for _ in range(2)]
    assert first == second
    assert forms(small_trust) == before


async def test_a_url_is_read_once_whatever_its_values(vendor: Any, small_trust: Trust) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2, yearGroup="5")]))
    before = forms(small_trust)
    found = [(await vendor.get(f"/v1/pupils?yearGroup={year}&fields=yearGroup")).json()["data"] for year in "6547"]
    assert found == [[{"yearGroup": "6"}], [{"yearGroup": "5"}], [], []]
    assert forms(small_trust) == before + 1
    wrong = await vendor.get("/v1/pupils?version=one&fields=yearGroup")
    assert (wrong.status_code, wrong.json()["issues"][0]["at"]) == (400, "version")
    await vendor.get("/v1/pupils?version=1&fields=yearGroup")
    again = await vendor.get("/v1/pupils?version=one&fields=yearGroup")
    assert again.content == wrong.content


def test_what_is_lifted_of_a_document() -> None:
    document = '{ a(x: "one", y: "es\\"caped") b(z: """block "quoted" """) # "comment"\n c(w: "") }'
    form, texts = split_template(document)
    assert texts == ["one", ""]
    assert form == '{ a(x: "\\u00010", y: "es\\"caped") b(z: """block "quoted" """) # "comment"\n c(w: "\\u00011") }'
