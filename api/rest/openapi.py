"""The OpenAPI 3.1 document, made from the catalogue and the commands' inputs and outputs. Nothing about a field is said here a second time.

A test holds its paths to those of routes.py, and another lets schemathesis ask the server whatever the document allows.
"""

import inspect
import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.problems import STATUS
from api.rest.components import EVERYWHERE, HEADERS, PARAMETERS, refusals, refused, shared, told_in
from api.rest.request import FIRST, MAX_DEPTH, MAX_FIRST, MAX_NESTED_FIRST
from api.rest.schemas import MAX_SHEET, SCALARS, Json, bounded, field_path, link_path, listed, ref, schemas, whole
from api.settings import Settings
from domain import COMMANDS, RESOURCES
from domain.engine.access import Scope
from domain.engine.command import REST, Command
from domain.engine.resource import Field, Filter, Resource
from domain.insight import aggregates

VERSION = "0.1.0"
"""The version of the contract; openapi/CHANGES.md tells integrators what each one changed."""

ROOMS = {
    "Roster": ("Trusts, schools, pupils and when they were on roll.", ("imports", "trusts", "schools", "pupils", "groups")),
    "Assessment": ("What is judged, when, in which scheme, and what is aimed at.", ("windows", "schemes", "judgements", "targets")),
    "Insight": ("Results pooled over pupils.", ("aggregates",)),
    "Doors": ("Where tokens come from, and the other way to ask.", ()),
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

Every error is `application/problem+json` (RFC 9457) and lists everything that is wrong. What does not exist and what is out of reach are the
same 404.
"""

READING = (400, 401, 403, 429, 500, 503)
SENDING = (*READING, 408, 413)
WRITING = (*SENDING, 409, 422)


def document(base_url: str) -> Json:
    """The OpenAPI 3.1 document of the server at `base_url`, ready for JSON."""
    posted = [command for command in COMMANDS.values() if REST in command.doors]
    whole_document = {
        "openapi": "3.1.1",
        "info": {
            "title": "Markonce",
            "version": VERSION,
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_url}],
        "tags": [{"name": room, "description": doc} for room, (doc, _) in ROOMS.items()],
        "paths": _paths(),
        "components": {
            "schemas": schemas(
                {command.takes for command in posted if "{id}" not in url_of(command)} | {command.gives for command in posted}
            ),
            "responses": refusals(base_url),
            "parameters": PARAMETERS,
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
    return json.dumps(document(Settings.base_url), indent=2, ensure_ascii=False) + "\n"


@lru_cache(maxsize=4)
def _served(base_url: str) -> bytes:
    return msgspec.json.encode(document(base_url))


async def serve(request: Request) -> Response:
    """GET /openapi.json."""
    return Response(_served(request.app.state.settings.base_url), media_type="application/json")


def _paths() -> dict[str, Json]:
    paths: dict[str, Json] = {}
    for resource in RESOURCES.values():
        paths[f"/v1/{resource.plural}"] = {"get": _list(resource)}
        if resource.has_id:
            paths[f"/v1/{resource.plural}/{{id}}"] = {"get": _item(resource)}
    paths["/v1/aggregates"] = {"get": _aggregates()}
    paths["/v1/imports/gias"] = {"post": _import()}
    paths["/v1/pupils/lookup"] = {"post": _lookup(RESOURCES["pupil"])}
    for command in COMMANDS.values():
        if REST in command.doors:
            paths.setdefault(url_of(command), {})["post"] = _command(command)
    return {**paths, "/oauth/token": {"post": _token()}, "/graphql": {"post": _graphql()}}


def url_of(command: Command) -> str:
    """Where a command is posted to, by its name: record_ and create_ to the noun's list, any other verb to one row of it."""
    verb, noun = command.name.split("_", 1)
    plural = next(r.plural for r in RESOURCES.values() if noun in (r.name, r.plural))
    return f"/v1/{plural}" if verb in ("record", "create") else f"/v1/{plural}/{{id}}/{verb}"


def _list(resource: Resource) -> Json:
    parameters = [
        *_tree_parameters(resource),
        _names("sort", "Order, by one field after another; - for descending. Nulls come last.", ref(f"{resource.type_name}Sort")),
        _query("first", "How many rows.", whole(MAX_FIRST, default=FIRST)),
        _query("after", "The endCursor of the page before. It holds for the same filters and order.", {"type": "string"}),
        _query(
            "format",
            "csv is for spreadsheets, and takes no to-many links. `Accept: text/csv` means the same.",
            {"enum": ["json", "csv"]},
        ),
        *(_filter(name, field) for name, field in resource.fields.items() if field.filter is Filter.ANYWHERE),
    ]
    answer = _answer(resource.doc, f"{resource.type_name}Page", "Link")
    answer["content"]["text/csv"] = {"schema": {"type": "string", "maxLength": MAX_SHEET}}
    summary = f"List {resource.plural} within reach"
    return _operation(
        f"list{resource.plural.capitalize()}", summary, [resource.scope], {200: answer}, READING, parameters, doc=resource.doc
    )


def _item(resource: Resource) -> Json:
    answer = {200: _answer(resource.doc, resource.type_name)}
    parameters = [shared("Id"), *_tree_parameters(resource)]
    summary, statuses = f"Get one {resource.name}", (*READING, 404)
    return _operation(f"get{resource.type_name}", summary, [resource.scope], answer, statuses, parameters, doc=resource.doc)


def _lookup(resource: Resource) -> Json:
    summary = f"List {resource.plural} by what may not stand in a URL"
    answer = {200: _answer(resource.doc, f"{resource.type_name}Page")}
    body = _body(f"{resource.type_name}Lookup")
    return _operation(
        f"lookup{resource.plural.capitalize()}", summary, [resource.scope], answer, (*SENDING, 415), [], body, resource.doc
    )


def _command(command: Command) -> Json:
    """A bulk command knows preferences; one that names a row in its URL takes no body."""
    named, bulk = "{id}" in url_of(command), command.entries is not None
    parameters = [shared(name) for name in ["Id"] * named + ["IdempotencyKey", "DryRun"] + ["Prefer"] * bulk]
    answer = _answer(command.doc, command.gives.__name__, "Idempotency-Replayed", *["Preference-Applied"] * bulk)
    made = command.name.startswith("create_")
    answers = {200: _answer("What a dry run would have made.", command.gives.__name__), 201: answer} if made else {200: answer}
    statuses = (*WRITING, *(STATUS[kind] for kind in command.fails), *(() if named else (415,)))
    body = None if named else _body(command.takes.__name__)
    summary = command.doc.split(". ")[0].rstrip(".")
    return _operation(command.operation, summary, [command.scope], answers, statuses, parameters, body, command.doc)


def _aggregates() -> Json:
    one_each = "One of them; needed unless it is grouped by."
    dimensions = {"type": "string", "enum": list(aggregates.DIMENSIONS)}
    group_by = _names(
        "groupBy", "One to three dimensions.", dimensions, minItems=1, maxItems=aggregates.MOST_DIMENSIONS, uniqueItems=True
    )
    schools = {"type": "array", "items": {"type": "string"}, "maxItems": aggregates.MOST_SCHOOLS}
    parameters = [
        group_by | {"required": True},
        _query("window", f"A window's code or id. {one_each}", {"type": "string"}),
        _query("subject", f"A subject's code. {one_each}", {"type": "string"}),
        _query("trust", "A trust's id or GIAS group UID: its members on the window's census date.", {"type": "string"}),
        _query("school", "A school's id or URN; repeat for several.", schools),
        _query("first", "How many rows.", whole(aggregates.MOST_FIRST, default=aggregates.FIRST)),
        _query("after", "The endCursor of the page before.", {"type": "string"}),
    ]
    doc = inspect.cleandoc(aggregates.AggregateRow.__doc__ or "")
    answer = _answer("A page of groups.", "AggregatePage")
    scopes = [Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL]
    return _operation("listAggregates", "Results pooled over pupils", scopes, {200: answer}, (*READING, 422), parameters, doc=doc)


def _import() -> Json:
    body = {"required": True, "content": {"multipart/form-data": {"schema": ref("GiasFiles")}}}
    answer = _answer("What became of the rows; rows and files that could not be read are among the issues.", "ImportReport")
    summary, statuses = "Import the register that GIAS publishes", (*READING, 413, 415, 422)
    doc = "Trusts, schools and memberships as they stood on the day of the extract; what is unchanged is not written again."
    return _operation("importGias", summary, [Scope.IMPORTS_WRITE], {200: answer}, statuses, [], body, doc)


def _token() -> Json:
    content = {"application/x-www-form-urlencoded": {"schema": ref("TokenRequest")}}
    refusal = _answer("Refused, and why (RFC 6749, section 5.2).", "TokenRefusal")
    return {
        "operationId": "issueToken",
        "summary": "An access token by client_credentials (RFC 6749, section 4.4)",
        "description": "It is good for ten minutes and carries every scope of the client's grants, or those asked for.",
        "tags": ["Doors"],
        "security": [{"client": []}, {}],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _answer("The token.", "Token"), "400": refusal, "401": refusal, "413": refusal}
        | refused((429, 500, 503)),
    }


def _graphql() -> Json:
    answer = _answer("The answer, with `errors` where something could not be done.", "GraphqlAnswer")
    answer["content"]["application/graphql-response+json"] = {"schema": ref("GraphqlAnswer")}
    unread = {**answer, "content": answer["content"] | {"application/problem+json": {"schema": ref("Problem")}}}
    return {
        "operationId": "graphql",
        "summary": "One GraphQL operation",
        "description": "The schema is told by introspection, and holds the same resources and commands.",
        "tags": ["Doors"],
        "security": [{"oauth2": []}],
        "requestBody": _body("GraphqlRequest"),
        "responses": {"200": answer, "400": unread, "default": unread} | refused((401, 408, 413, 415, 429, 500)),
    }


def _operation(
    name: str,
    summary: str,
    scopes: list[Scope],
    answers: dict[int, Json],
    refusals: Iterable[int],
    parameters: list[Json],
    body: Json | None = None,
    doc: str | None = None,
) -> Json:
    """An operation that needs one of the scopes and answers one of the answers, or one of the refusals by status."""
    room = next(room for room, (_, nouns) in ROOMS.items() if scopes[0].split(":")[0] in nouns)
    return {
        "operationId": name,
        "summary": summary,
        **({"description": doc} if doc else {}),
        "tags": [room],
        "security": [{"oauth2": [scope.value]} for scope in scopes],
        "parameters": parameters,
        **({"requestBody": body} if body else {}),
        "responses": {str(status): answer for status, answer in answers.items()} | refused(refusals),
    }


# Parameters, bodies and answers


def _query(name: str, doc: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": doc, "schema": schema}


def _names(name: str, doc: str, item: Json, **limits: Any) -> Json:
    """A parameter that is a list of names with commas between them."""
    return _query(name, doc, listed(item) | limits) | {"style": "form", "explode": False}


def _filter(name: str, field: Field) -> Json:
    """A parameter that may repeat."""
    return _query(name, f"{field.doc} Repeated: any of them.", listed(SCALARS[field.kind])) | {"style": "form", "explode": True}


def _tree_parameters(resource: Resource) -> list[Json]:
    parameters = [_names("fields", "The fields wanted; of linked rows, with dots.", field_path(resource))]
    if resource.links:
        parameters.append(_names("include", f"The links wanted, up to {MAX_DEPTH} deep with dots.", link_path(resource)))
    many = [name for name, link in resource.links.items() if link.many]
    return parameters + [
        _query(f"{name}.first", f"How many {name} a row: {FIRST} unless said. It needs include={name}.", whole(MAX_NESTED_FIRST))
        for name in many
    ]


def _json(schema: str) -> Json:
    return {"application/json": {"schema": ref(schema)}}


def _body(schema: str) -> Json:
    return {"required": True, "content": _json(schema)}


def _answer(doc: str, schema: str, *headers: str) -> Json:
    return {"description": doc, "headers": told_in(*EVERYWHERE, *headers), "content": _json(schema)}


def _flow(base_url: str) -> Json:
    return {"tokenUrl": f"{base_url}/oauth/token", "scopes": {scope.value: _opens(scope) for scope in Scope}}


def _opens(scope: Scope) -> str:
    """What a scope opens, by the declarations."""
    read = [resource.plural for resource in RESOURCES.values() if resource.scope is scope]
    fields = [f"{r.name}.{name}" for r in RESOURCES.values() for name, field in r.fields.items() if field.scope is scope]
    commands = [command.operation for command in COMMANDS.values() if command.scope is scope]
    opened = [f"{verb} {', '.join(names)}" for verb, names in (("read", read), ("see", fields), ("call", commands)) if names]
    text = "; ".join(opened) or UNDECLARED.get(scope, "nothing needs it yet")
    return f"{text[0].upper()}{text[1:]}."
