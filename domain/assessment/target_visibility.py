"""Who sees a target, by its visibility.

`targets:staff` sees every target at its schools. `targets:read` sees those that families and the school may see; under a grant on the
trust those of the trust too. `targets:family` sees those of families alone. A client sees what it wrote. Row-level security says the same
in other words (migration 0065), by the grants; here the scopes of the token count as well.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, literal_column, or_

from domain.access.reach import CALLER, has_grant, holds_in_token, rows_of_pupil
from domain.declare.scopes import Scope

OR_SCOPES = (Scope.TARGETS_STAFF, Scope.TARGETS_FAMILY, Scope.TARGETS_WRITE)
"""The scopes that read targets in place of targets:read, each its own."""


class SeenNow:
    """The columns of a former value, `row`, that say who sees the target now."""

    def __init__(self, row: Any) -> None:
        self.tenant_id, self.school_id, self.pupil_id, self.client_id = row.tenant_id, row.school_id, row.pupil_id, row.client_id
        self.visibility = row.visibility_now


def _has_nowhere(scope: Scope | None) -> bool:
    return False


def sees_target(t: Any, has_everywhere: Callable[[Scope | None], bool] = _has_nowhere) -> ColumnElement[bool]:
    """Returns the condition that the caller sees a target, or a former value of one. `t` are its columns; `has_everywhere` tells whether
    the caller has a scope at every school within reach, so that no row is tested for it.
    """

    def may(scope: Scope, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        reached = [] if has_everywhere(scope) else [rows_of_pupil(t.tenant_id, t.school_id, t.pupil_id)(scope)]
        return and_(holds_in_token(scope), *conditions, *reached)

    family, school, trust = (t.visibility == literal_column(f"'{word}'", Text) for word in ("family", "school", "trust"))
    of_trust = has_grant(Scope.TARGETS_READ, lambda r: (r.tenant_id == t.tenant_id) & (r.school_id == t.tenant_id))
    return or_(
        may(Scope.TARGETS_READ, or_(school, family)),
        may(Scope.TARGETS_STAFF),
        may(Scope.TARGETS_FAMILY, family),
        may(Scope.TARGETS_WRITE, t.client_id == CALLER),
        may(Scope.TARGETS_READ, or_(trust, t.client_id == CALLER), or_(of_trust, t.client_id == CALLER)),
    )
