"""python -m api explain: how a request is read, the statements it sends, and what PostgreSQL does with them."""

import json
import string
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
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
from domain.clients.tokens import Attempt, load
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
    OutputFields,
    PageRows,
    Query,
    RowQuery,
    ToMany,
    ToOne,
    value_now,
)

MAX_REQUEST = 3600
"""Seconds: who wants to know why a statement is slow waits for it."""


@dataclass(frozen=True)
class RequestExplanation:
    """What a request was read as (nothing, where a function of the domain answers it), how long its answer is, and its statements."""

    roots: list[Query]
    length: int
    statements: list[Explanation]


class _ExplainedAuthenticator(Authenticator):
    """Takes every request for one of this caller, who has proved nothing: whoever holds the settings may look. How the client stands is asked as ever."""

    def __init__(self, database: RecordingDatabase, settings: Settings, caller: Caller) -> None:
        super().__init__(database, settings)
        self._known = caller

    async def find_caller(self, authorization: list[str]) -> Caller:
        return self._known


async def explain(settings: Settings, client: str, request: str, variables: dict[str, Any] | None = None) -> RequestExplanation:
    """Asks the application in process, as a client with all scopes that its grants give. A request is a URL that begins with /, or a GraphQL document.

    Raises DomainError: for an unknown client, and with what the request was answered where that is no success.
    """
    database = await open_recording_database(settings.database_url, MAX_REQUEST)
    try:
        client_id = await _find(database, client)
        caller = Caller(client_id, (await load(database, Attempt(client_id))).client.scopes)
        app = build_app(replace(settings, request_seconds=MAX_REQUEST), database)
        app.state.authenticator = _ExplainedAuthenticator(database, settings, caller)
        roots: list[Query] = []
        noted: list[tuple[str, tuple[Any, ...]]] = []
        database.noted = noted
        noting_roots = observed_queries.set(roots)
        try:
            if request.startswith("/"):
                body = await _ask(app, "GET", request)
            else:
                body = await _ask(app, "POST", "/graphql", json.dumps({"query": request, "variables": variables}).encode())
        finally:
            observed_queries.reset(noting_roots)
        return RequestExplanation(roots, len(body), [await database.explain(*each) for each in list(noted)])
    finally:
        await database.close()


async def _find(database: RecordingDatabase, named: str) -> UUID:
    async with database.register() as connection:
        if found := await clients.find_client(connection, named):
            return found.id
        names = [known.name for known in await clients.list_clients(connection) if known.revoked_at is None]
    raise DomainError(f"There is no client {named}. There are: {', '.join(names) or 'none'}.")


async def _ask(app: Starlette, method: str, url: str, body: bytes = b"") -> bytes:
    """The body of an answer. Raises what was answered instead."""
    path, _, query = url.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "query_string": quote(query, safe=string.punctuation).encode(),
        "headers": [(b"content-type", b"application/json")] if body else [],
        "root_path": "",
        "client": None,
        "server": None,
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    told: Any = {}
    with suppress(ValueError):  # a spreadsheet, or a page for a browser
        told = json.loads(answer)
    if sent[0]["status"] >= 400 and "errors" not in told:
        raise DomainError(told.get("detail", f"Answered {sent[0]['status']}."), issues=tuple(_issues(told)))
    if path == "/graphql" and "errors" in told:
        problems = [error.get("extensions", {}).get("problem", {}) for error in told["errors"]]
        issues = tuple(issue for problem in problems for issue in _issues(problem))
        raise DomainError("\n".join(map(_message, told["errors"])), issues=issues)
    return answer


def _issues(problem: dict[str, Any]) -> Iterable[Issue]:
    return (Issue(issue["at"], issue["code"], issue["message"]) for issue in problem.get("issues", ()))


def _message(error: dict[str, Any]) -> str:
    places = ", ".join(f"line {place['line']}, column {place['column']}" for place in error.get("locations", ()))
    return f"{error['message']} ({places})" if places else str(error["message"])


def show(explained: RequestExplanation, console: Console) -> None:
    """Prints it. Values of what identifies a person are hidden, wherever they stand."""
    console.rule("plan")
    for root in explained.roots:
        console.print(_tree(root))
    if not explained.roots:
        console.print("No rows are selected: a function of the domain answers.")
    for i, statement in enumerate(explained.statements, 1):
        of = f" {i} of {len(explained.statements)}" if len(explained.statements) > 1 else ""
        console.rule(f"statement{of}")
        console.out(statement.sql.strip("\n"), highlight=False)
        console.print()
        for no, (kind, value) in enumerate(statement.binds, 1):
            console.out(f"${no:<3} {kind:<12} {hide_personal(value)}", highlight=False)
        console.rule(f"EXPLAIN (ANALYZE, BUFFERS){of}")
        for line in statement.plan:
            console.out(line, highlight=False)
    count = len(explained.statements)
    planning, execution = (sum(getattr(each, name) for each in explained.statements) for name in ("planning", "execution"))
    console.rule()
    console.print(
        f"{explained.length:,} bytes answered; {count} {'statement' if count == 1 else 'statements'};"
        f" {planning:,.2f} ms of planning, {execution:,.2f} ms of execution"
    )


def _tree(root: Query) -> Tree:
    if isinstance(root, ListQuery):
        tree = Tree(_page(root.resource.plural, root))
        _grow(tree, root.resource, root.items)
    else:
        tree = Tree(_row(root))
        _grow(tree, root.resource, root.row)
    return tree


def _row(single: RowQuery) -> str:
    picked = ", ".join(f"{column.key} = {hide_personal(value_now(value))}" for column, value in single.key_values)
    return escape(f"{single.resource.name} where {picked or 'nothing is picked'}")


def _page(heading: str, page: ListQuery) -> str:
    parts = [f"first {page.first}"]
    if page.where:
        parts.append(f"where {' and '.join(map(_condition, page.where))}")
    parts += [f"{name} {value_now(value)}" for name, value in page.arguments]
    if page.order:
        parts.append(f"order {', '.join(('-' if order.descending else '') + order.name for order in page.order)}")
    if page.after is not None:
        parts.append("after a cursor")
    return escape(f"{heading}: {'; '.join(parts)}")


def _condition(condition: Condition) -> str:
    is_hidden = condition.field.filter is Filter.BODY
    values = [HIDDEN if is_hidden else str(value_now(value)) for value in condition.values]
    if condition.comparison is not None:
        return f"{condition.name}.{condition.comparison} {values[0]}"
    return f"{condition.name} = {' or '.join(dict.fromkeys(values))}"


def _grow(tree: Tree, resource: Resource, items: OutputFields) -> None:
    """The values on one line, and what they stand beside below it."""

    def name(key: str, field: Field) -> str:
        own = next(name for name, known in resource.fields.items() if known is field)
        return key if key == own else f"{key}: {own}"

    leaves = []
    branches: list[tuple[str, Resource, OutputFields]] = []
    for key, item in items:
        match item:
            case FieldValue(field=field):
                leaves.append(name(key, field))
            case FixedText(text=text):
                leaves.append(f"{key}: '{text}'")
            case PageRows(row=row):
                branches.append((escape(f"{key}: each row"), resource, row))
            case NestedObject(items=nested):
                branches.append((escape(key), resource, nested))
            case ToOne(resource=target, row=row):
                branches.append((escape(f"{key} → one {target.name}"), target, row))
            case ToMany(selection=page):
                branches.append((_page(f"{key} → {page.resource.plural}", page), page.resource, page.items))
            case _:
                leaves.append(key)
    if leaves:
        tree.add(escape(", ".join(leaves)))
    for heading, of, below in branches:
        _grow(tree.add(heading), of, below)
