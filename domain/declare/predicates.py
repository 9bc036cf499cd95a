"""The type of the predicate by which a resource declares which of its rows are within reach."""

from collections.abc import Callable
from typing import TypeAlias

from sqlalchemy import ColumnElement

from domain.declare.scopes import Scope

RowPredicate: TypeAlias = Callable[[Scope | None], ColumnElement[bool]]
"""Returns the condition that a row is within the caller's reach with this scope, or with any scope for None."""
