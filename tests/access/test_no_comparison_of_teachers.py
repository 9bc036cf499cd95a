"""Nobody is compared by teacher anywhere: no list is filtered or sorted, and no figure divided, by who judged, nor by class."""

import json
import re
from typing import Any

import pytest
from graphql import GraphQLEnumType, GraphQLInputObjectType, build_schema

from api.rest.openapi.document import make_document
from domain import RESOURCES
from domain.aggregates.dimensions import DIMENSIONS
from domain.aggregates.query import PARAMETERS
from domain.read.staff_names import names_staff
from tests.fixtures.interfaces import Interfaces, read_exact_json
from tests.fixtures.settings import ROOT

CODE = "teacher-comparison-not-supported"
WITH_ACTOR = sorted(resource.plural for resource in RESOURCES.values() if "actor" in resource.fields)


def test_no_declaration_lets_rows_be_chosen_ordered_or_divided_by_staff() -> None:
    assert len(WITH_ACTOR) > 4
    for resource in RESOURCES.values():
        named = {
            name: field for name, field in resource.fields.items() if names_staff(name) or names_staff(name.removesuffix("Code"))
        }
        assert not [name for name, field in named.items() if field.filterable or field.sortable], resource.name
        assert not [name for name in (*resource.choices, *resource.arguments) if names_staff(name)]
    assert [name for name in (*DIMENSIONS, *PARAMETERS) if names_staff(name, divides=True)] == ["class"], (
        "of one school: test_classes.py"
    )


def test_no_contract_offers_it() -> None:
    document = make_document("https://markonce.example")
    operations = (each for path in document["paths"].values() for each in path.values() if isinstance(each, dict))
    parameters = [each for operation in operations for each in operation.get("parameters", []) if "name" in each]
    assert len(parameters) > 50
    assert not [each["name"] for each in parameters if names_staff(each["name"].partition(".")[0])]
    of_sort = {name: each for name, each in document["components"]["schemas"].items() if name.endswith("Sort")}
    sorts = set(re.findall(r"\w+", json.dumps(of_sort)))
    assert "surname" in sorts
    assert not [word for word in sorts if names_staff(word)]
    schema = build_schema((ROOT / "api" / "graphql" / "schema.graphql").read_text())
    offered = {
        type_.name: [*(type_.fields if isinstance(type_, GraphQLInputObjectType) else type_.values)]
        for type_ in schema.type_map.values()
        if (isinstance(type_, GraphQLInputObjectType) and type_.name.endswith("Where"))
        or (isinstance(type_, GraphQLEnumType) and type_.name.endswith(("SortField", "Dimension")))
    }
    assert "surname" in offered["PupilSortField"]
    assert not [name for name, words in offered.items() if any(map(names_staff, words))]
    assert [word for word in offered["AggregateDimension"] if names_staff(word, divides=True)] == ["class"]


async def _refused(answer: Any, *places: str) -> None:
    problem = read_exact_json(answer)
    assert (answer.status_code, problem["type"].rpartition("/")[2]) == (422, CODE), problem
    assert [(issue["at"], issue["code"]) for issue in problem["issues"]] == [(at, CODE) for at in places]
    assert all("pay and appraisal" in issue["message"] for issue in problem["issues"])


@pytest.mark.parametrize("plural", WITH_ACTOR)
async def test_lists_are_neither_filtered_nor_sorted_by_who_judged(interfaces: Interfaces, plural: str) -> None:
    resource = next(each for each in RESOURCES.values() if each.plural == plural)
    headers, url = interfaces.tokens["everything"], f"/v1/{resource.path}"
    for query, places in (
        ({"actor": "staff-1"}, ["actor"]),
        ({"actor.gte": "staff-1"}, ["actor.gte"]),
        ({"sort": "-actor"}, ["sort"]),
        ({"Teacher": "staff-1", "sort": "id,actor"}, ["Teacher", "sort"]),
        ({"actor": "staff-1", "format": "csv"}, ["actor"]),
    ):
        if "id" in query.get("sort", "") and ("id" not in resource.fields or not resource.fields["id"].sortable):
            query = query | {"sort": "actor"}
        await _refused(await interfaces.http.get(url, params=query, headers=headers), *places)
    if (await interfaces.http.post(f"{url}/lookup", json={}, headers=headers)).status_code not in (404, 405):
        body = {"where": {"actor": "staff-1"}, "sort": ["actor"]}
        await _refused(await interfaces.http.post(f"{url}/lookup", json=body, headers=headers), "/where/actor", "/sort")
    both = await interfaces.http.get(url, params={"actor": "x", "colour": "x"}, headers=headers)
    assert (both.status_code, {issue["code"] for issue in both.json()["issues"]}) == (400, {CODE, "filter-unknown"})
    assert "data" in read_exact_json(await interfaces.http.get(url, params={"fields": "actor", "first": 1}, headers=headers)), (
        "read, by audit:read"
    )


async def _ask(interfaces: Interfaces, query: str, **variables: Any) -> Any:
    body = {"query": query, "variables": variables}
    answer = await interfaces.http.post("/graphql", json=body, headers=interfaces.tokens["everything"])
    return [error["extensions"] for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ('{ judgements(where: {actor: ["x"]}) { nodes { id } } }', {}),
        ("query ($w: JudgementWhere) { judgements(where: $w) { nodes { id } } }", {"w": {"actor": ["x"]}}),
        ("{ judgements(orderBy: [{field: actor}]) { nodes { id } } }", {}),
        ("query ($o: [TargetOrderBy!]) { targets(orderBy: $o) { nodes { id } } }", {"o": [{"field": "actor"}]}),
        ('{ targets(actor: "x") { nodes { id } } }', {}),
        ('{ aggregates(window: "w", groupBy: [subject, teacher]) { nodes { expected } } }', {}),
        ('{ aggregates(window: "w", groupBy: [subject, class]) { nodes { expected } } }', {}),
        ('query ($g: [AggregateDimension!]!) { aggregates(window: "w", groupBy: $g) { nodes { expected } } }', {"g": ["group"]}),
    ],
)
async def test_graphql_says_the_reason_too(interfaces: Interfaces, query: str, variables: dict[str, Any]) -> None:
    (extensions,) = await _ask(interfaces, query, **variables)
    problem = extensions["problem"]
    assert (extensions["code"], problem["status"], problem["issues"][0]["code"]) == (CODE, 422, CODE)
    assert "pay and appraisal" in problem["issues"][0]["message"]


@pytest.mark.parametrize("name", ["teacher", "Class", "classes", "group", "actor", "staff"])
async def test_figures_are_not_divided_nor_chosen_by_teacher_or_class(interfaces: Interfaces, name: str) -> None:
    headers = interfaces.tokens["everything"]
    for more in ({}, {"format": "csv"}, {"format": "csv", "shape": "wide"}):
        query = {"window": "w", "subject": "reading", "groupBy": f"school,{name}"} | more
        await _refused(await interfaces.http.get("/v1/aggregates", params=query, headers=headers), "groupBy")
    chosen = {"window": "w", "subject": "reading", "groupBy": "school", name: "6A"}
    await _refused(await interfaces.http.get("/v1/aggregates", params=chosen, headers=headers), name)
