"""'Did you mean …?' is worked out for a bounded number of names a request, however many are unknown, and each name is compared once."""

from collections import Counter
from typing import Any

import pytest

from domain.support.suggestions import MAX_SUGGESTIONS
from tests.fixtures.call_counts import count_calls
from tests.fixtures.small_trust import Trust, batch, entry, judged, opened, roll, sent

COMPARED = "get_close_matches"
MANY = 1_000


def similar(answer: dict[str, Any]) -> int:
    return sum("Did you mean" in issue["message"] for issue in answer["issues"])


@pytest.mark.parametrize(
    "path",
    ["/v1/pupils", "/v1/schools/{id}/pupils", "/v1/schools/{id}", "/v1/aggregates", "/v1/me"],
)
async def test_a_url_of_unknown_parameters(small_trust: Trust, vendor: Any, path: str) -> None:
    url = path.format(id=small_trust.ids["Oak"]) + "?" + "&".join(f"forenam{i}=1" for i in range(3_000))
    async with count_calls() as work:
        answer = await vendor.get(url)
    assert answer.status_code == 400, answer.text[:300]
    assert len(answer.json()["issues"]) <= 100
    assert 0 < work.calls[COMPARED] <= MAX_SUGGESTIONS


async def test_names_in_lists_and_dotted_paths(small_trust: Trust, vendor: Any) -> None:
    for parameter in ("fields", "include", "sort"):
        async with count_calls() as work:
            answer = await vendor.get(f"/v1/pupils?{parameter}=" + ",".join(f"forenam{i}" for i in range(1_000)))
        assert (answer.status_code, len(answer.json()["issues"])) == (400, 100)
        assert 0 < work.calls[COMPARED] <= MAX_SUGGESTIONS


async def test_unknown_fields_of_a_lookup(small_trust: Trust, vendor: Any) -> None:
    for body in ({f"wher{i}": 1 for i in range(MANY)}, {"where": {f"forenam{i}": ["x"] for i in range(100)}}):
        async with count_calls() as work:
            answer = await vendor.post("/v1/pupils/lookup", json=body)
        assert (answer.status_code, len(answer.json()["issues"])) == (400, 100)
        assert 0 < work.calls[COMPARED] <= MAX_SUGGESTIONS


async def test_rows_with_the_same_unknown_fields_are_all_reported_and_compared_once(small_trust: Trust, vendor: Any) -> None:
    unknown = {f"subjec{i}": 1 for i in range(5)}
    body = batch("Oak", [judged(n, **unknown) for n in range(MANY)])
    async with count_calls() as work:
        answer = await sent(vendor, "/v1/judgements", body, 422)
    told = [issue for issue in answer["issues"] if issue["code"] == "unknown-field"]
    assert len(told) == similar(answer) == 5 * MANY
    assert work.calls[COMPARED] == len(unknown)


async def test_rows_with_unknown_fields_of_their_own(small_trust: Trust, vendor: Any) -> None:
    body = batch("Oak", [judged(n) | {f"subj{n}x{i}": 1 for i in range(5)} for n in range(MANY)])
    async with count_calls() as work:
        answer = await sent(vendor, "/v1/judgements", body, 422)
    assert sum(issue["code"] == "unknown-field" for issue in answer["issues"]) == 5 * MANY
    assert 0 < work.calls[COMPARED] <= MAX_SUGGESTIONS


async def test_grades_that_no_scheme_has(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    subjects = ("writing", "science")
    grades = [judged(1, subjects[i % 2], f"EXS{i}") for i in range(1_000)]
    horizon = {"academicYear": "2018-19", "point": "summer"}
    targets = [{**row, "horizon": horizon, "basis": "teacher", "scheme": "ks2-writing-ta"} for row in grades]
    for path, body in (
        ("/v1/judgements", batch("Oak", grades)),
        ("/v1/targets", {"school": {"urn": 100001}, "entries": targets}),
    ):
        async with count_calls() as work:
            answer = await sent(vendor, path, body, 422)
        codes = Counter(issue["code"] for issue in answer["issues"])
        assert codes == {"grade-unknown": len(grades), "duplicate-in-batch": len(grades) - len(subjects)}
        assert 0 < work.calls[COMPARED] <= MAX_SUGGESTIONS


# GraphQL compares with a function of graphql-core

DISTANCES = "suggestion_list"


@pytest.mark.parametrize(
    "query",
    [
        "{ " + " ".join(f"... on PupilConectoin{i} {{ version }}" for i in range(100)) + " }",
        "{ pupils { nodes { " + " ".join(f"forenam{i}" for i in range(100)) + " } } }",
        "{ pupils(where: {" + " ".join(f"forenam{i}: 1" for i in range(100)) + "}) { nodes { id } } }",
        "{ pupils(orderBy: [" + " ".join(f"{{field: forenam{i}}}" for i in range(100)) + "]) { nodes { id } } }",
    ],
    ids=["types", "fields", "input fields", "enums"],
)
async def test_a_document_of_unknown_names(vendor: Any, query: str) -> None:
    async with count_calls() as work:
        answer = (await vendor.post("/graphql", json={"query": query})).json()
    assert len(answer["errors"]) == 21
    assert "Did you mean" in answer["errors"][0]["message"]
    assert 0 < work.calls[DISTANCES] <= 8


async def test_variables_with_unknown_fields(vendor: Any) -> None:
    query = "query($where: PupilWhere) { pupils(where: $where) { nodes { id } } }"
    async with count_calls() as work:
        answer = await vendor.post(
            "/graphql", json={"query": query, "variables": {"where": {f"forenam{i}": 1 for i in range(4_000)}}}
        )
    assert len(answer.json()["errors"]) == 21
    assert work.calls[DISTANCES] == 0, "what is wrong with a value is not told"
