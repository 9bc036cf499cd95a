"""The OpenAPI 3.1 document, made from the catalogue and the commands' inputs and outputs. Nothing about a field is said here a second time.

A test holds its paths to those of routes.py, and another lets schemathesis ask the server whatever the document allows.
"""

import inspect
import json
from collections.abc import Iterable
from functools import cache

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.http.body import MAX_BODY, MAX_OTHER_BODY
from api.http.body import MAX_VALUES as BODY_VALUES
from api.http.problems import STATUS
from api.rest import csv
from api.rest.openapi import parameters
from api.rest.openapi.components import EVERYWHERE, HEADERS, describe_not_modified, list_headers_told, list_refusals, make_refusals
from api.rest.openapi.problem_codes import TAG as ERRORS_TAG
from api.rest.openapi.problem_codes import describe_problem_paths
from api.rest.openapi.schemas import MAX_SHEET, SCALARS, JsonObject, bounded, ref, schemas, whole
from api.rest.query_string import MAX_DEPTH
from api.rest.routes import MERGE_PATCH, success_status, url_of
from api.settings import Settings
from domain import COMMANDS, RESOURCES
from domain.aggregates import aggregate_rows, query
from domain.clients.me import Me
from domain.declare.resource import Link, Resource
from domain.declare.scopes import Scope
from domain.read.query import MAX_NESTED_FIRST, MAX_VALUES, MAX_VALUES_PER_REQUEST
from domain.write.command import MAX_BATCH_ISSUES, MAX_ENTRIES, Command
from domain.write.decode import MAX_ISSUES

VERSION = "0.1.0"
"""The version of the contract; openapi/CHANGES.md tells integrators what each one changed."""

TAGS = {
    "Roster": ("Trusts, schools, pupils and when they were on roll.", ("imports", "trusts", "schools", "pupils", "groups")),
    "Assessment": ("What is judged, when, in which scheme, and what is aimed at.", ("windows", "schemes", "judgements", "targets")),
    "Insight": ("Results pooled over pupils.", ("aggregates",)),
    "Doors": ("Where tokens come from, what a client may do with them, and the other way to ask.", ()),
}
"""A room's description, and the nouns of the scopes that open it."""

UNDECLARED = {
    Scope.AGGREGATES_READ: "read aggregates, in which no child is disclosed",
    Scope.AGGREGATES_INTERNAL: "read aggregates unsuppressed, for the controller's own staff",
    Scope.IMPORTS_WRITE: "import the register, where it is held on the installation",
}
"""What is opened by the scopes of which no declaration speaks."""

INTRODUCTION = f"""\
Mark once, read many. The same data stands behind /graphql under the same rules.

A list answers `data` and `page`: `first` says how many rows, and `page.endCursor`, given back as `after`, what comes next (the `Link` header
holds that URL). `fields` narrows a row to the fields named, so no property of a row is required; without it a row has every field whose scope
the token carries. `include` adds linked rows, up to {MAX_DEPTH} deep with dots (`include=pupils.judgements`, `fields=name,pupils.yearGroup`),
and `pupils.first` says how many of them, up to {MAX_NESTED_FIRST}. A filter is a field's name; repeated, it means any of the values. What
identifies a pupil never stands in a URL: POST /v1/pupils/lookup filters by it.

`x-scope` names the scope that a field needs beyond that of its resource. Where a token does not carry it the field is left out, and asking for
it is a 403; where a grant does not give it at the row's school, its value is null.

An answer to a GET has an `ETag`, and given back as `If-None-Match` it saves the answer: a 304 says that it would be the same, and is never wrong.

PATCH (a merge patch, RFC 7396) and DELETE are for the version of the row that was read: its GET, without `include`, has it as `ETag`, and
`If-Match` gives it back. A row that has moved on is a 412 that tells its version, and a missing `If-Match` a 428.

Every error is `application/problem+json` (RFC 9457) and lists everything that is wrong. What does not exist and what is out of reach are the
same 404. HEAD is answered as GET, without a body; another method is a 405 whose `Allow` names those that a URL has, and a URL that is not there a 404.

A batch has at most {MAX_ENTRIES:,} rows and {MAX_BODY // 1024**2} MiB, any other body {MAX_OTHER_BODY // 1024**2} MiB, and either {BODY_VALUES:,} values
(objects, arrays, texts, numbers, true, false and null; an empty object or array counts twice): beyond it the answer is 413. A filter takes
{MAX_VALUES:,} values, and all filters of a request together {MAX_VALUES_PER_REQUEST:,}. A row tells {MAX_ISSUES} of its issues; once a batch has told
{MAX_BATCH_ISSUES:,}, each further row tells its first. Names that may have been meant stand with the first unknown names of a request.

A client may ask as often as its quota allows, which is told with every answer (`RateLimit`) and grows with the number of tenants that it reaches;
beyond it the answer is 429 with `Retry-After`. A browser app may read answers when its origin is on its client's list.

A 503 has `Retry-After`. Of a write it says what is known: that nothing of this request was written, or, with the code `outcome-unknown`, that nobody knows,
because the database was lost while it was committed. The same request again, best with an `Idempotency-Key`, tells, once the database is back.
"""

SHAPE = """Of CSV alone. long, unless said: a row per row; wide: a row per school and no pages, with a column per combination of the other dimensions \
and figure, such as `reading.expectedPercent` or `reading.sex=F.expectedPercent`; c suppressed, z not applicable, x not available."""

VIEW = """public: the answer as a reader with aggregates:read at the same schools gets it, with the reason beside each suppressed row. It needs \
aggregates:internal at every school counted."""

UNCHANGED = {"$ref": "#/components/responses/Unchanged"}
READING = (400, 401, 403, 429, 500, 503)
SENDING = (*READING, 408, 413)
WRITING = (*SENDING, 409, 422)


def make_document(base_url: str) -> JsonObject:
    """The OpenAPI 3.1 document of the server at `base_url`, ready for JSON."""
    posted = list(COMMANDS.values())
    whole_document = {
        "openapi": "3.1.1",
        "info": {
            "title": "Markonce",
            "version": VERSION,
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_url}],
        "tags": [*({"name": room, "description": doc} for room, (doc, _) in TAGS.items()), ERRORS_TAG],
        "paths": _paths() | describe_problem_paths(base_url),
        "components": {
            "schemas": schemas(
                {command.input for command in posted if takes_body(command)} | {command.output for command in posted}
            ),
            "responses": {**make_refusals(base_url), "Unchanged": describe_not_modified()},
            "parameters": parameters.every(),
            "headers": HEADERS,
            "securitySchemes": {
                "oauth2": {
                    "type": "oauth2",
                    "flows": {"clientCredentials": _flow(base_url)},
                    "description": "Access tokens of ten minutes: JWTs by RFC 9068, signed with ES256, by the practices of RFC8725.",
                },
                "client": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "A client's id and secret, for the token endpoint alone.",
                },
            },
        },
    }
    return {part: bounded(content) for part, content in whole_document.items()}


def openapi_text() -> str:
    """The document as it is committed, for the server that `demo` brings up."""
    return json.dumps(make_document(Settings.base_url), indent=2, ensure_ascii=False) + "\n"


@cache
def _encode(base_url: str) -> bytes:
    return msgspec.json.encode(make_document(base_url))


async def serve(request: Request) -> Response:
    """GET /openapi.json."""
    return Response(_encode(request.app.state.settings.base_url), media_type="application/json")


def _paths() -> dict[str, JsonObject]:
    paths: dict[str, JsonObject] = {}
    for resource in RESOURCES.values():
        paths[f"/v1/{resource.plural}"] = {"get": _list(resource)}
        if resource.has_id:
            paths[f"/v1/{resource.plural}/{{id}}"] = {"get": _item(resource)}
            for name, link in resource.links.items():
                if link.many:
                    paths[f"/v1/{resource.plural}/{{id}}/{name}"] = {"get": _linked(resource, name, link)}
        if resource.has_lookup:
            paths[f"/v1/{resource.plural}/lookup"] = {"post": _lookup(resource)}
    paths["/v1/aggregates"] = {"get": _aggregates()}
    paths["/v1/receipts/{key}"] = {"get": _kept()}
    paths["/v1/me"] = {"get": _me()}
    paths["/v1/imports/gias"] = {"post": _import()}
    for command in COMMANDS.values():
        method, path = url_of(command)
        paths.setdefault(path, {})[method.lower()] = _command(command)
    return {**paths, "/oauth/token": {"post": _token()}, "/graphql": {"post": _graphql()}}


def takes_body(command: Command) -> bool:
    """Whether a command says in a body what it is about; another one's URL says it all."""
    method, path = url_of(command)
    return method == "PATCH" or "{id}" not in path


def _list(resource: Resource) -> JsonObject:
    answers, condition = _read(_rows(resource), resource.versioned)
    operation, summary = f"list{_capital(resource.plural)}", f"List {resource.plural} within reach"
    asked = [*condition, *parameters.of_list(resource)]
    return _operation(operation, summary, [resource.scope], answers, READING, asked, doc=resource.doc)


def _read(answer: JsonObject, is_versioned: bool) -> tuple[dict[int, JsonObject], list[JsonObject]]:
    """The answers to a GET, and its condition: what is not versioned has no entity tag."""
    if is_versioned:
        answer["headers"] |= list_headers_told("ETag")
        return {200: answer, 304: UNCHANGED}, [parameters.shared("IfNoneMatch")]
    return {200: answer}, []


def _linked(resource: Resource, name: str, link: Link) -> JsonObject:
    """A list of what a to-many link of one row leads to."""
    target = RESOURCES[link.target]
    told = [parameters.query(argument, given.doc, SCALARS[given.kind]) for argument, given in link.arguments.items()]
    answers, condition = _read(_rows(target, link.doc), resource.versioned and target.versioned)
    asked = [parameters.shared("Id"), *condition, *told, *parameters.of_list(target)]
    operation = f"list{_capital(name)}Of{resource.type_name}"
    summary = f"List {name} of one {resource.name}"
    return _operation(operation, summary, [target.scope], answers, (*READING, 404), asked, doc=link.doc)


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _rows(resource: Resource, doc: str = "") -> JsonObject:
    answer = _answer(doc or resource.doc, f"{resource.type_name}Page", "Link")
    answer["content"]["text/csv"] = {"schema": {"type": "string", "maxLength": MAX_SHEET}}
    return answer


def _item(resource: Resource) -> JsonObject:
    answers, condition = _read(_answer(resource.doc, resource.type_name), resource.versioned)
    asked = [parameters.shared("Id"), *condition, *parameters.of_row(resource)]
    summary, statuses = f"Get one {resource.name}", (*READING, 404)
    return _operation(f"get{resource.type_name}", summary, [resource.scope], answers, statuses, asked, doc=resource.doc)


def _lookup(resource: Resource) -> JsonObject:
    summary = f"List {resource.plural} by what may not stand in a URL"
    answer = {200: _answer(resource.doc, f"{resource.type_name}Page")}
    body = _body(f"{resource.type_name}Lookup")
    return _operation(
        f"lookup{resource.plural.capitalize()}", summary, [resource.scope], answer, (*SENDING, 415), [], body, resource.doc
    )


def _command(command: Command) -> JsonObject:
    """A bulk command knows preferences; one that changes a row says which version it is for."""
    method, path = url_of(command)
    named, bulk, changes = "{id}" in path, command.entries is not None, command.is_single_row
    asked = [
        parameters.shared(name)
        for name in ["Id"] * named + ["IfMatch"] * changes + ["IdempotencyKey", "DryRun"] + ["Prefer"] * bulk
    ]
    told = ["Idempotency-Replayed", *["Preference-Applied"] * bulk, *["ETag"] * (method == "PATCH")]
    answer = _answer(command.doc, command.output.__name__, *told)
    status = success_status(command)
    if status == 204:
        del answer["content"]
    answers = {200: _answer("What a dry run would have done.", command.output.__name__), status: answer}
    statuses = {*WRITING, *(STATUS[kind] for kind in command.fails), *[415] * takes_body(command), *[428] * changes}
    statuses -= set() if named else {404}  # what a body names and is not there is an issue of the body
    body = _body(command.input.__name__, *MERGE_PATCH[: method == "PATCH"]) if takes_body(command) else None
    summary = command.doc.split(". ")[0].rstrip(".")
    return _operation(command.operation, summary, [command.scope], answers, statuses, asked, body, command.doc)


def _aggregates() -> JsonObject:
    one_each = "One of them; needed unless it is grouped by."
    dimensions = {"type": "string", "enum": list(query.DIMENSIONS)}
    group_by = parameters.names(
        "groupBy", "One to three dimensions.", dimensions, minItems=1, maxItems=query.MAX_DIMENSIONS, uniqueItems=True
    )
    schools = {"type": "array", "items": {"type": "string"}, "maxItems": query.MAX_SCHOOLS}
    answer = _answer("A page of groups.", "AggregatePage", "Link")
    answer["content"]["text/csv"] = {"schema": {"type": "string", "maxLength": MAX_SHEET}}
    answers, condition = _read(answer, is_versioned=True)
    asked = [
        *condition,
        group_by | {"required": True},
        parameters.query("window", f"A window's code or id. {one_each}", {"type": "string"}),
        parameters.query("subject", f"A subject's code. {one_each}", {"type": "string"}),
        parameters.query("trust", "A trust's id or GIAS group UID: its members on the window's census date.", {"type": "string"}),
        parameters.query("school", "A school's id or URN; repeat for several.", schools),
        parameters.query("view", VIEW, {"enum": list(query.VIEWS), "default": query.VIEWS[0]}),
        parameters.query("format", "csv is for spreadsheets. `Accept: text/csv` means the same.", {"enum": ["json", "csv"]}),
        parameters.query("shape", SHAPE, {"enum": list(csv.SHAPES)}),
        parameters.query("first", "How many rows.", whole(query.MAX_ROWS, default=query.DEFAULT_ROWS)),
        parameters.query("after", "The endCursor of the page before.", {"type": "string"}),
    ]
    doc = inspect.cleandoc(aggregate_rows.AggregateRow.__doc__ or "")
    scopes = [Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL]
    return _operation("listAggregates", "Results pooled over pupils", scopes, answers, (*READING, 422), asked, doc=doc)


def _kept() -> JsonObject:
    doc = "What the client was answered; 404 where no request with the key ended well within 7 days."
    answer = _answer(doc, "KeptAnswers")
    summary = "What became of a request whose answer was lost"
    statuses = (400, 401, 404, 409, 429, 500, 503)
    return _operation(
        "getKeptAnswers", summary, [], {200: answer}, statuses, [parameters.shared("Key")], doc=doc, room="Assessment"
    )


def _me() -> JsonObject:
    answer = _answer(inspect.cleandoc(Me.__doc__ or ""), "Me")
    return _operation(
        "getMe",
        "Where the client stands; needs no scope",
        [],
        {200: answer},
        (400, 401, 429, 500, 503),
        [],
        doc=inspect.cleandoc(Me.__doc__ or ""),
    )


def _import() -> JsonObject:
    body = {"required": True, "content": {"multipart/form-data": {"schema": ref("GiasFiles")}}}
    answer = _answer("What became of the rows; rows and files that could not be read are among the issues.", "ImportReport")
    summary, statuses = "Import the register that GIAS publishes", (*SENDING, 415, 422)
    doc = "Trusts, schools and memberships as they stood on the day of the extract; what is unchanged is not written again."
    return _operation("importGias", summary, [Scope.IMPORTS_WRITE], {200: answer}, statuses, [], body, doc)


def _token() -> JsonObject:
    content = {"application/x-www-form-urlencoded": {"schema": ref("TokenRequest")}}
    doc = "Refused, and why (RFC 6749, section 5.2)."
    refusal = {str(status): _answer(doc, "TokenRefusal") for status in (400, 408, 413)}
    refusal["401"] = _answer(f"{doc} WWW-Authenticate is told to who came with HTTP Basic.", "TokenRefusal", "WWW-Authenticate")
    refusal["429"] = _answer("Asked too often, or too often wrongly from this address.", "TokenRefusal", "Retry-After")
    return {
        "operationId": "issueToken",
        "summary": "An access token by client_credentials (RFC 6749, section 4.4)",
        "description": "It is good for ten minutes and carries every scope of the client's grants, or those asked for.",
        "tags": ["Doors"],
        "security": [{"client": []}, {}],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _answer("The token.", "Token")} | refusal | list_refusals((500, 503)),
    }


GRAPHQL_RESPONSE = "application/graphql-response+json"
GRAPHQL = f"""\
The schema is told by introspection, and holds the same resources and commands.

A request that is refused before its document is read is answered as in REST, with a problem. Once a document was read, the answer is GraphQL's, in the
media type that is accepted. As {GRAPHQL_RESPONSE}, which is also sent where there is no Accept header, it has a status: an operation of which nothing was
done has no `data`, and the status of its error. So it is for a mutation all of whose commands failed with one status; where some were carried out, or they
failed differently, it is 200 with `data` and `errors`. As application/json it is always 200. In both, the headers are those of REST: where anything may be
tried again, `Retry-After` tells after how long; `Idempotency-Replayed` is told where every command's answer was kept from an earlier request."""
UNREAD, OF_A_DOCUMENT = (401, 406, 408, 413, 415, 429), (403, 404, 409, 412, 422)
"""Statuses of a request that is refused before its document is read, and of an operation of which nothing was done; 400, 500 and 503 are both."""


def _graphql() -> JsonObject:
    answers = {200: _answer("The answer, with `errors` where something could not be done.", "GraphqlAnswer", *_RETRIED)}
    answers[200]["content"][GRAPHQL_RESPONSE] = {"schema": ref("GraphqlAnswer")}
    for status in (400, *OF_A_DOCUMENT, 500, 503):
        refusal = answers[status] = _answer(
            "Nothing was done; `errors` says why.", "GraphqlAnswer", *_RETRIED[: status in (409, 503)]
        )
        refusal["content"] = {GRAPHQL_RESPONSE: {"schema": ref("GraphqlAnswer")}}
        if status not in OF_A_DOCUMENT:
            refusal["content"]["application/problem+json"] = {"schema": ref("Problem")}
    return {
        "operationId": "graphql",
        "summary": "One GraphQL operation",
        "description": GRAPHQL,
        "tags": ["Doors"],
        "security": [{"oauth2": []}],
        "requestBody": _body("GraphqlRequest"),
        "responses": {str(status): answer for status, answer in sorted(answers.items())} | list_refusals(UNREAD),
    }


_RETRIED = ("Retry-After", "Idempotency-Replayed")


def _operation(
    name: str,
    summary: str,
    scopes: list[Scope],
    answers: dict[int, JsonObject],
    refusals: Iterable[int],
    asked: list[JsonObject],
    body: JsonObject | None = None,
    doc: str | None = None,
    room: str | None = None,
) -> JsonObject:
    """An operation that needs one of the scopes, if any, and answers one of the answers, or one of the refusals by status."""
    noun = scopes[0].split(":")[0] if scopes else None
    room = room or next((room for room, (_, nouns) in TAGS.items() if noun in nouns), "Doors")
    return {
        "operationId": name,
        "summary": summary,
        **({"description": doc} if doc else {}),
        "tags": [room],
        "security": [{"oauth2": [scope.value]} for scope in scopes] or [{"oauth2": []}],
        "parameters": asked,
        **({"requestBody": body} if body else {}),
        "responses": {str(status): answer for status, answer in answers.items()} | list_refusals(refusals),
    }


# Parameters, bodies and answers


def _json(schema: str) -> JsonObject:
    return {"application/json": {"schema": ref(schema)}}


def _body(schema: str, *beside: str) -> JsonObject:
    """A body of JSON, or of the media types beside it."""
    return {"required": True, "content": {kind: {"schema": ref(schema)} for kind in (*beside, "application/json")}}


def _answer(doc: str, schema: str, *headers: str) -> JsonObject:
    return {"description": doc, "headers": list_headers_told(*EVERYWHERE, *headers), "content": _json(schema)}


def _flow(base_url: str) -> JsonObject:
    return {"tokenUrl": f"{base_url}/oauth/token", "scopes": {scope.value: _opens(scope) for scope in Scope}}


def _opens(scope: Scope) -> str:
    """What a scope opens, by the declarations."""
    read = [resource.plural for resource in RESOURCES.values() if resource.scope is scope]
    fields = [f"{r.name}.{name}" for r in RESOURCES.values() for name, field in r.fields.items() if field.scope is scope]
    commands = [command.operation for command in COMMANDS.values() if command.scope is scope]
    opened = [f"{verb} {', '.join(names)}" for verb, names in (("read", read), ("see", fields), ("call", commands)) if names]
    text = "; ".join(opened) or UNDECLARED.get(scope, "nothing needs it yet")
    return f"{text[0].upper()}{text[1:]}."
