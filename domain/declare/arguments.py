"""Arguments and choices of lists, beside their filters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.types import TypeEngine

from domain.declare.value_types import ValueType, find_value_type


@dataclass(frozen=True, eq=False)
class Argument:
    """An argument of a list beside its filters. `condition` makes the SQL condition from the rows' columns and the value, null if left out.

    With a `source`, a view with the same columns and more, rows are read there if the argument is sent, and there is no condition if not.
    `same_as` names the argument of which this is another name.
    """

    type: TypeEngine[Any]
    doc: str
    condition: Callable[[Any, ColumnElement[Any]], ColumnElement[bool]]
    source: Table | None = None
    same_as: str | None = None

    @property
    def kind(self) -> ValueType:
        return find_value_type(self.type)


@dataclass(frozen=True, eq=False)
class Choice:
    """An argument of a resource's lists with few values, each of which has a condition on the resource's columns; None
    leaves out no row.

    Where a request leaves it out, `default` applies. `widest` applies instead to a lookup in a body and to a list that
    is filtered by one of `widened_by` or by what identifies a person: such a request names the rows it means. `excludes`
    are the values of fields that no row of a value has, by value and field; None: any value.
    """

    doc: str
    conditions: Mapping[str, ColumnElement[bool] | None]
    default: str
    widest: str
    widened_by: frozenset[str] = frozenset()
    excludes: Mapping[str, Mapping[str, tuple[Any, ...] | None]] = field(default_factory=dict)
