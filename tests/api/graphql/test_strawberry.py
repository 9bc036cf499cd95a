"""What this API relies on in Strawberry, some of which is half private, and the traps of its defaults.

The first part fails when Strawberry changes a part that is used; the second, when the application falls into a trap.
"""

import asyncio
import json
import logging
import types
from collections.abc import AsyncIterator, Iterator
from dataclasses import FrozenInstanceError
from typing import Any, Generic, TypeVar, cast

import httpx2
import msgspec
import pytest
import pytest_asyncio
import strawberry
from graphql import GraphQLError, GraphQLSchema, parse
from graphql.execution.values import VariableValues
from starlette.requests import Request
from starlette.websockets import WebSocket
from strawberry.annotation import StrawberryAnnotation
from strawberry.asgi import GraphQL
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.execution import PreExecutionError
from strawberry.types.field import StrawberryField
from strawberry.types.graphql import OperationType

from api.graphql.context import OperationContext
from api.graphql.endpoint import make_endpoint
from api.graphql.executor import Executor
from api.graphql.operation import OperationExtension, OperationState
from api.graphql.schema import Schema, make_schema
from domain.access.caller import Caller
from domain.declare.ids import new_id
from domain.write.together import WritesTogether
from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import Trust, entry, open_trust, opened, roll, sent, upn

N = TypeVar("N")
PAGE = "{ pupils(first: 1) { nodes { id } } }"


# Half-private parts of Strawberry


@strawberry.type
class Pair(Generic[N]):
    one: N


def test_a_lazy_annotation_lets_two_types_lead_to_each_other_and_names_generics() -> None:
    names: dict[str, Any] = {"Pair": Pair}
    for name, other in (("A", "B"), ("B", "A")):
        field = StrawberryField(python_name="other", graphql_name="other")
        field.arguments = [StrawberryArgument("from", "from", StrawberryAnnotation("str | None", namespace=names))]
        space = {"__annotations__": {"other": StrawberryAnnotation(f"Pair[{other}]", namespace=names)}, "other": field}
        names[name] = strawberry.type(types.new_class(name, (), {}, lambda ns, space=space: ns.update(space)), name=name)
    schema = strawberry.Schema(names["A"])
    assert isinstance(schema._schema, GraphQLSchema)
    assert "type A {\n  other(from: String): BPair!\n}" in schema.as_str()


def test_an_input_is_the_mapping_that_was_sent() -> None:
    @strawberry.input
    class Change:
        name: str | None = strawberry.UNSET
        other: str | None = strawberry.UNSET

    Change.__strawberry_definition__.from_input = lambda cls, values, context: values  # type: ignore[attr-defined]
    seen: list[Any] = []

    @strawberry.type
    class Query:
        @strawberry.field
        def change(self, input: Change) -> str:
            seen.append(input)
            return ""

    strawberry.Schema(Query).execute_sync("{ change(input: {name: null}) }")
    assert seen == [{"name": None}]


class Noting(SchemaExtension):
    """Gives a document, its errors and a result before Strawberry would find them."""

    errors: list[GraphQLError] = []
    result: Any = None

    def on_parse(self) -> Iterator[None]:
        self.execution_context.graphql_document = parse("{ raw }")
        yield

    def on_validate(self) -> Iterator[None]:
        self.execution_context.pre_execution_errors = self.errors
        yield

    async def on_execute(self) -> AsyncIterator[None]:
        self.execution_context.result = self.result
        yield
        result = self.execution_context.result
        if result is not None and result.errors:
            result.data = None

    def get_results(self) -> dict[str, Any]:
        return {"cost": 1}


class Told(strawberry.Schema):
    """Notes the errors that it is to process."""

    told: list[str]

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        self.told += [error.message for error in errors]


@strawberry.type
class Raw:
    @strawberry.field
    def raw(self) -> str:
        return "from the resolver"

    @strawberry.field
    async def wrong(self) -> str | None:
        raise ValueError("in a resolver")


def told_schema(*extensions: type[SchemaExtension], **options: Any) -> Told:
    schema = Told(Raw, extensions=extensions, **options)
    schema.told = []
    return schema


async def test_an_extension_gives_the_document_its_errors_and_the_result() -> None:
    assert (await told_schema(Noting).execute("not a document")).data == {"raw": "from the resolver"}
    ready = ExecutionResult(cast(Any, msgspec.Raw(b"{}")), None)
    found = await told_schema(type("Ready", (Noting,), {"result": ready})).execute("not a document")
    assert (found.data, found.errors, found.extensions) == (msgspec.Raw(b"{}"), None, {"cost": 1})
    refused = await told_schema(type("Refused", (Noting,), {"errors": [GraphQLError("no")]})).execute("{ raw }")
    assert isinstance(refused, PreExecutionError)
    assert [error.message for error in refused.errors or ()] == ["no"]


async def test_errors_are_processed_on_every_path() -> None:
    class Fails(SchemaExtension):
        async def on_execute(self) -> AsyncIterator[None]:
            raise ValueError("in a hook")
            yield

    for extensions, document, message in (
        ((), "{", "Syntax Error: Expected Name, found <EOF>."),
        ((), "{ none }", "Cannot query field 'none' on type 'Raw'."),
        ((), "{ wrong }", "in a resolver"),
        ((Fails,), "{ raw }", "in a hook"),
    ):
        schema = told_schema(*extensions)
        await schema.execute(document)
        assert schema.told == [message]


async def test_the_executor_class_sees_each_root_and_each_value() -> None:
    paths, values = [], []

    class Watching(Executor):
        def execute_field(self, parent_type: Any, source: Any, field_details_list: Any, path: Any, *rest: Any) -> Any:
            paths.append((path.prev, path.key))
            return super().execute_field(parent_type, source, field_details_list, path, *rest)

        def complete_value(self, *arguments: Any) -> Any:
            values.append(arguments[4])
            return super().complete_value(*arguments)

    schema = told_schema(execution_context_class=Watching)
    state = OperationState()
    state.variables, state.ready = VariableValues({}, {}), {"b": msgspec.Raw(b"1")}
    found = await schema.execute("{ a: raw b: raw }", root_value=state)
    assert found.data == {"a": "from the resolver", "b": msgspec.Raw(b"1")}
    assert (paths, values) == ([(None, "a"), (None, "b")], ["from the resolver", "from the resolver"])


async def test_a_resolver_sees_the_nodes_of_its_field() -> None:
    seen = []

    class Field(StrawberryField):
        is_async = True
        is_basic_field = False

        async def get_result(self, source: Any, info: Any, args: Any, kwargs: Any) -> Any:
            seen.append(
                (info._raw_info.parent_type.name, [node.name.value for node in info._raw_info.field_nodes], kwargs, info.context)
            )
            return ""

    field = Field(python_name="asked", graphql_name="asked")
    field.arguments = [StrawberryArgument("return", "return", StrawberryAnnotation(str))]
    query = strawberry.type(
        types.new_class("Query", (), {}, lambda ns: ns.update({"__annotations__": {"asked": str}, "asked": field}))
    )
    await strawberry.Schema(query).execute('{ asked(return: "x") }', context_value="context")
    assert seen == [("Query", ["asked"], {"return": "x"}, "context")]


async def test_an_extension_is_made_for_each_operation() -> None:
    schema = make_schema()
    (one,), (other,) = schema.get_extensions(), schema.get_extensions()
    assert isinstance(one, OperationExtension)
    assert one is not other


# The traps of its defaults


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", "trust:4128=all")
        await opened(vendor)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(n, yearGroup=str(n)) for n in range(1, 5)]))
        yield made


async def post(here: Trust, query: str, **more: Any) -> httpx2.Response:
    headers = {"Accept": "application/graphql-response+json"}
    return await here.made[0].post("/graphql", json={"query": query, **more}, headers=headers)


async def test_every_operation_passes_execute(here: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    ours, theirs = Schema.execute, strawberry.Schema.execute

    async def noted(self: Any, query: Any, *arguments: Any, **more: Any) -> Any:
        seen.append("ours")
        return await ours(self, query, *arguments, **more)

    async def noted_theirs(self: Any, query: Any, *arguments: Any, **more: Any) -> Any:
        seen.append("Strawberry's")
        return await theirs(self, query, *arguments, **more)

    monkeypatch.setattr(Schema, "execute", noted)
    monkeypatch.setattr(strawberry.Schema, "execute", noted_theirs)
    for query, passed in (
        (PAGE, ["ours"]),
        ("{ me { token { scopes } } }", ["ours", "Strawberry's"]),
        ('mutation { openWindow(input: {id: "x"}) { id } }', ["ours", "Strawberry's"]),
        ("{ __schema { queryType { name } } }", ["ours", "Strawberry's"]),
        ("{", ["ours", "Strawberry's"]),
    ):
        seen.clear()
        await post(here, query)
        assert seen == passed


async def test_one_of_several_operations_is_named_or_none_is_executed(here: Trust) -> None:
    change = 'recordPupils(input: {school: {urn: 100001}, asOf: "2018-05-01", entries: []}) { received }'
    document = f"mutation a {{ {change} }} query b {PAGE} query c {{ me {{ token {{ scopes }} }} }}"
    before = await here.everything()
    for name in (None, "", "d"):
        answer = await post(here, document, operationName=name)
        assert (answer.status_code, list(answer.json())) == (400, ["errors"])
        assert answer.json()["errors"][0]["message"] == "Name one of the document's operations in operationName."
    assert await here.everything() == before
    assert list((await post(here, document, operationName="b")).json()["data"]) == ["pupils"]
    assert list((await post(here, document, operationName="c")).json()["data"]) == ["me"]


@pytest.mark.parametrize(
    "document",
    ["", " ", "{", "{ none }", "query a { __typename } query b { __typename }", "subscription { __typename }", "{" * 9000],
)
def test_on_parse_never_raises_and_on_validate_reports(document: str) -> None:
    caller = Caller(new_id(1), frozenset())
    context = OperationContext(caller, *cast(Any, [None] * 2), "", True, *cast(Any, [None] * 4))
    extension = OperationExtension()
    extension.execution_context = ExecutionContext(
        document, make_schema(), set(OperationType), context=context, provided_operation_name="x"
    )
    next(cast(Iterator[None], extension.on_parse()))
    assert extension.execution_context.operation_type is OperationType.QUERY
    next(extension.on_validate())
    assert extension.execution_context.pre_execution_errors


async def test_no_query_in_a_url_and_no_page_that_loads_others(here: Trust) -> None:
    for accept in ("text/html", "application/json"):
        answer = await here.made[0].get("/graphql?query={__typename}", headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    assert (make_endpoint().graphql_ide, make_endpoint().allow_queries_via_get) == (None, False)


async def test_nothing_is_logged_of_what_an_error_says(
    here: Trust, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Noted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    async def fails(*_: Any) -> None:
        raise ValueError(f"Ada Lovelace {upn(1)}")

    root, handler = logging.getLogger(), Noted()
    root.addHandler(handler)
    try:
        monkeypatch.setattr(WritesTogether, "perform", fails)
        answer = await post(here, f'mutation {{ updatePupil(input: {{id: "{new_id(4)}", expectedVersion: 1}}) {{ id }} }}')
        wrong = await post(here, f'{{ pupils(where: {{yearGroup: {{a: "{upn(1)}"}}}}) {{ nodes {{ id }} }} }}')
        for name in ("strawberry.execution", "strawberry.ws.task"):
            logging.getLogger(name).error(f"Ada Lovelace {upn(1)}")
    finally:
        root.removeHandler(handler)
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (500, "unforeseen")
    assert wrong.status_code == 400
    written = "".join((*seen, *capfd.readouterr(), answer.text, wrong.text))
    assert "Lovelace" not in written
    assert upn(1) not in written


async def test_a_cursor_of_either_interface_is_taken_by_the_other(here: Trust) -> None:
    client = here.made[0]
    literal = (
        "{ pupils(first: 1, orderBy: [{field: yearGroup, direction: DESC}]AFTER) { nodes { yearGroup } pageInfo { endCursor } } }"
    )
    variable = "query ($by: [PupilOrderBy!]) { pupils(first: 1, orderBy: $byAFTER) { nodes { yearGroup } pageInfo { endCursor } } }"
    by = {"by": [{"field": "yearGroup", "direction": "DESC"}]}
    rest = (await client.get("/v1/pupils?sort=-yearGroup&first=1&fields=yearGroup")).json()
    for document, variables in ((literal, {}), (variable, by)):
        first = (await post(here, document.replace("AFTER", ""), variables=variables)).json()["data"]["pupils"]
        assert first["pageInfo"]["endCursor"] == rest["page"]["endCursor"]
        after = f', after: "{rest["page"]["endCursor"]}"'
        second = (await post(here, document.replace("AFTER", after), variables=variables)).json()["data"]["pupils"]
        cursor = first["pageInfo"]["endCursor"]
        followed = (await client.get(f"/v1/pupils?sort=-yearGroup&first=1&fields=yearGroup&after={cursor}")).json()
        assert second["nodes"] == followed["data"] == [{"yearGroup": "3"}]


async def test_the_context_is_of_one_request_and_never_changes(here: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[OperationContext] = []
    execute = Schema.execute

    async def noted(self: Any, *arguments: Any, **more: Any) -> Any:
        seen.append(more["context_value"])
        return await execute(self, *arguments, **more)

    monkeypatch.setattr(Schema, "execute", noted)
    await post(here, PAGE)
    await post(here, PAGE)
    assert len({id(context) for context in seen}) == 2
    with pytest.raises(FrozenInstanceError):
        seen[0].caller = seen[1].caller  # type: ignore[misc]


QUERIES = (
    PAGE,
    "{ me { client { name } } schools { nodes { name } } }",
    "{ none }",
    'mutation { openWindow(input: {id: "x"}) { id } }',
)


async def test_a_result_is_ready_for_server_sent_events(here: Trust) -> None:
    scope, sent_messages = {**request_scope(here), "type": "http", "method": "POST"}, []
    for query in QUERIES:
        body = json.dumps({"query": query}).encode()

        async def receive(body: bytes = body) -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent_messages.append(message.get("body", b"").decode())

        request = Request(scope | {"headers": [*scope["headers"], (b"accept", b"text/event-stream")]}, receive, send)
        sent_messages.clear()
        response = await GraphQL.run(make_endpoint(), request)
        await response(scope, asyncio.Event().wait, send)
        told = (
            "".join(sent_messages).partition("data: ")[2].partition("\n")[0]
            if "data: " in "".join(sent_messages)
            else "".join(sent_messages)
        )
        assert strip(json.loads(told)) == strip((await here.made[0].post("/graphql", json={"query": query})).json())


async def test_a_result_is_ready_for_websockets(here: Trust) -> None:
    arriving: asyncio.Queue[Any] = asyncio.Queue()
    leaving: list[Any] = []
    ended = asyncio.Event()
    arriving.put_nowait({"type": "websocket.connect"})
    for message in (
        {"type": "connection_init"},
        *({"type": "subscribe", "id": str(n), "payload": {"query": query}} for n, query in enumerate(QUERIES)),
    ):
        arriving.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})
    arriving.put_nowait(None)

    async def receive() -> Any:
        if (message := await arriving.get()) is None:
            await ended.wait()
            return {"type": "websocket.disconnect", "code": 1000}
        return message

    async def send(message: Any) -> None:
        leaving.append(message)
        if len({told["id"] for told in texts(leaving) if told["type"] in ("error", "complete")}) == len(QUERIES):
            ended.set()

    scope = {**request_scope(here), "type": "websocket", "subprotocols": ["graphql-transport-ws"]}
    async with asyncio.timeout(30):
        await GraphQL.run(make_endpoint(), WebSocket(scope, receive, send))
    for n, query in enumerate(QUERIES):
        answer = (await here.made[0].post("/graphql", json={"query": query})).json()
        told = next(each for each in texts(leaving) if each.get("id") == str(n))
        if told["type"] == "next":
            assert strip(told["payload"]) == strip(answer)
        else:
            assert (told["type"], told["payload"]) == ("error", answer["errors"])


def request_scope(here: Trust) -> dict[str, Any]:
    headers = [(b"authorization", here.made[0].headers["authorization"].encode()), (b"content-type", b"application/json")]
    app = here.transport.app
    while not hasattr(app, "state"):
        app = app.app  # type: ignore[attr-defined]
    return {"path": "/graphql", "query_string": b"", "headers": headers, "app": app}


def texts(messages: list[Any]) -> list[dict[str, Any]]:
    assert all("bytes" not in message or message["bytes"] is None for message in messages)
    return [json.loads(message["text"]) for message in messages if message["type"] == "websocket.send"]


def strip(answer: dict[str, Any]) -> dict[str, Any]:
    """The members that every transport has."""
    return {name: value for name, value in answer.items() if value is not None and name in ("data", "errors")}
