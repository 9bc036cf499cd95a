"""The errors of the domain. `api/http/problems.py` maps them to status codes.

DomainError
├── Invalid             the request is readable and some values are wrong; carries every issue
├── BadRequest          the request is malformed: unknown parameter, unreadable body
├── NotFound            the row does not exist or is out of the caller's reach: one text for both
├── PupilMerged         the pupil was merged into another one, which the caller reaches
├── Forbidden           the token lacks a scope, or the grants that gave it have ended; names the scope and what needs it
├── ClientRevoked       the client was revoked after its token was issued
├── Conflict            stored data forbids the change now
├── Stale               the row has another version than the request expects (If-Match, expectedVersion)
├── Busy                the same request is still running, or the database is busy or unavailable; carries Retry-After
└── DatabaseError       the database is unreachable, or not fit for this program
"""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

ERROR_CODES: set[str] = set()
"""The codes of errors and issues that there are. Who explains them declares them: api/http/problem_catalogue.py."""


class Current(Struct, frozen=True, rename="camel"):
    """The stored value of a row whose expectedVersion did not match. Version 0 means that no row is stored."""

    version: int
    grade: str | None = None
    status: str | None = None
    mark: float | None = None
    recorded_at: datetime | None = None


class Issue(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One fault of a request. `at` is a JSON pointer into the body (RFC 6901) or the name of a query parameter.

    Messages hold no personal data. `current` accompanies a version-conflict, if the caller may read the stored value.
    `reference` is that which the faulty row of a batch itself holds or, of too-many-leavers, the client's own of the pupil;
    `line` is where the row begins in a body of lines, from 1.
    """

    at: str
    code: str
    message: str
    current: Current | None = None
    reference: str | None = None
    line: int | None = None


class FaultyValue(Struct, frozen=True):
    """Replaces a JSON value that is well formed and can be no value, such as 1e400, in the input of a command, so that it is
    an issue among the others. It holds nothing of the value.
    """

    code: str
    message: str


class DomainError(Exception):
    """The base of the domain's errors. `code` is stable and public: the last part of the problem's `type` (RFC 9457)."""

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None, issues: tuple[Issue, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.issues = issues


class Invalid(DomainError):
    code = "invalid"


class BadRequest(DomainError):
    code = "bad-request"


class PartlyRead(BadRequest):
    """`readable` is what could be read of the request: the codes in it are looked up before the error is answered, so that a
    fault of form hides no code that is unknown.
    """

    def __init__(self, detail: str, *, code: str, issues: tuple[Issue, ...], readable: object) -> None:
        super().__init__(detail, code=code, issues=issues)
        self.readable = readable

    def add_issues(self, issues: Iterable[Issue]) -> BadRequest:
        """Returns the error with further issues."""
        return BadRequest(self.detail, code=self.code, issues=(*self.issues, *issues))


def describe_unreadable(count: int) -> str:
    """Returns the detail of an error about so many parameters."""
    return f"{count} {'parameter' if count == 1 else 'parameters'} cannot be read."


class NotFound(DomainError):
    code = "not-found"

    def __init__(self) -> None:
        super().__init__("It does not exist, or it is not within the reach of this client.")


class PupilMerged(DomainError):
    """`merged_into` is the id of the remaining pupil."""

    code = "pupil-merged"

    def __init__(self, merged_into: str) -> None:
        super().__init__("Two records of one child were merged. mergedInto is the id of the one that remains.")
        self.merged_into = merged_into


class Forbidden(DomainError):
    code = "scope-missing"


class ClientRevoked(DomainError):
    code = "unauthorised"

    def __init__(self) -> None:
        super().__init__("The client is revoked.")


class Conflict(DomainError):
    code = "conflict"


class Stale(DomainError):
    code = "precondition-failed"


class Busy(DomainError):
    code = "busy"

    def __init__(self, detail: str, *, code: str | None = None, retry_after: int = 2) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class DatabaseUnavailable(Busy):
    """The database cannot be reached, has ended the connection, or does no work, such as while it starts or its disk is full."""

    code = "database-unavailable"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after=5)


class InProgress(Busy):
    """Another request with the same Idempotency-Key is still running."""

    code = "idempotency-in-progress"


class DatabaseError(DomainError):
    code = "database"


def make_invalid(issues: list[Issue], detail: str | None = None) -> Invalid:
    """Returns one error that carries all the issues."""
    return Invalid(
        detail or f"{len(issues)} {'issue' if len(issues) == 1 else 'issues'}; each names its place.", issues=tuple(issues)
    )
