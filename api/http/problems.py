"""Domain errors as the web says them: problem+json (RFC 9457) and GraphQL errors. The only place that knows status codes."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog
from starlette.responses import Response

from api.http.auth import Unauthorised
from api.http.rate_limit import QuotaExceeded
from api.http.strict_json import MalformedJson
from domain.declare.errors import (
    BadRequest,
    Busy,
    Conflict,
    DatabaseError,
    DomainError,
    Forbidden,
    InProgress,
    Invalid,
    NotFound,
    Stale,
)

STATUS: Mapping[type[DomainError], int] = {
    Invalid: 422,
    BadRequest: 400,
    NotFound: 404,
    Forbidden: 403,
    Conflict: 409,
    Stale: 412,
    InProgress: 409,
    Busy: 503,
    DatabaseError: 503,
}
UNAVAILABLE_FOR = 10
"""Seconds after which a database that is not available may be again."""
log = structlog.get_logger()


class HttpProblem(DomainError):
    """What only the web can get wrong: a method, a media type, a size."""

    type: str | None = None
    """Of a problem that is not ours alone: its registered type."""
    members: Mapping[str, Any] = {}
    """What a problem of that type has beside what all have."""

    def __init__(self, status: int, code: str, title: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, code=code, title=title)
        self.status = status
        self.headers = dict(headers or {})


class TooMany(HttpProblem):
    """429, as draft-ietf-httpapi-ratelimit-headers-11 section 5 has it."""

    type = "https://iana.org/assignments/http-problem-types#quota-exceeded"
    members = {"violated-policies": ["default"]}

    def __init__(self, wait: int) -> None:
        headers = {"Retry-After": str(wait)}
        super().__init__(429, "quota-exceeded", "The quota is exceeded", "RateLimit says how much is left.", headers)


class ProblemUnknown(HttpProblem):
    """404 for an error code that is not in the catalogue."""

    def __init__(self) -> None:
        super().__init__(404, "problem-unknown", "There is no such error code", "GET /problems lists the codes.")


def find_status(error: DomainError) -> int:
    if isinstance(error, HttpProblem):
        return error.status
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def make_problem(error: DomainError, base_url: str) -> dict[str, Any]:
    """The problem object, the same in REST and in GraphQL's `extensions.problem`. It holds no request id, so that equal problems are equal bytes."""
    body: dict[str, Any] = {
        "type": f"{base_url}/problems/{error.code}",
        "title": error.title,
        "status": find_status(error),
        "detail": error.detail,
    }
    if isinstance(error, HttpProblem):
        body |= {"type": error.type or body["type"], **error.members}
    if error.issues:
        body["issues"] = error.issues
    return body


def list_headers(error: DomainError) -> dict[str, str]:
    if isinstance(error, Busy):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, DatabaseError):
        return {"Retry-After": str(UNAVAILABLE_FOR)}
    return error.headers if isinstance(error, HttpProblem) else {}


def merge_headers(errors: Iterable[DomainError]) -> dict[str, str]:
    """The headers of one answer that tells several errors. Its Retry-After is the longest: after it each may be tried again."""
    merged: dict[str, str] = {}
    for error in errors:
        for name, value in list_headers(error).items():
            longer = name == "Retry-After" and name in merged and int(merged[name]) > int(value)
            merged[name] = merged[name] if longer else value
    return merged


def respond(error: DomainError, base_url: str) -> Response:
    headers = {"Cache-Control": "no-store", **list_headers(error)}
    return Response(msgspec.json.encode(make_problem(error, base_url)), find_status(error), headers, "application/problem+json")


def as_domain_error(error: Exception) -> DomainError:
    """What was raised while answering, as a domain error; anything unforeseen becomes a bare 500 whose cause is only in the log."""
    match error:
        case DomainError():
            return error
        case Unauthorised():
            return HttpProblem(
                401, "unauthorised", "A valid access token is needed", str(error), {"WWW-Authenticate": error.challenge}
            )
        case QuotaExceeded():
            return TooMany(error.wait)
        case MalformedJson():
            from domain.declare.errors import Issue

            issues = tuple(Issue(*issue) for issue in error.issues)
            return BadRequest("The body is not JSON that can be taken.", code="json-malformed", issues=issues)
    # a database error's text and detail may hold personal data: only its kind and code are logged
    log.error("unforeseen", kind=type(error).__name__, sqlstate=getattr(error, "sqlstate", None), at=_locate(error))
    return HttpProblem(500, "unforeseen", "Something went wrong here", "The error was noted; X-Request-Id finds it in the log.")


def _locate(error: Exception) -> str:
    trace = error.__traceback__
    places: list[str] = []
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename.rsplit('/', 3)[-1]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(places[-6:])
