"""RequestContext: what is known of one request beside its ASGI scope."""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from starlette.types import Scope

from api.http.field_values import join_lines
from api.http.rate_limit import Quota
from domain.clients.clients import ClientStatus
from domain.declare.errors import DomainError
from domain.store.database import DatabaseUse

_KEY = "markonce.context"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What an id may be that a client or a proxy sends: short, and safe on a line of a log."""


UNITS_PER_TOKEN, UNITS_PER_VALUE = 100_000, 100
"""A byte of a body is one unit. So 1,000 values, or 100 kB, cost one token."""


def _do_nothing() -> None:
    """What `extend` does for a request without a time limit."""


@dataclass(slots=True)
class RequestContext:
    """RequestMiddleware makes it for every HTTP request. `id` is that of X-Request-Id, or a new one. `status` is that of the response, and 0
    until it begins; `sent` counts the bytes of its body.

    `client_status` and `quota` are set once the client is authenticated. `is_origin_listed` says whether any client lists the origin of the request.
    """

    id: str
    database_use: DatabaseUse
    begun: float = field(default_factory=time.perf_counter)
    """By the clock of time.perf_counter."""
    status: int = 0
    sent: int = 0
    problems: list[DomainError] = field(default_factory=list)
    """What the response says is wrong. A GraphQL response may say several, and be a 200."""
    is_origin_listed: bool = False
    named_client: str = ""
    """The id of the client that requests a token and exists, for the log; whether its credentials are right or wrong."""
    client_status: ClientStatus | None = None
    seen_versions: Mapping[UUID, int] = field(default_factory=dict)
    """The version of each tenant that the client has seen."""
    quota: Quota | None = None
    values: int = 0
    body: int = 0
    """The values that the request asks for, and the bytes of its body, as they were charged to the quota."""
    deprecation: tuple[tuple[bytes, bytes], ...] = ()
    """Header fields of a path that has a successor."""
    releases: list[Callable[[], None]] = field(default_factory=list)
    """Called when the response begins: they release the memory of the request's body."""
    extend: Callable[[], None] = _do_nothing
    """Begins the time limit of the request anew."""

    @property
    def cost(self) -> int:
        """What the request costs of its client's quota, as far as it is known."""
        return 1 + (self.values * UNITS_PER_VALUE + self.body) // UNITS_PER_TOKEN

    def charge(self, *, values: int | None = None, body: int = 0) -> None:
        """Charges the number of values that the request asks for, in place of what was charged for values before, and more bytes of its body.

        The shares of values and bytes are added before they are rounded down.
        """
        before = self.cost
        if values is not None:
            self.values = values
        self.body += body
        if (more := self.cost - before) and self.quota is not None:
            self.quota.charge(more)

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
