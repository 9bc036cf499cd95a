"""The caller of a request: a client, the scopes of its token, and a snapshot of its reach."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from domain.declare.errors import Forbidden, Issue
from domain.declare.scopes import Scope


@dataclass(frozen=True)
class ReachSnapshot:
    """Snapshot of a client's reach: the scopes it has at every school within reach, the version of the reach, and when
    a grant next starts or ends (`until`).

    `tenants` are the tenants within reach, beside the installation (`on_installation`). `counts_schools` says that the client
    reaches so few schools that their versions are summed one by one, not those of the tenants. A statement that relies on the snapshot checks in the
    same query that it is current (`read.statement`), so a snapshot may be cached.
    """

    scopes: frozenset[str]
    version: int
    until: datetime | None
    tenants: tuple[UUID, ...]
    counts_schools: bool = False
    on_installation: bool = False

    @property
    def only_tenant(self) -> UUID | None:
        """The one tenant within reach; None where there are several, none, or the installation."""
        return self.tenants[0] if len(self.tenants) == 1 and not self.on_installation else None

    @cached_property
    def cache_key(self) -> bytes:
        """Identifies the state of the reach."""
        return f"{self.version} {self.until}".encode()

    def write_condition(self, client_id: UUID) -> str:
        """Returns the SQL condition that the snapshot is current, for `Database.run_transaction`."""
        is_current = f"EXISTS (SELECT 1 FROM clients WHERE id = '{client_id}' AND reach_version = {self.version})"
        return is_current if self.until is None else f"{is_current} AND now() < '{self.until.isoformat()}'"


class Need(NamedTuple):
    """A scope that an operation, a resource or a field needs: at a school, or else at a school or trust. One of `others` does too. With
    `on_installation` it may be held on the installation instead."""

    scope: str
    at_school: bool = True
    others: tuple[str, ...] = ()
    on_installation: bool = False

    def is_among(self, scopes: Collection[str]) -> bool:
        """Whether one of the scopes meets the need."""
        return self.scope in scopes or any(other in scopes for other in self.others)


@dataclass(frozen=True)
class Caller:
    """An authenticated client and the scopes of its token that grants in force give it at some school or trust.

    `token_scopes` are all scopes of the token: at most those of the grants when it was issued. `without_school` are those of
    `scopes` that grants give at no school, but only at trusts which have none. `ended` are those of the token or of a grant that no
    grant in force gives any more; `of_installation` are those of the token that grants give on the installation.
    """

    client_id: UUID
    scopes: frozenset[str]
    snapshot: ReachSnapshot | None = None
    without_school: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    of_installation: frozenset[str] = frozenset()
    token_scopes: frozenset[str] = frozenset()

    @cached_property
    def cache_key(self) -> bytes:
        """Part of the key of cached responses: two callers with the same key see the same data."""
        of_installation = "|" + " ".join(sorted(self.of_installation)) if self.of_installation else ""
        return self.client_id.bytes + (" ".join(sorted(self.scopes)) + of_installation).encode()

    @cached_property
    def at_schools(self) -> frozenset[str]:
        """The scopes that the caller has at some school."""
        return self.scopes - self.without_school

    def meets(self, need: Need) -> bool:
        """Whether the caller has the scope, and has it at a school where that is needed."""
        has_scope = need.is_among(self.at_schools if need.at_school else self.scopes)
        return has_scope or (need.on_installation and need.scope in self.of_installation)

    @property
    def only_tenant(self) -> UUID | None:
        """The one tenant within reach; None where there are several or none, or the reach is not known."""
        return None if self.snapshot is None else self.snapshot.only_tenant

    def require_scope(self, scope: Scope, what: str, *, at_school: bool = True) -> None:
        """Raises Forbidden, which names the scope and `what` needs it, unless the caller has the scope."""
        self.require({what: Need(scope, at_school)})

    def require(self, needs: Mapping[str, Need]) -> None:
        """Raises Forbidden unless the caller meets every need. `needs` maps each operation, resource or field to its own.

        Where a scope has ended or the client reaches no school with it, the error says so, and leaves out what the client never had.
        """
        missing = {what: need.scope for what, need in needs.items() if not self.meets(need)}
        for scopes, make_error in self._list_reasons():
            if lost := {what: scope for what, scope in missing.items() if scope in scopes}:
                raise make_error(lost)
        if missing:
            raise make_scope_error(missing)

    def require_any(self, *scopes: Scope, what: str) -> None:
        """Raises Forbidden unless the caller has one of the scopes at a school, or any scope where none is named."""
        if self.at_schools.isdisjoint(scopes) if scopes else not self.scopes:
            needed = " or ".join(scopes) if scopes else "a scope at some school or trust"
            errors = [make_error for lost, make_error in self._list_reasons() if lost.intersection(scopes or lost)]
            raise next(iter(errors), make_scope_error)({what: needed})

    def _list_reasons(self) -> tuple[tuple[frozenset[str], Callable[[Mapping[str, str]], Forbidden]], ...]:
        """Returns the scopes that grants gave, or give at trusts alone, with the error that says why they do not suffice."""
        return (self.ended, make_ended_error), (self.without_school, make_no_school_error)


def make_ended_error(needs: Mapping[str, str]) -> Forbidden:
    """Returns the error for scopes whose grants have ended."""
    issues = tuple(
        Issue(what, "grant-ended", f"{what} needs the scope {scope}, and the grants that gave it have ended.")
        for what, scope in needs.items()
    )
    sentence = ", ".join(f"{what} needs {scope}" for what, scope in needs.items())
    detail = f"{sentence}, and the grants that gave it have ended. GET /v1/me lists them."
    return Forbidden(detail, code="grant-ended", issues=issues)


def make_no_school_error(needs: Mapping[str, str]) -> Forbidden:
    """Returns the error for scopes that are needed at a school, where the client reaches none with them."""
    issues = tuple(
        Issue(what, "no-school-in-reach", f"{what} needs the scope {scope} at a school, and no school is within reach with it.")
        for what, scope in needs.items()
    )
    detail = f"{', '.join(needs)}: the trusts whose grants give the scope have no school. GET /v1/me lists the grants."
    return Forbidden(detail, code="no-school-in-reach", issues=issues)


def make_scope_error(needs: Mapping[str, str]) -> Forbidden:
    """Returns the error for missing scopes. `needs` maps each requested operation or field to the scope it needs."""
    issues = tuple(Issue(what, "scope-missing", f"{what} needs the scope {scope}.") for what, scope in needs.items())
    sentence = ", ".join(f"{what} needs {scope}" for what, scope in needs.items())
    return Forbidden(f"{sentence}. GET /v1/me lists what the client holds.", issues=issues)
