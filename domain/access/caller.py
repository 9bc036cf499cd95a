"""The caller of a request: a client, the scopes of its token, and a snapshot of its reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from domain.declare.errors import Forbidden, Issue
from domain.declare.scopes import Scope


@dataclass(frozen=True)
class ReachSnapshot:
    """Snapshot of a client's reach: the scopes it has at every school within reach, the version of the reach, and when
    a grant next starts or ends (`until`).

    `tenants` are the tenants within reach; None where the client reaches so few schools that their versions are summed
    one by one. A statement that relies on the snapshot checks in the same query that it is current (`read.statement`),
    so a snapshot may be cached.
    """

    scopes: frozenset[str]
    version: int
    until: datetime | None
    tenants: tuple[UUID, ...] | None

    @cached_property
    def cache_key(self) -> bytes:
        """Identifies the state of the reach."""
        return f"{self.version} {self.until}".encode()


@dataclass(frozen=True)
class Caller:
    """An authenticated client and the scopes of its token, which are at most those of its grants when the token was
    issued.
    """

    client_id: UUID
    scopes: frozenset[str]
    snapshot: ReachSnapshot | None = None

    @cached_property
    def cache_key(self) -> bytes:
        """Part of the key of cached responses: two callers with the same key see the same data."""
        return self.client_id.bytes + " ".join(sorted(self.scopes)).encode()

    def require_scope(self, scope: Scope, what: str) -> None:
        """Raises Forbidden, which names the scope and `what` needs it, unless the token has the scope."""
        if scope not in self.scopes:
            raise make_scope_error({what: scope})


def make_scope_error(needs: Mapping[str, str]) -> Forbidden:
    """Returns the error for missing scopes. `needs` maps each requested operation or field to the scope it needs."""
    issues = tuple(Issue(what, "scope-missing", f"{what} needs the scope {scope}.") for what, scope in needs.items())
    sentence = ", ".join(f"{what} needs {scope}" for what, scope in needs.items())
    return Forbidden(f"{sentence}. GET /v1/me lists what the client holds.", issues=issues)
