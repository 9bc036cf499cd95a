"""python -m api explain: shows the query that a request is read as, its SQL statements, and PostgreSQL's plans for
them."""

import json
import string
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree
from starlette.applications import Starlette

from api.app import build_app
from api.http.auth import Authenticator
from api.settings import Settings
from domain.access.caller import Caller
from domain.clients import clients
from domain.clients.tokens import Attempt, read_facts
from domain.declare.errors import DomainError, Issue
from domain.declare.resource import Field, Filter, Resource
from domain.read.checks import observed_queries
from domain.read.explain import HIDDEN, Explanation, RecordingDatabase, hide_personal, open_recording_database
from domain.read.query import (
    Condition,
    FieldValue,
    FixedText,
    ListQuery,
    NestedObject,
    ObjectMembers,
    OutputFields,
    PageRows,
    Query,
    RowQuery,
    ToMany,
    ToOne,
    unwrap_parameter,
)

MAX_REQUEST_SECONDS = 3600
"""Long, since a slow statement is what one wants explained."""


@dataclass(frozen=True)
class RequestExplanation:
    """The queries of a request (none, where a function of the domain answers it), the bytes of its response, and its
    statements."""

    queries: list[Query]
    length: int
    statements: list[Explanation]


class _ExplainedAuthenticator(Authenticator):
    """Treats every request as this caller's, without a token: whoever has the settings may explain. The client's status
    is read as usual."""

    def __init__(self, database: RecordingDatabase, settings: Settings, caller: Caller) -> None:
        super().__init__(database, settings)
        self._caller = caller

    async def find_caller(self, authorization: list[str]) -> Caller:
        return self._caller


async def explain(settings: Settings, client: str, request: str, variables: dict[str, Any] | None = None) -> RequestExplanation:
    """Sends a request to the application in process, as a client with all scopes that its grants give.

    `request` is a URL that begins with /, or a GraphQL document. Raises DomainError for an unknown client, and for an
    error response.
    """
    database = await open_recording_database(settings.database_url, MAX_REQUEST_SECONDS, pooled=settings.pooled)
    try:
        client_id = await _find_client_id(database, client)
        caller = Caller(client_id, (await read_facts(database, Attempt(client_id))).client.scopes)
        app = build_app(replace(settings, request_seconds=MAX_REQUEST_SECONDS), database)
        app.state.authenticator = _ExplainedAuthenticator(database, settings, caller)
        queries: list[Query] = []
        statements: list[tuple[str, tuple[Any, ...]]] = []
        database.recorded = statements
        observation = observed_queries.set(queries)
        try:
            if request.startswith("/"):
                body = await _send_request(app, "GET", request)
            else:
                payload = json.dumps({"query": request, "variables": variables}).encode()
                body = await _send_request(app, "POST", "/graphql", payload)
        finally:
            observed_queries.reset(observation)
        return RequestExplanation(queries, len(body), [await database.explain(*statement) for statement in list(statements)])
    finally:
        await database.close()


async def _find_client_id(database: RecordingDatabase, id_or_name: str) -> UUID:
    async with database.without_caller() as connection:
        if client := await clients.find_client(connection, id_or_name):
            return client.id
        found = await clients.list_clients(connection)
    names = dict.fromkeys(client.name for client in found if client.revoked_at is None)  # several tenants may use one name
    raise DomainError(f"There is no client {id_or_name}. There are: {', '.join(names) or 'none'}.")


async def _send_request(app: Starlette, method: str, url: str, body: bytes = b"") -> bytes:
    """Returns the body of the response. Raises DomainError for an error response."""
    path, _, query = url.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": quote(path, safe=string.punctuation).encode(),
        "query_string": quote(query, safe=string.punctuation).encode(),
        "headers": [(b"content-type", b"application/json")] if body else [],
        "root_path": "",
        "client": None,
        "server": None,
    }
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    response, status = b"".join(message.get("body", b"") for message in messages), messages[0]["status"]
    document: Any = {}
    with suppress(ValueError):  # a CSV file or an HTML page
        document = json.loads(response)
    if status >= HTTPStatus.BAD_REQUEST and "errors" not in document:
        raise DomainError(document.get("detail", f"The status is {status}."), issues=tuple(_read_issues(document)))
    if path == "/graphql" and "errors" in document:
        problems = [error.get("extensions", {}).get("problem", {}) for error in document["errors"]]
        issues = tuple(issue for problem in problems for issue in _read_issues(problem))
        raise DomainError("\n".join(map(_format_error, document["errors"])), issues=issues)
    return response


def _read_issues(problem: dict[str, Any]) -> Iterable[Issue]:
    return (Issue(issue["at"], issue["code"], issue["message"]) for issue in problem.get("issues", ()))


def _format_error(error: dict[str, Any]) -> str:
    locations = ", ".join(f"line {location['line']}, column {location['column']}" for location in error.get("locations", ()))
    return f"{error['message']} ({locations})" if locations else str(error["message"])


def print_explanation(explanation: RequestExplanation, console: Console) -> None:
    """Prints an explanation. Values of fields that identify a person are hidden."""
    console.rule("plan")
    count = len(explanation.statements)
    for query in explanation.queries:
        console.print(_build_tree(query))
    if not explanation.queries:
        console.print("No rows are selected: a function of the domain answers.")
    for i, statement in enumerate(explanation.statements, 1):
        position = f" {i} of {count}" if count > 1 else ""
        console.rule(f"statement{position}")
        console.out(statement.sql.strip("\n"), highlight=False)
        console.print()
        for no, (kind, value) in enumerate(statement.binds, 1):
            console.out(f"${no:<3} {kind:<12} {hide_personal(value)}", highlight=False)
        console.rule(f"EXPLAIN (ANALYZE, BUFFERS){position}")
        for line in statement.plan:
            console.out(line, highlight=False)
    planning = sum(statement.planning for statement in explanation.statements)
    execution = sum(statement.execution for statement in explanation.statements)
    console.rule()
    console.print(
        f"{explanation.length:,} bytes answered; {count} {'statement' if count == 1 else 'statements'};"
        f" {planning:,.2f} ms of planning, {execution:,.2f} ms of execution"
    )


def _build_tree(query: Query) -> Tree:
    if isinstance(query, ListQuery):
        tree = Tree(_describe_list(query.resource.plural, query))
        _add_fields(tree, query.resource, query.fields)
    else:
        tree = Tree(_describe_row(query))
        _add_fields(tree, query.resource, query.fields)
    return tree


def _describe_row(query: RowQuery) -> str:
    key = ", ".join(f"{column.key} = {hide_personal(unwrap_parameter(value))}" for column, value in query.key_values)
    return escape(f"{query.resource.name} where {key or 'there is no key'}")


def _describe_list(heading: str, query: ListQuery) -> str:
    parts = [f"first {query.first}"]
    if query.where:
        parts.append(f"where {' and '.join(map(_describe_condition, query.where))}")
    parts += [f"{name} {unwrap_parameter(value)}" for name, value in query.arguments]
    if query.order:
        parts.append(f"order {', '.join(('-' if order.descending else '') + order.name for order in query.order)}")
    if query.after is not None:
        parts.append("after a cursor")
    return escape(f"{heading}: {'; '.join(parts)}")


def _describe_condition(condition: Condition) -> str:
    is_hidden = condition.field.filter is Filter.BODY
    values = [HIDDEN if is_hidden else str(unwrap_parameter(value)) for value in condition.values]
    if condition.comparison is not None:
        return f"{condition.name}.{condition.comparison} {values[0]}"
    return f"{condition.name} = {' or '.join(dict.fromkeys(values))}"


def _add_fields(tree: Tree, resource: Resource, items: OutputFields) -> None:
    """Adds a line with the fields that have values, and a branch for each object and list below it."""

    def format_name(key: str, field: Field) -> str:
        name = next(name for name, own_field in resource.fields.items() if own_field is field)
        return key if key == name else f"{key}: {name}"

    leaves = []
    branches: list[tuple[str, Resource, OutputFields]] = []
    for key, item in items:
        match item:
            case FieldValue(field=field) | ObjectMembers(field=field):
                leaves.append(format_name(key, field))
            case FixedText(text=text):
                leaves.append(f"{key}: '{text}'")
            case PageRows(fields=row):
                branches.append((escape(f"{key}: each row"), resource, row))
            case NestedObject(fields=nested):
                branches.append((escape(key), resource, nested))
            case ToOne(resource=target, fields=row):
                branches.append((escape(f"{key} → one {target.name}"), target, row))
            case ToMany(query=query):
                branches.append((_describe_list(f"{key} → {query.resource.plural}", query), query.resource, query.fields))
            case _:
                leaves.append(key)
    if leaves:
        tree.add(escape(", ".join(leaves)))
    for heading, branch_resource, branch_items in branches:
        _add_fields(tree.add(heading), branch_resource, branch_items)
