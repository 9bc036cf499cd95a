"""The type of the predicate by which a resource declares which of its rows are within reach."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import ColumnElement

from domain.declare.scopes import Scope

RowPredicate: TypeAlias = Callable[[Scope | None], ColumnElement[bool]]
"""Returns the condition that a row is within the caller's reach with this scope, or with any scope for None."""


@dataclass(frozen=True, eq=False)
class TenantRows:
    """A RowPredicate of rows that belong to a tenant as a whole, or to nobody: a grant for a trust without a school reaches them.

    Any other RowPredicate is of rows of schools, and a client that reaches no school with the scope is told so.
    """

    condition: RowPredicate

    def __call__(self, scope: Scope | None) -> ColumnElement[bool]:
        return self.condition(scope)
