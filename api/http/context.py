"""RequestContext: what is known of one request beside its ASGI scope."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Scope

from api.http.rate_limit import Bucket
from domain.clients.clients import ClientStatus
from domain.store.database import DatabaseUse

_KEY = "markonce.context"


def _do_nothing() -> None:
    """What `extend` does for a request without a time limit."""


@dataclass(slots=True)
class RequestContext:
    """RequestMiddleware makes it for every HTTP request. `status` is that of the response, and 0 until it begins.

    `client_status` and `bucket` are set once the client is authenticated. `is_origin_listed` says whether any client lists the origin of the request.
    """

    id: str
    database_use: DatabaseUse
    begun: float = field(default_factory=time.perf_counter)
    """By the clock of time.perf_counter."""
    status: int = 0
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
        context = scope[_KEY] = RequestContext(os.urandom(16).hex(), DatabaseUse())
    return context
