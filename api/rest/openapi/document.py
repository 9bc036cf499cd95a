"""The OpenAPI 3.1 document, made from the declared resources and the inputs and outputs of the commands."""

import json
from functools import cache

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from api.http.body import MAX_BODY, MAX_BODY_VALUES, MAX_OTHER_BODY
from api.rest.field_tree import MAX_DEPTH
from api.rest.openapi import parameters
from api.rest.openapi.components import HEADERS, TAGS, describe_not_modified, make_problem_responses
from api.rest.openapi.operations import has_body, list_paths
from api.rest.openapi.problem_codes import TAG as ERRORS_TAG
from api.rest.openapi.problem_codes import describe_problem_paths
from api.rest.openapi.schemas import JsonObject, add_bounds, make_schemas
from api.settings import Settings
from domain import COMMANDS, RESOURCES
from domain.declare.scopes import Scope
from domain.read.query import MAX_NESTED_FIRST, MAX_VALUES, MAX_VALUES_PER_REQUEST
from domain.write.batch import MAX_BATCH_ISSUES
from domain.write.command import MAX_ENTRIES
from domain.write.decode import MAX_ISSUES

VERSION = "0.1.0"
"""The version of the contract. openapi/CHANGES.md lists what each version changed."""

UNDECLARED = {
    Scope.AGGREGATES_READ: "read aggregates, in which no child is disclosed",
    Scope.AGGREGATES_INTERNAL: "read aggregates unsuppressed, for the controller's own staff",
    Scope.IMPORTS_WRITE: "import the register, where it is held on the installation",
}
"""What the scopes permit that no declaration names."""

INTRODUCTION = f"""\
Mark once, read many. The same data is at /graphql under the same rules.

A list responds with `data` and `page`. `first` sets how many rows a page has. For the next page send `page.endCursor` as `after`; the `Link`
header holds that URL. `fields` narrows a row to the fields named, so no property of a row is required; without it a row has every field whose
scope the token carries, except the few that are shown where they are named. `include`
adds linked rows, up to {MAX_DEPTH} deep with dots (`include=pupils.judgements`, `fields=name,pupils.yearGroup`),
and `pupils.first` sets how many of them, up to {MAX_NESTED_FIRST}. A filter is a field's name; repeated, it means any of the values. What
identifies a pupil is never sent in a URL: POST /v1/pupils/lookup filters by it.

`x-scope` names the scope that a field needs beyond that of its resource. Where a token does not carry it the field is left out, and asking for
it is a 403; where a grant does not give it at the row's school, its value is null.

The response to a GET has an `ETag`. Send it as `If-None-Match`: a 304 says that the response would be the same, and is never wrong.

PATCH (a merge patch, RFC 7396) and DELETE are for the version of the row that was read: the `ETag` of its GET, without `include`, is sent as
`If-Match`. A row that has changed since is a 412 that gives its version, and a missing `If-Match` a 428.

Every error is `application/problem+json` (RFC 9457) and lists everything that is wrong. What does not exist and what is out of reach are the
same 404. HEAD is answered as GET, without a body; another method is a 405 whose `Allow` lists those that a URL has, and an unknown URL a 404.

A batch has at most {MAX_ENTRIES:,} rows and {MAX_BODY // 1024**2} MiB, any other body {MAX_OTHER_BODY // 1024**2} MiB, and either {MAX_BODY_VALUES:,} values
(objects, arrays, texts, numbers, true, false and null; an empty object or array counts twice): beyond it the response is 413. A filter takes
{MAX_VALUES:,} values, and all filters of a request together {MAX_VALUES_PER_REQUEST:,}. Of a row, {MAX_ISSUES} issues are listed; after
{MAX_BATCH_ISSUES:,} issues of a batch, only the first of each further row. The first unknown names of a request are listed with similar names.

A client may send as many requests as its quota allows, which every response states (`RateLimit`) and which grows with the number of tenants within
its reach; beyond it the response is 429 with `Retry-After`. A browser app may read responses when its origin is on its client's list.

A 503 has `Retry-After`. For a write it says what is certain: that nothing of this request was written, or, with the code `outcome-unknown`, that
this is unknown, because the connection to the database was lost during the commit. Send the same request again, best with an `Idempotency-Key`, once the
database is back.
"""


def make_document(base_url: str) -> JsonObject:
    """The OpenAPI 3.1 document of the server at `base_url`, ready for JSON."""
    structs = {command.output for command in COMMANDS.values()}
    structs |= {command.input for command in COMMANDS.values() if has_body(command)}
    document = {
        "openapi": "3.1.1",
        "info": {
            "title": "Markonce",
            "version": VERSION,
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_url}],
        "tags": [*({"name": tag, "description": description} for tag, (description, _) in TAGS.items()), ERRORS_TAG],
        "paths": list_paths() | describe_problem_paths(base_url),
        "components": {
            "schemas": make_schemas(structs),
            "responses": {**make_problem_responses(base_url), "Unchanged": describe_not_modified()},
            "parameters": parameters.list_shared(),
            "headers": HEADERS,
            "securitySchemes": {
                "oauth2": {
                    "type": "oauth2",
                    "flows": {"clientCredentials": _describe_flow(base_url)},
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
    return {part: add_bounds(content) for part, content in document.items()}


def openapi_text() -> str:
    """The text of openapi/openapi.json, for the server that `demo` starts."""
    return json.dumps(make_document(Settings.base_url), indent=2, ensure_ascii=False) + "\n"


@cache
def _encode(base_url: str) -> bytes:
    return msgspec.json.encode(make_document(base_url))


async def serve(request: Request) -> Response:
    """GET /openapi.json."""
    return Response(_encode(request.app.state.settings.base_url), media_type="application/json")


def _describe_flow(base_url: str) -> JsonObject:
    return {"tokenUrl": f"{base_url}/oauth/token", "scopes": {scope.value: _describe_scope(scope) for scope in Scope}}


def _describe_scope(scope: Scope) -> str:
    """What a scope permits, by the declarations."""
    resources = [resource.plural for resource in RESOURCES.values() if resource.scope is scope]
    fields = [f"{r.name}.{name}" for r in RESOURCES.values() for name, field in r.fields.items() if field.scope is scope]
    commands = [command.operation for command in COMMANDS.values() if command.scope is scope]
    verbs = (("read", resources), ("see", fields), ("call", commands))
    permitted = [f"{verb} {', '.join(names)}" for verb, names in verbs if names]
    text = "; ".join(permitted) or UNDECLARED.get(scope, "nothing needs it yet")
    return f"{text[0].upper()}{text[1:]}."
