"""What the operations of the OpenAPI document share: tags, headers, bodies, responses, and the problem for each status that is an error."""

from collections.abc import Iterable
from http import HTTPStatus

import msgspec

from api.http.body import MAX_BODY, make_too_large
from api.http.problems import HttpProblem, TooMany, find_status, find_title, make_problem
from api.rest.openapi import parameters
from api.rest.openapi.schemas import MAX_CSV, JsonObject, refer
from domain.access.caller import make_scope_error
from domain.declare.errors import BadRequest, Busy, Conflict, DomainError, Issue, NotFound, PupilMerged, Stale, make_invalid
from domain.declare.scopes import Scope
from domain.jobs.staging import FULL, StagingFull

TAGS = {
    "Roster": (
        "Trusts, schools, pupils and when they were on roll.",
        ("imports", "trusts", "schools", "pupils", "groups", "privacy"),
    ),
    "Assessment": ("What is judged, when, in which scheme, and what is aimed at.", ("windows", "schemes", "judgements", "targets")),
    "Insight": ("Results pooled over pupils, and what is collected for them.", ("aggregates", "publications", "collections")),
    "Access": ("The clients of a trust or school, and the grants that it gives.", ("clients", "grants")),
    "Authentication": ("Access tokens, and what this client may do with them.", ()),
    "GraphQL": ("The same data and commands as a GraphQL schema.", ()),
}
"""The description of each tag, and the nouns of the scopes whose operations have it."""

READING = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""Statuses of the errors of any read."""
OF_A_KEY = {*READING, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT} - {HTTPStatus.FORBIDDEN}
"""Errors of what an Idempotency-Key stores."""
SENDING = (*READING, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
"""Statuses of the errors of any request with a body."""
WRITING = (*SENDING, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
"""Statuses of the errors of any write."""

CSV_CONTENT = {"text/csv": {"schema": {"type": "string", "maxLength": MAX_CSV}}}
SVG_CONTENT = {"image/svg+xml": {"schema": {"type": "string", "maxLength": MAX_CSV}}}

HEADERS: dict[str, JsonObject] = {
    "X-Request-Id": {
        "description": "Identifies the request in the log: the request's own id, where it has one of up to 64 letters, digits, dots, underscores"
        " and hyphens; else a new one.",
        "schema": {"type": "string"},
    },
    "Deprecation": {
        "description": "Since when the path has had a successor, which Link names (RFC 9745).",
        "schema": {"type": "string"},
    },
    "Sunset": {"description": "Until when the path answers (RFC 8594).", "schema": {"type": "string"}},
    "RateLimit": {
        "description": 'What is left of a policy, and seconds until it is whole again, as `"default";r=99;t=1`.',
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": 'The policies of this client: so many units in so many seconds, as `"default";q=100;w=10`.',
        "schema": {"type": "string"},
    },
    "Access-Control-Allow-Origin": {
        "description": "The origin that asks, where the client's allow-list holds it; absent otherwise.",
        "schema": {"type": "string"},
    },
    "Link": {"description": 'The next page, as rel="next" (RFC 8288); absent on the last.', "schema": {"type": "string"}},
    "ETag": {
        "description": "Changes when anything changes on which the response depends. Of one row without `include` it begins with the row's version and "
        "a dot, and a change of the row sends it as If-Match. Absent where what is read has no version.",
        "schema": {"type": "string", "examples": ['"3.6c5b9a3a1f5d4f0e8b7c2d10"']},
    },
    "Location": {"description": "The URL of what was made (RFC 9110, 10.2.2).", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {
        "description": "How to authenticate (RFC 6750), with the URL of the metadata (RFC 9728).",
        "schema": {"type": "string"},
    },
    "Accept-Post": {
        "description": "The media types that a POST may send (Linked Data Platform, 7.1).",
        "schema": {"type": "string"},
    },
    "Accept-Patch": {"description": "The media types that a PATCH may send (RFC 5789, 3.1).", "schema": {"type": "string"}},
    "Accept-Encoding": {
        "description": "The content codings that a body may have (RFC 9110, 12.5.3).",
        "schema": {"type": "string"},
    },
    "Markonce-Version": {
        "description": "The version of what was written, where the installation has replicas. A read that sends it as Markonce-Min-Version sees the"
        " write.",
        "schema": {"type": "string"},
    },
    "Preference-Applied": {"description": "The preferences that were followed (RFC 7240).", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "true where this response was stored from the first request with the key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}

EVERYWHERE = ("X-Request-Id", "RateLimit", "RateLimit-Policy", "Access-Control-Allow-Origin")
"""The headers that any response may have."""

_MISSPELT_FILTER = Issue("yeargroup", "filter-unknown", "pupils cannot be filtered by yeargroup. Did you mean yearGroup?")
_UNKNOWN_GRADE = Issue("/entries/412/grade", "grade-unknown", "The scheme has no such grade. Did you mean EXS?")
_OUTDATED = Issue("If-Match", Stale.code, "The row has version 4 now. Read it again, and change it as it is.")
_ERRORS: list[DomainError] = [
    BadRequest("1 parameter cannot be read.", code="parameter-invalid", issues=(_MISSPELT_FILTER,)),
    HttpProblem(HTTPStatus.UNAUTHORIZED, "unauthorised", "The access token has expired. Get a new one from POST /oauth/token."),
    make_scope_error({"recordJudgements": Scope.JUDGEMENTS_WRITE}),
    NotFound(),
    PupilMerged("019a5c1e-7c00-7004-9a3b-6f0d2e8c1b47"),
    HttpProblem(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", "Accept application/json."),
    Conflict("The window is planned; only a window that is open can become closed.", code="window-state"),
    HttpProblem(HTTPStatus.REQUEST_TIMEOUT, "body-too-slow", "A body arrives within 60 seconds."),
    Stale("The row has version 4 now. Read it again, and change it as it is.", issues=(_OUTDATED,)),
    make_too_large(MAX_BODY),
    HttpProblem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media-type", "Send application/json."),
    make_invalid([_UNKNOWN_GRADE]),
    HttpProblem(
        HTTPStatus.PRECONDITION_REQUIRED,
        "precondition-required",
        "If-Match says which version of the row this is for.",
    ),
    TooMany(1),
    HttpProblem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "unforeseen",
        "The error was noted; X-Request-Id finds it in the log.",
    ),
    Busy("The database did not answer in time."),
    StagingFull(FULL),
]
"""An error for each status that a documented request can get."""
_HEADERS_OF_ERRORS: dict[int, tuple[str, ...]] = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.CONFLICT: ("Retry-After",),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("Accept-Post", "Accept-Patch", "Accept-Encoding"),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
    HTTPStatus.INSUFFICIENT_STORAGE: ("Retry-After",),
}
"""Headers that the errors of a status have beside EVERYWHERE."""


def make_problem_responses(base_url: str) -> dict[str, JsonObject]:
    """A response for each status that is an error, by name: problem+json, with an example made as the server makes real ones."""
    responses = {_name_problem(find_status(error)): _make_problem_response(error, base_url) for error in _ERRORS}
    return responses | {
        _deprecate_name(_name_problem(status)): deprecate_response(responses[_name_problem(status)]) for status in OF_A_KEY
    }


def _deprecate_name(name: str) -> str:
    return f"Deprecated{name}"


def deprecate_response(response: JsonObject) -> JsonObject:
    """The response of a path that has a successor."""
    if "$ref" in response:
        url, _, name = response["$ref"].rpartition("/")
        return {"$ref": f"{url}/{_deprecate_name(name)}"}
    return response | {"headers": response["headers"] | refer_to_headers("Deprecation", "Sunset", "Link")}


def _make_problem_response(error: DomainError, base_url: str) -> JsonObject:
    headers = (*EVERYWHERE, *_HEADERS_OF_ERRORS.get(find_status(error), ()))
    content = {
        "application/problem+json": {"schema": refer("Problem"), "example": msgspec.to_builtins(make_problem(error, base_url))}
    }
    return {"description": f"{find_title(error)}.", "headers": refer_to_headers(*headers), "content": content}


def _name_problem(status: int) -> str:
    return f"Problem{int(status)}"


def refer_to_problems(statuses: Iterable[int]) -> dict[str, JsonObject]:
    """References to the problem responses of these statuses."""
    return {str(int(status)): {"$ref": f"#/components/responses/{_name_problem(status)}"} for status in sorted(set(statuses))}


def refer_to_headers(*headers: str) -> dict[str, JsonObject]:
    """References to these headers, by name."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def describe_not_modified() -> JsonObject:
    """The response 304."""
    return {
        "description": "The response would be the same as the one that the client has.",
        "headers": refer_to_headers(*EVERYWHERE, "ETag"),
    }


def make_response(doc: str, schema: str, *headers: str) -> JsonObject:
    """A response in JSON, with these headers beside EVERYWHERE."""
    content = {"application/json": {"schema": refer(schema)}}
    return {"description": doc, "headers": refer_to_headers(*EVERYWHERE, *headers), "content": content}


def make_read_responses(response: JsonObject, is_versioned: bool) -> tuple[dict[int, JsonObject], list[JsonObject]]:
    """The responses to a GET, and the parameters that are header fields: If-None-Match where the data has a version."""
    if is_versioned:
        response["headers"] |= refer_to_headers("ETag")
        not_modified = {"$ref": "#/components/responses/Unchanged"}
        return {200: response, HTTPStatus.NOT_MODIFIED: not_modified}, [
            parameters.refer("IfNoneMatch"),
            parameters.refer("MinVersion"),
        ]
    return {200: response}, [parameters.refer("MinVersion")]


def make_body(schema: str, *media_types: str) -> JsonObject:
    """A required body in JSON, or in one of these media types."""
    return {"required": True, "content": {kind: {"schema": refer(schema)} for kind in (*media_types, "application/json")}}


def _find_tag(noun: str | None) -> str:
    for tag, (_, nouns) in TAGS.items():
        if noun in nouns:
            return tag
    raise ValueError(f"No tag of the OpenAPI document has the scopes of {noun}: add it to TAGS in api/rest/openapi/components.py.")


def make_operation(
    name: str,
    summary: str,
    scopes: list[Scope],
    responses: dict[int, JsonObject],
    errors: Iterable[int],
    options: list[JsonObject],
    body: JsonObject | None = None,
    doc: str | None = None,
    tag: str | None = None,
) -> JsonObject:
    """An operation that needs one of the scopes, if there are any. `errors` are the statuses of its errors and `options` its parameters.

    Its tag is that of its first scope's noun.
    """
    noun = scopes[0].split(":")[0] if scopes else None
    return {
        "operationId": name,
        "summary": summary,
        **({"description": doc} if doc else {}),
        "tags": [tag or _find_tag(noun)],
        "security": [{"oauth2": [scope.value]} for scope in scopes] or [{"oauth2": []}],
        "parameters": options,
        **({"requestBody": body} if body else {}),
        "responses": {str(int(status)): response for status, response in responses.items()} | refer_to_problems(errors),
    }
