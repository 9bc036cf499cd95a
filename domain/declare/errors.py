"""What can go wrong, said in the words of the domain; `api/http/problems.py` alone turns these into status codes.

DomainError
├── Invalid             the request is understood and some of it is wrong; carries every issue
├── BadRequest          the request itself cannot be read: unknown parameter, malformed body
├── NotFound            absent, or out of the caller's reach: the same words for both
├── Forbidden           a scope is missing; names it and what needs it
├── Conflict            the state of things refuses it now
├── Stale               the row has another version than the change was meant for
├── Busy                the same request is still running, or the database is; says when to come back
└── DatabaseError       the database cannot be reached or refuses to start
"""

from datetime import datetime

from msgspec import Struct


class Current(Struct, frozen=True, rename="camel"):
    """What is stored where a row expected another version; version 0 means that nothing is. It names nobody."""

    version: int
    grade: str | None = None
    status: str | None = None
    mark: float | None = None
    recorded_at: datetime | None = None


class Issue(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One thing wrong. `at` is a JSON pointer into the body (RFC 6901), or the name of a query parameter. Messages hold no personal data.

    `current` stands beside a version-conflict, for a caller who may read what is stored.
    """

    at: str
    code: str
    message: str
    current: Current | None = None


class DomainError(Exception):
    """`code` is stable and public: the last part of the problem's `type` (RFC 9457)."""

    code = "error"
    title = "Something went wrong"

    def __init__(self, detail: str, *, code: str | None = None, title: str | None = None, issues: tuple[Issue, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.title = title or self.title
        self.issues = issues


class Invalid(DomainError):
    code, title = "invalid", "The request holds values that cannot be accepted"


class BadRequest(DomainError):
    code, title = "bad-request", "The request cannot be read"


class NotFound(DomainError):
    code, title = "not-found", "There is nothing here"

    def __init__(self) -> None:
        super().__init__("It does not exist, or it is not within the reach of this client.")


class Forbidden(DomainError):
    code, title = "scope-missing", "A scope is missing"


class Conflict(DomainError):
    code, title = "conflict", "The current state refuses this"


class Stale(DomainError):
    code, title = "precondition-failed", "The row has changed since it was read"


class Busy(DomainError):
    code, title = "busy", "Try again shortly"

    def __init__(self, detail: str, *, code: str | None = None, retry_after: int = 2) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class InProgress(Busy):
    """The same Idempotency-Key is being worked on by another request."""

    code, title = "idempotency-in-progress", "The first request with this key is still running"


class DatabaseError(DomainError):
    code, title = "database", "The database is not available"


def make_invalid(issues: list[Issue], detail: str | None = None) -> Invalid:
    """All the issues at once, as one error."""
    return Invalid(
        detail or f"{len(issues)} {'issue' if len(issues) == 1 else 'issues'}; each names its place.", issues=tuple(issues)
    )
