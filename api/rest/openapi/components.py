"""What operations of the OpenAPI document share: headers and the answer for each status that is an error."""

from collections.abc import Iterable

import msgspec

from api.http.body import MAX_BODY, too_large
from api.http.problems import HttpProblem, TooMany, find_status, make_problem
from api.rest.openapi.schemas import JsonObject, ref
from domain.access.caller import make_scope_error
from domain.declare.errors import BadRequest, Busy, Conflict, DomainError, Issue, NotFound, Stale, make_invalid
from domain.declare.scopes import Scope

HEADERS: dict[str, JsonObject] = {
    "X-Request-Id": {"description": "Finds the request in the log.", "schema": {"type": "string"}},
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
        "description": "Stands until anything changes on which the answer depends. Of one row without `include` it begins with the row's version and "
        "a dot, and a change of the row names it in If-Match. Absent where what is read is not versioned.",
        "schema": {"type": "string", "examples": ['"3.6c5b9a3a1f5d4f0e8b7c2d10"']},
    },
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "Where tokens come from (RFC 9728).", "schema": {"type": "string"}},
    "Accept-Post": {
        "description": "The media types that a POST may send (Linked Data Platform, 7.1).",
        "schema": {"type": "string"},
    },
    "Accept-Patch": {"description": "The media types that a PATCH may send (RFC 5789, 3.1).", "schema": {"type": "string"}},
    "Accept-Encoding": {
        "description": "The content codings that a body may have (RFC 9110, 12.5.3).",
        "schema": {"type": "string"},
    },
    "Preference-Applied": {"description": "The preferences that were followed (RFC 7240).", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "true where this answer was kept from the first request with the key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}

EVERYWHERE = ("X-Request-Id", "RateLimit", "RateLimit-Policy", "Access-Control-Allow-Origin")
"""The headers that any answer may have."""

_MISSPELT = Issue("yeargroup", "filter-unknown", "pupils cannot be filtered by yeargroup. Did you mean yearGroup?")
_UNKNOWN = Issue("/entries/412/grade", "grade-unknown", "The scheme has no such grade. Did you mean EXS?")
_MOVED_ON = Issue("version", Stale.code, "The row has version 4 now. Read it again, and change it as it is.")
_ERRORS: list[DomainError] = [
    BadRequest("1 parameter cannot be read.", code="parameter-invalid", issues=(_MISSPELT,)),
    HttpProblem(401, "unauthorised", "A valid access token is needed", "The access token has expired."),
    make_scope_error({"recordJudgements": Scope.JUDGEMENTS_WRITE}),
    NotFound(),
    HttpProblem(406, "not-acceptable", "There is no such representation", "Accept application/json."),
    Conflict("The window is planned; only a window that is open can become closed.", code="window-state"),
    HttpProblem(408, "body-too-slow", "The body did not arrive in time", "A body arrives within 60 seconds."),
    Stale("The row has version 4 now. Read it again, and change it as it is.", issues=(_MOVED_ON,)),
    too_large(MAX_BODY),
    HttpProblem(415, "media-type", "The media type is not supported", "Send application/json."),
    make_invalid([_UNKNOWN]),
    HttpProblem(428, "precondition-required", "The version is missing", "If-Match says which version of the row this is for."),
    TooMany(1),
    HttpProblem(500, "unforeseen", "Something went wrong here", "The error was noted; X-Request-Id finds it in the log."),
    Busy("The database did not answer in time."),
]
"""An error for each status that a documented request can get."""
_TOLD: dict[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    415: ("Accept-Post", "Accept-Patch", "Accept-Encoding"),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
"""Headers that errors of a status have beside those of any answer."""


def make_refusals(base_url: str) -> dict[str, JsonObject]:
    """By name, an answer for each status: problem+json, with an example written by what writes the real ones."""
    return {_name(find_status(error)): _refusal(error, base_url) for error in _ERRORS}


def describe_not_modified() -> JsonObject:
    """What says that the client has the answer."""
    return {
        "description": "The client has the answer: it would be the same again.",
        "headers": list_headers_told(*EVERYWHERE, "ETag"),
    }


def _refusal(error: DomainError, base_url: str) -> JsonObject:
    headers = (*EVERYWHERE, *_TOLD.get(find_status(error), ()))
    content = {
        "application/problem+json": {"schema": ref("Problem"), "example": msgspec.to_builtins(make_problem(error, base_url))}
    }
    return {"description": f"{error.title}.", "headers": list_headers_told(*headers), "content": content}


def _name(status: int) -> str:
    return f"Problem{status}"


def list_refusals(statuses: Iterable[int]) -> dict[str, JsonObject]:
    """The answers of an operation that can end with these statuses."""
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(set(statuses))}


def list_headers_told(*headers: str) -> dict[str, JsonObject]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
