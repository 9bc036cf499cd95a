"""Turns errors into problems: the status of each domain error, and application/problem+json (RFC 9457)."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from starlette.responses import Response

from api.http.auth import Unauthorised
from api.http.problem_catalogue import PROBLEM_CODES
from api.http.rate_limit import QuotaExceeded
from api.http.strict_json import MalformedJson
from domain.declare.errors import (
    BadRequest,
    Busy,
    ClientRevoked,
    Conflict,
    DatabaseError,
    DomainError,
    Forbidden,
    InProgress,
    Invalid,
    Issue,
    NotFound,
    PupilMerged,
    Stale,
)
from domain.jobs.staging import StagingFull

STATUS: Mapping[type[DomainError], int] = {
    Invalid: 422,
    BadRequest: 400,
    NotFound: 404,
    PupilMerged: 410,
    Forbidden: 403,
    ClientRevoked: 401,
    Conflict: 409,
    Stale: 412,
    InProgress: 409,
    StagingFull: 507,
    Busy: 503,
    DatabaseError: 503,
}
MIN_ERROR_STATUS, MAX_ERROR_STATUS = 400, 599
QUOTA_EXCEEDED = "quota-exceeded"
UNAVAILABLE_SECONDS = 10
"""Retry-After of an error of the database."""
log = structlog.get_logger()


class HttpProblem(DomainError):
    """An error of HTTP itself: a method, a media type, a size."""

    type: str | None = None
    """The URI of a problem type that IANA registers, if it is one."""
    members: Mapping[str, Any] = {}
    """The extension members of that type."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, code=code)
        self.status = status
        self.headers = dict(headers or {})


class TooMany(HttpProblem):
    """The problem 429 (draft-ietf-httpapi-ratelimit-headers-11, section 5). `wait` is in seconds."""

    type = "https://iana.org/assignments/http-problem-types#quota-exceeded"
    members = {"violated-policies": ["default"]}

    def __init__(self, wait: int) -> None:
        headers = {"Retry-After": str(wait)}
        super().__init__(429, QUOTA_EXCEEDED, "RateLimit says how much is left.", headers)


class ProblemUnknown(HttpProblem):
    """404 for an error code that is not in the catalogue."""

    def __init__(self) -> None:
        super().__init__(404, "problem-unknown", "GET /problems lists the codes.")


def find_status(error: DomainError) -> int:
    """The status of a response to this error."""
    if isinstance(error, HttpProblem):
        return error.status
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def find_title(error: DomainError) -> str:
    """The title of the error's code in the catalogue."""
    entry = PROBLEM_CODES.get(error.code)
    return HTTPStatus(find_status(error)).phrase if entry is None else entry.title


def make_problem(error: DomainError, base_url: str) -> dict[str, Any]:
    """The problem object, the same in REST and in GraphQL's `extensions.problem`. It has no request id, so equal problems are equal bytes."""
    body: dict[str, Any] = {
        "type": f"{base_url}/problems/{error.code}",
        "title": find_title(error),
        "status": find_status(error),
        "detail": error.detail,
    }
    if isinstance(error, HttpProblem):
        body |= {"type": error.type or body["type"], **error.members}
    if isinstance(error, PupilMerged):
        body["mergedInto"] = error.merged_into
    if error.issues:
        body["issues"] = error.issues
    return body


def list_headers(error: DomainError) -> dict[str, str]:
    """The header fields of a response to this error."""
    if isinstance(error, Busy):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, DatabaseError):
        return {"Retry-After": str(UNAVAILABLE_SECONDS)}
    return error.headers if isinstance(error, HttpProblem) else {}


def merge_headers(errors: Iterable[DomainError]) -> dict[str, str]:
    """The header fields of one response to several errors. Its Retry-After is the longest one."""
    merged: dict[str, str] = {}
    for error in errors:
        for name, value in list_headers(error).items():
            longer = name == "Retry-After" and name in merged and int(merged[name]) > int(value)
            merged[name] = merged[name] if longer else value
    return merged


def respond(error: DomainError, base_url: str) -> Response:
    """The response to an error."""
    headers = {"Cache-Control": "no-store", **list_headers(error)}
    if isinstance(error, ClientRevoked):
        headers["WWW-Authenticate"] = Unauthorised(base_url, error.detail).challenge
    return Response(msgspec.json.encode(make_problem(error, base_url)), find_status(error), headers, "application/problem+json")


def as_domain_error(error: Exception) -> DomainError:
    """The domain error for an exception. An unforeseen one becomes a 500 that says nothing of its cause, which is logged."""
    match error:
        case DomainError():
            return error
        case Unauthorised():
            return HttpProblem(401, "unauthorised", str(error), {"WWW-Authenticate": error.challenge})
        case QuotaExceeded():
            return TooMany(error.wait)
        case MalformedJson():
            issues = tuple(Issue(*issue) for issue in error.issues)
            return BadRequest("The body is not acceptable JSON.", code="json-malformed", issues=issues)
    # a database error's text and detail may hold personal data: only its kind and code are logged
    log.error("unforeseen", kind=type(error).__name__, sqlstate=getattr(error, "sqlstate", None), at=format_traceback(error))
    return HttpProblem(500, "unforeseen", "The error was noted; X-Request-Id finds it in the log.")


def format_traceback(error: Exception) -> str:
    """The file and line of each of the last frames of an exception."""
    trace = error.__traceback__
    frames: list[str] = []
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename.rsplit('/', 3)[-1]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(frames[-6:])
