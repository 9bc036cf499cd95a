"""One answer, three ways: the plan of a template, the extension that reads rows, and Strawberry's executor answer every operation with the same bytes."""

import random
from collections import Counter
from typing import Any

import pytest

from api.graphql import plans
from api.graphql.executor import Executor
from api.graphql.operation import OperationExtension
from tests.fixtures.interfaces import Interfaces
from tests.fixtures.random_queries import Document
from tests.fixtures.sizes import choose_size

CLIENTS = {"North": choose_size(20, 40), "mixed": choose_size(12, 25), "everything": choose_size(14, 30)}
"""By client, how many random selections."""
FIXED = {
    "nothing": "{ __typename }",
    "nothing is left": "{ schools @skip(if: true) { nodes { id } } }",
    "nothing is left of some": "{ a: __typename schools @skip(if: true) { nodes { id } } }",
    "rows of several roots": "{ s: schools(first: 2) { nodes { id } } __typename p: pupils(first: 1) { edges { cursor } } subjects { nodes { code } } }",
    "an id of nothing": '{ pupil(id: "none") { id } node(id: "none") { id } }',
    "a function": "{ me { client { name } token { scopes } } }",
    "functions and rows": '{ a: me { token { scopes } } schools { nodes { name } } r: receipt(key: "none") { operation } __typename }',
    "introspection": '{ __schema { queryType { name } } __type(name: "Pupil") { name fields { name } } }',
    "introspection and rows": "{ schools { nodes { name } } __schema { queryType { name } } me { client { name } } }",
    "aggregates": '{ aggregates(groupBy: [school], subject: "rwm", window: "none") { nodes { schools } } }',
    "several operations": "query a { __typename } query b { schools { nodes { id } } }",
    "a subscription": "subscription { __typename }",
    "no document": "",
    "a syntax error": "{ schools { nodes { id } }",
    "not valid": '{ pupils(where: {upn: 5}) { nodes { shoeSize } } pupil(id: {a: "b"}) { id } }',
    "a wrong page": "{ pupils(first: 5000) { nodes { id } } }",
    "a wrong filter": '{ pupils(where: {yearGroup: ["6"], version: [1], upn: ["A"]}) { nodes { id } } judgements(after: "x") { nodes { id } } }',
    "no command": '{ a: aggregates(groupBy: [school]) { nodes { schools } } receipt(key: "two words") { operation } }',
    "a command": 'mutation { a: openWindow(input: {id: "none"}) { id } __typename b: openWindow(input: {id: "x"}) { id } }',
    "a wrong argument": 'mutation { a: openWindow(input: {id: "none"}, dryRun: "yes") { id } }',
}


async def no_plan(*_: Any) -> None:
    """Finds no plan."""


WAYS: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "plan": (),
    "extension": ((plans, "answer_by_plan", no_plan),),
    "executor": ((plans, "answer_by_plan", no_plan), (OperationExtension, "_set_result", lambda *_: None)),
}
"""By way, what is taken away."""


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each way gave an answer."""
    times = Counter[str]()
    find, set_result, execute = plans.answer_by_plan, OperationExtension._set_result, Executor.execute_operation

    async def find_counted(*arguments: Any) -> Any:
        found = await find(*arguments)
        times["plan"] += found is not None
        return found

    def set_counted(*arguments: Any) -> None:
        times["extension"] += 1
        set_result(*arguments)

    def execute_counted(executor: Executor, serially: bool | None = None) -> Any:
        times["executor"] += 1
        return execute(executor, serially)

    monkeypatch.setattr(plans, "answer_by_plan", find_counted)
    monkeypatch.setattr(OperationExtension, "_set_result", set_counted)
    monkeypatch.setattr(Executor, "execute_operation", execute_counted)
    return times


async def ask(
    interfaces: Interfaces, client: str, document: str, variables: Any = None
) -> dict[str, tuple[int, str | None, bytes]]:
    """The answer by each way."""
    answers = {}
    for way, without in WAYS.items():
        with pytest.MonkeyPatch.context() as patch:
            for of, name, value in without:
                patch.setattr(of, name, value)
            headers = interfaces.tokens[client] | {"Accept": "application/graphql-response+json"}
            answer = await interfaces.http.post("/graphql", json={"query": document, "variables": variables}, headers=headers)
        answers[way] = (answer.status_code, answer.headers.get("retry-after"), answer.content)
    return answers


@pytest.mark.parametrize("client", CLIENTS)
async def test_random_selections(client: str, interfaces: Interfaces, used: Counter[str]) -> None:
    bodies = set()
    for n in range(CLIENTS[client]):
        draw = random.Random(f"{client} {n}")
        question, document = interfaces.asking(client, draw).question(), Document(draw)
        asked, _ = document.asking(document.page(question, question.resource.plural))
        answers = await ask(interfaces, client, asked, document.values)
        assert (n, set(answers.values())) == (n, {answers["plan"]}), asked
        assert answers["plan"][0] == 200
        bodies.add(answers["plan"][2])
    assert len(bodies) > CLIENTS[client] / 2
    assert used["executor"] == CLIENTS[client]
    assert used["plan"] > CLIENTS[client] * 0.7, "a date that is written in the document has no plan"
    assert used["plan"] + used["extension"] == 2 * CLIENTS[client]


@pytest.mark.parametrize("name", FIXED)
async def test_what_is_no_page_of_rows(name: str, interfaces: Interfaces) -> None:
    for client in CLIENTS:
        answers = await ask(interfaces, client, FIXED[name])
        assert set(answers.values()) == {answers["plan"]}
