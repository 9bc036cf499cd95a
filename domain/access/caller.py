"""The caller of a request: a client, its scopes, and a snapshot of its reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from domain.declare.errors import Forbidden, Issue
from domain.declare.scopes import Scope


@dataclass(frozen=True)
class ReachSnapshot:
    """The scopes that a client's grants give at every place within its reach, as its reach was at this version and is until then.

    `tenants` are those it reaches anything of, where these are so many places that their versions are not added up one by one. A statement that relies
    on any of it makes sure that it still holds (query.finish), so that this may be remembered.
    """

    scopes: frozenset[str]
    version: int
    until: datetime | None
    tenants: tuple[UUID, ...] | None

    @cached_property
    def cache_key(self) -> bytes:
        """What tells it from what the reach was before."""
        return f"{self.version} {self.until}".encode()


@dataclass(frozen=True)
class Caller:
    """An authenticated client and the scopes its token carries (never more than its grants gave when the token was issued)."""

    client_id: UUID
    scopes: frozenset[str]
    snapshot: ReachSnapshot | None = None

    @cached_property
    def cache_key(self) -> bytes:
        """What tells apart who sees other things of the same rows."""
        return self.client_id.bytes + " ".join(sorted(self.scopes)).encode()

    def require_scope(self, scope: Scope, what: str) -> None:
        """Raises Forbidden, naming what needs which scope, unless the token carries it."""
        if scope not in self.scopes:
            raise make_scope_error({what: scope})


def make_scope_error(needs: Mapping[str, str]) -> Forbidden:
    """The one refusal for want of scopes: of each thing asked for, which scope it needs."""
    issues = tuple(Issue(what, "scope-missing", f"{what} needs the scope {scope}.") for what, scope in needs.items())
    told = ", ".join(f"{what} needs {scope}" for what, scope in needs.items())
    return Forbidden(f"{told}. GET /v1/me tells what the client holds.", issues=issues)
