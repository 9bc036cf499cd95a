"""The type of predicates that a resource declares."""

from collections.abc import Callable
from typing import TypeAlias

from sqlalchemy import (
    ColumnElement,
)

from domain.declare.scopes import Scope

RowPredicate: TypeAlias = Callable[[Scope | None], ColumnElement[bool]]
"""From the scope needed to the predicate that a row is within the caller's reach with it; None asks for no scope."""
