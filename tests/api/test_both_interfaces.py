"""REST and GraphQL answer the same random query over HTTP with the same data, cursors included.

GraphQL asks it in its own ways: aliases, fragments in fragments, @include and @skip, objects in two halves, edges or nodes, several roots in one
document, variables or literals.
"""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from domain import RESOURCES
from domain.aggregates.aggregate_rows import AggregateRow
from domain.declare.ids import new_id
from domain.declare.resource import Filter
from domain.roster.names import fold_name
from tests.fixtures.interfaces import Interfaces, read_exact_json
from tests.fixtures.random_queries import Document, Question
from tests.fixtures.sizes import choose_size
from tests.fixtures.two_trusts import upn

QUESTIONS = {"North": choose_size(10, 120), "mixed": choose_size(6, 80), "everything": choose_size(5, 100)}
"""By client, how many random selections."""
OF_ROWS = {"North": choose_size(4, 30), "mixed": choose_size(3, 15)}
"""By client, how many random selections of what a row leads to."""
TOGETHER, ALIKE = choose_size(3, 20), choose_size(4, 25)
"""How many documents of several questions, and how many written with variables and without."""
PAGES = 3
OF_THE_MOMENT = ("x-request-id", "server-timing", "ratelimit", "ratelimit-policy")
"""Headers that tell of the request and the client, and never of what was asked for."""


@pytest.mark.parametrize("client", QUESTIONS)
async def test_both_interfaces_answer_the_same(client: str, interfaces: Interfaces) -> None:
    rows = followed = 0
    for n in range(QUESTIONS[client]):
        draw = random.Random(f"{client} {n}")
        ask = interfaces.asking(client, draw).question()
        for _ in range(PAGES):
            rest, document = await interfaces.rest(client, ask), Document(draw)
            asked, read = document.asking(document.page(ask, ask.resource.plural))
            answer = await interfaces.graphql(client, asked, **document.values)
            assert (n, rest.status_code, answer.get("errors")) == (n, 200, None), (rest.text, asked)
            page = read_exact_json(rest)
            assert (n, read(answer["data"])) == (n, [page]), (str(rest.url), asked, document.values)
            rows += len(page["data"])
            if not page["page"]["hasMore"]:
                break
            ask.after, followed = page["page"]["endCursor"], followed + 1
    assert rows > 2 * QUESTIONS[client]
    assert followed > QUESTIONS[client] / 4


@pytest.mark.parametrize("client", OF_ROWS)
async def test_what_is_nested_in_a_row_is_the_list_of_that_row_page_by_page(client: str, interfaces: Interfaces) -> None:
    """In the row by its field and by node(id:), and in a list beside another row, where the same cursor is as good."""
    rows = followed = 0
    for n in range(OF_ROWS[client]):
        draw = random.Random(f"{client} of a row {n}")
        resource, id_, link, ask = interfaces.asking(client, draw).of_row()
        ids = sorted({id_, draw.choice(interfaces.rows[client][resource.name])["id"]})
        within = Question(resource, ["id"], {link: ask}, where={"id": ids}, order=[("id", False)])
        for _ in range(PAGES):
            rest = {id_: await interfaces.of_row(client, resource, id_, link, ask) for id_ in ids}
            assert {answer.status_code for answer in rest.values()} == {200}, rest
            pages = {id_: read_exact_json(answer) for id_, answer in rest.items()}
            document = Document(draw)
            asked, read = document.asking(
                document.by_id(within, id_), document.node(within, id_), document.page(within, resource.plural)
            )
            answer = await interfaces.graphql(client, asked, **document.values)
            assert (n, answer.get("errors")) == (n, None), asked
            by_field, by_node, listed = read(answer["data"])
            assert by_field == by_node == {"id": id_, link: pages[id_]}, (str(rest[id_].url), asked, document.values)
            assert listed["data"] == [{"id": each, link: pages[each]} for each in ids], (asked, document.values)
            rows += len(pages[id_]["data"])
            if not pages[id_]["page"]["hasMore"]:
                break
            ask.after, followed = pages[id_]["page"]["endCursor"], followed + 1
    assert rows > OF_ROWS[client]
    assert followed > OF_ROWS[client] / 4


async def test_several_questions_in_one_document_are_answered_as_each_by_itself(interfaces: Interfaces) -> None:
    for n in range(TOGETHER):
        draw = random.Random(f"together {n}")
        asking, document = interfaces.asking("North", draw), Document(draw)
        asks = [asking.question() for _ in range(2)]
        asks.append(Question(asks[0].resource, asks[0].fields[:1]))  # the same field again
        for ask in asks:
            ask.first = min(ask.first, 2)
        named = RESOURCES[draw.choice([name for name, rows in interfaces.rows["North"].items() if rows and RESOURCES[name].has_id])]
        row, id_ = asking.about(named, 1), draw.choice(interfaces.rows["North"][named.name])["id"]
        chosen = [document.page(ask, ask.resource.plural) for ask in asks] + [document.node(row, id_)]
        order = draw.sample(range(len(chosen)), len(chosen))
        asked, read = document.asking(*(chosen[i] for i in order))
        answer = await interfaces.graphql("North", asked, **document.values)
        assert (n, answer.get("errors")) == (n, None), asked
        alone = [read_exact_json(await interfaces.rest("North", ask)) for ask in asks] + [
            read_exact_json(await interfaces.row("North", row, id_))
        ]
        assert (n, read(answer["data"])) == (n, [alone[i] for i in order]), (asked, document.values)


async def test_a_value_is_the_same_as_a_literal_and_as_a_variable(interfaces: Interfaces) -> None:
    """Byte for byte, cursors and cost included."""
    for n in range(ALIKE):
        ask, answers = interfaces.asking("North", random.Random(f"alike {n}")).question(), set()
        for told in ("literals", "variables", "either"):
            document = Document(random.Random(n), told)
            asked, read = document.asking(document.page(ask, ask.resource.plural))
            assert told == "either" or bool(document.variables) is (told == "variables")
            answer = await interfaces.http.post(
                "/graphql", json={"query": asked, "variables": document.values}, headers=interfaces.tokens["North"]
            )
            answers.add(answer.content)
        assert len(answers) == 1, (n, answers)
        assert read(read_exact_json(answer)["data"]) == [read_exact_json(await interfaces.rest("North", ask))]


@pytest.mark.parametrize("client", QUESTIONS)
@pytest.mark.parametrize(
    "name", [name for name, field in RESOURCES["pupil"].fields.items() if field.filter is Filter.BODY and name != "formerUpns"]
)
async def test_who_is_looked_up_is_found_the_same(name: str, client: str, interfaces: Interfaces) -> None:
    """By what may not stand in a URL. Where two pupils are named, as where one or none is."""
    pupil, rows = RESOURCES["pupil"], interfaces.rows[client]["pupil"]
    values = sorted({row[name] for row in rows if row[name] is not None})
    for given in (
        *([value] for value in values[:: choose_size(3, 1)]),
        *filter(None, (values[:2], values[-3:])),
        [upn("Fir", 99) if name == "upn" else "1999-12-31"],
    ):
        ask, document = (
            Question(pupil, ["id", name, "yearGroup"], where={name: given}, order=[(name, True)]),
            Document(random.Random(2)),
        )
        rest = read_exact_json(await interfaces.rest(client, ask))
        asked, read = document.asking(document.page(ask, pupil.plural))
        answer = await interfaces.graphql(client, asked, **document.values)
        assert read(answer["data"]) == [rest]
        is_name = name.lower().endswith(("surname", "forename"))
        wanted = {fold_name(value) if is_name else value for value in given}
        found = {row["id"] for row in rows if row[name] is not None and (fold_name(row[name]) if is_name else row[name]) in wanted}
        assert {row["id"] for row in rest["data"]} == found


@pytest.mark.parametrize("name", [name for name, resource in RESOURCES.items() if resource.has_id])
async def test_a_row_by_its_id_is_the_same_three_ways(name: str, interfaces: Interfaces) -> None:
    """By its URL, by its GraphQL field and by node(id:)."""
    resource = RESOURCES[name]
    for n, row in enumerate(interfaces.rows["North"][name][: choose_size(1, 12)]):
        draw = random.Random(f"{name} {n}")
        ask, document = interfaces.asking("North", draw).about(resource, 2), Document(draw)
        rest = read_exact_json(await interfaces.row("North", ask, row["id"]))
        asked, read = document.asking(document.by_id(ask, row["id"]), document.node(ask, row["id"]))
        answer = await interfaces.graphql("North", asked, **document.values)
        assert "errors" not in answer, answer
        assert read(answer["data"]) == [rest, rest], asked


@pytest.mark.parametrize("client", QUESTIONS)
async def test_a_row_with_nothing_asked_of_it_is_as_in_the_list(client: str, interfaces: Interfaces) -> None:
    seen = set()
    for resource in (resource for resource in RESOURCES.values() if resource.has_id and resource.name in interfaces.rows[client]):
        path, headers = f"/v1/{resource.path}", interfaces.tokens[client]
        for row in read_exact_json(await interfaces.http.get(path, params={"first": 20}, headers=headers))["data"]:
            assert read_exact_json(await interfaces.http.get(f"{path}/{row['id']}", headers=headers)) == row
            seen.add(resource.name)
    assert len(seen) >= 8


BREAKDOWNS = {"bands", "grades", "gap", "change"}
"""Members with members of their own, which are asked for by name and have tests of their own."""
AGGREGATES = """
query ($by: [AggregateDimension!]!, $window: String, $view: AggregateView, $school: [ID!]) {
  aggregates(groupBy: $by, window: $window, view: $view, school: $school, first: 1000) {
    nodes { ROW } excluded { schoolId schoolUrn schoolName reason } coverage { schools contributing } pageInfo { hasNextPage endCursor }
  }
}
"""


@pytest.mark.parametrize("client", ["North", "everything"])
@pytest.mark.parametrize("view", ["own", "public"])
async def test_aggregates_are_the_same(client: str, view: str, interfaces: Interfaces) -> None:
    """With what they leave out, and why a row is hidden."""
    names = [field.encode_name for field in msgspec.structs.fields(AggregateRow)]
    row = " ".join(name for name in names if name not in BREAKDOWNS)
    for by, more in (
        (["subject"], {"window": "2024-25/KS2"}),
        (["school", "subject"], {"window": "2024-25/KS2", "school": ["100001", "100002"]}),
        (["sex", "subject", "window"], {}),
    ):
        asked = {"groupBy": ",".join(by), "first": "1000", "view": view, **more}
        rest = read_exact_json(await interfaces.http.get("/v1/aggregates", params=asked, headers=interfaces.tokens[client]))
        answer = (await interfaces.graphql(client, AGGREGATES.replace("ROW", row), by=by, view=view, **more))["data"]["aggregates"]
        assert answer["nodes"] == [{name: row[name] for name in row if name not in BREAKDOWNS} for row in rest["data"]] != []
        assert (answer["excluded"], answer["coverage"]) == (rest["excluded"], rest["coverage"])
        assert answer["pageInfo"]["hasNextPage"] is rest["page"]["hasMore"] is False


async def test_what_is_anothers_and_what_is_nowhere_are_the_same_bytes(interfaces: Interfaces) -> None:
    for name, rows in interfaces.rows["South"].items():
        resource = RESOURCES[name]
        if not resource.has_id:
            continue
        own = {row["id"] for row in interfaces.rows["North"][name]}
        anothers = next(row["id"] for row in rows if row["id"] not in own)
        nowhere = f"{new_id(4)}.1.1.0" if resource.type_number is None else str(new_id(resource.type_number))
        answers = []
        for id_ in (anothers, nowhere):
            rest = await interfaces.http.get(f"/v1/{resource.path}/{id_}", headers=interfaces.tokens["North"])
            headers = {key: value for key, value in rest.headers.items() if key not in OF_THE_MOMENT}
            both = f"query ($id: ID!) {{ {name}(id: $id) {{ id }} node(id: $id) {{ id }} }}"
            answers.append((rest.status_code, headers, rest.content, await interfaces.graphql("North", both, id=id_)))
        assert answers[0] == answers[1]
        assert (answers[0][0], answers[0][3]["data"]) == (404, {name: None, "node": None})


async def test_both_interfaces_refuse_in_the_same_words(interfaces: Interfaces) -> None:
    """With a token of two scopes, of all that its client holds."""
    client = interfaces.two_trusts.clients["North"]
    given = {"grant_type": "client_credentials", "scope": "pupils:read judgements:read"}
    token = (await interfaces.http.post("/oauth/token", data=given, auth=(str(client.caller.client_id), client.secret))).json()
    interfaces.tokens["narrow"] = {"Authorization": f"Bearer {token['access_token']}"}
    pupil, judgement, scheme = RESOURCES["pupil"], RESOURCES["judgement"], RESOURCES["scheme"]
    for ask in (
        Question(pupil, ["id", "surname", "upn"]),
        Question(pupil, ["id"], order=[("dateOfBirth", True)]),
        Question(pupil, ["id"], where={"forename": ["Zoë"]}),
        Question(
            pupil, ["id"], {"school": Question(RESOURCES["school"], ["urn"]), "targets": Question(RESOURCES["target"], ["grade"])}
        ),
        Question(judgement, ["againstTarget"], {"pupil": Question(pupil, ["forename"])}),
        Question(scheme, ["code"]),
    ):
        rest, document = await interfaces.rest("narrow", ask), Document(random.Random(1))
        asked, _ = document.asking(document.page(ask, ask.resource.plural))
        answer = await interfaces.graphql("narrow", asked, **document.values)
        (error,) = answer["errors"]
        assert rest.status_code == 403
        assert len(read_exact_json(rest)["issues"]) >= 1
        assert error["extensions"]["problem"] == read_exact_json(rest)


NESTED = """
query ($window: ID!) {
  pupils(first: 5, orderBy: [{field: surname}]) {
    nodes { surname school { name trust { name } } judgements(first: 3) { edges { cursor node { grade window { code } subject { name } } } } }
  }
  windows { nodes { code judgements(first: 2) { nodes { pupil { forename } } pageInfo { endCursor } } } }
  node(id: $window) { ... on Window { name } }
}
"""


PARTS = {
    "__typename": "__typename",
    "nodes": "nodes { __typename code }",
    "edges": "edges { cursor }",
    "pageInfo": "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }",
}


@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_each_part_of_a_connection_alone_is_what_it_is_among_the_others(size: int, interfaces: Interfaces) -> None:
    """Also of a page without rows."""

    async def subjects(parts: str) -> Any:
        return (await interfaces.graphql("North", f"{{ subjects(first: {size}) {{ {parts} }} }}"))["data"]["subjects"]

    together = await subjects(" ".join(PARTS.values()))
    assert (len(together["nodes"]), together["pageInfo"]["hasNextPage"]) == (min(size, 8), size < 8)
    assert [edge["cursor"] for edge in together["edges"][:1]] == [together["pageInfo"]["startCursor"]][: len(together["edges"])]
    for name, part in PARTS.items():
        assert await subjects(part) == {name: together[name]}


async def test_a_read_however_nested_is_one_data_statement(interfaces: Interfaces) -> None:
    """In either interface, once the client's token is known and what the names are of what is asked for."""
    window = interfaces.rows["North"]["window"][0]["id"]
    url = "/v1/pupils?first=5&sort=surname&include=school.trust,judgements.window.judgements,targets.subject&judgements.first=3"
    await interfaces.http.get(url, headers=interfaces.tokens["North"])
    await interfaces.graphql("North", NESTED, window=window)
    await asyncio.sleep(0)  # asyncpg tells of a statement in the next turn of the loop
    with interfaces.two_trusts.statements.counting() as by_rest:
        rest = await interfaces.http.get(url, headers=interfaces.tokens["North"])
        await asyncio.sleep(0)
    with interfaces.two_trusts.statements.counting() as by_graphql:
        answer = await interfaces.graphql("North", NESTED, window=window)
        await asyncio.sleep(0)
    assert rest.status_code == 200
    assert read_exact_json(rest)["data"][0]["judgements"]["data"]
    assert answer["data"]["pupils"]["nodes"][0]["judgements"]["edges"]
    assert (len(by_rest), len(by_graphql)) == (1, 1)


async def test_a_cursor_is_good_for_its_client_and_question_alone(interfaces: Interfaces) -> None:
    cursor = read_exact_json(await interfaces.rest("North", Question(RESOURCES["pupil"], ["id"], first=2)))["page"]["endCursor"]
    same, others = Question(RESOURCES["pupil"], ["version"], first=3), Question(RESOURCES["pupil"], ["id"], order=[("sex", False)])
    for client, ask, status in (
        ("North", same, 200),
        ("everything", same, 400),
        ("North", others, 400),
        ("North", Question(RESOURCES["target"], ["id"]), 400),
    ):
        ask.after = cursor
        rest, document = await interfaces.rest(client, ask), Document(random.Random(1))
        asked, _ = document.asking(document.page(ask, ask.resource.plural))
        errors = (await interfaces.graphql(client, asked, **document.values)).get("errors", [])
        assert (rest.status_code, len(errors)) == (status, int(status == 400))
        assert [issue["code"] for error in errors for issue in error["extensions"]["problem"]["issues"]] == [
            "cursor-invalid"
        ] * len(errors)
