"""RequestContext: what is known of one request beside its ASGI scope."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Scope

from api.http.field_values import join_lines
from api.http.rate_limit import Bucket
from domain.clients.clients import ClientStatus
from domain.store.database import DatabaseUse

_KEY = "markonce.context"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What an id may be that a client or a proxy sends: short, and safe on a line of a log."""


def _do_nothing() -> None:
    """What `extend` does for a request without a time limit."""


@dataclass(slots=True)
class RequestContext:
    """RequestMiddleware makes it for every HTTP request. `id` is that of X-Request-Id, or a new one. `status` is that of the response, and 0
    until it begins; `sent` counts the bytes of its body.

    `client_status` and `bucket` are set once the client is authenticated. `is_origin_listed` says whether any client lists the origin of the request.
    """

    id: str
    database_use: DatabaseUse
    begun: float = field(default_factory=time.perf_counter)
    """By the clock of time.perf_counter."""
    status: int = 0
    sent: int = 0
    is_origin_listed: bool = False
    client_status: ClientStatus | None = None
    bucket: Bucket | None = None
    deprecation: tuple[tuple[bytes, bytes], ...] = ()
    """Header fields of a path that has a successor."""
    releases: list[Callable[[], None]] = field(default_factory=list)
    """Called when the response begins: they release the memory of the request's body."""
    extend: Callable[[], None] = _do_nothing
    """Begins the time limit of the request anew."""

    def read_milliseconds(self) -> float:
        """The milliseconds since the request began."""
        return round((time.perf_counter() - self.begun) * 1000, 1)

    def release_body(self) -> None:
        """Releases the memory of the request's body."""
        while self.releases:
            self.releases.pop()()


def get_context(scope: Scope) -> RequestContext:
    """The context of a request, made when it is first needed."""
    context: RequestContext | None = scope.get(_KEY)
    if context is None:
        context = scope[_KEY] = RequestContext(_read_request_id(scope) or os.urandom(16).hex(), DatabaseUse())
    return context


def _read_request_id(scope: Scope) -> str | None:
    """The value of X-Request-Id; None where there is none, or it is not in the form of one, as several are not."""
    value = join_lines(scope, b"x-request-id") or ""
    return value if _REQUEST_ID.fullmatch(value) else None
