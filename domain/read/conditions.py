"""Conditions, keysets and joins in SQL."""

import operator
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    Numeric,
    SmallInteger,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    or_,
    tuple_,
)
from sqlalchemy.types import TypeEngine

from domain.declare.resource import Comparison, Link
from domain.read.query import Condition

_COMPARE = {Comparison.GTE: operator.ge, Comparison.GT: operator.gt, Comparison.LTE: operator.le, Comparison.LT: operator.lt}


def write_condition(expression: ColumnElement[Any], condition: Condition, bind: str) -> ColumnElement[bool]:
    """The expression equals the value bound, or one of them, or compares with it; a list holds one of them."""
    type_: TypeEngine[Any] = expression.type
    if isinstance(type_, ARRAY):
        return cast(expression, ARRAY(Text)).op("&&", is_comparison=True)(bindparam(bind, type_=ARRAY(Text)))
    if isinstance(type_, SmallInteger | Numeric):  # a filter may be any number, whatever the column holds
        type_ = Integer() if isinstance(type_, SmallInteger) else Numeric()
    if condition.comparison is not None:
        compared: ColumnElement[bool] = _COMPARE[condition.comparison](expression, bindparam(bind, type_=type_))
        return compared
    if condition.values == ("one",):
        return expression == bindparam(bind, type_=type_)
    return expression == any_(bindparam(bind, type_=ARRAY(type_)))


def write_keyset(keys: list[tuple[ColumnElement[Any], bool]], after: tuple[str | None, ...], bind: str) -> ColumnElement[bool]:
    """Rows that come after a place, whose values are bound as text. Nulls come last in either direction."""
    places = [
        None if value is None else cast(bindparam(f"{bind}_{i}", type_=Text), key.type)
        for i, ((key, _), value) in enumerate(zip(keys, after, strict=True))
    ]
    if None not in after and not any(descending for _, descending in keys) and all(_is_never_null(key) for key, _ in keys):
        return tuple_(*(key for key, _ in keys)) > tuple_(*(place for place in places if place is not None))
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for (key, descending), place in zip(keys, places, strict=True):
        if place is not None:
            beyond = key < place if descending else key > place
            alternatives.append(and_(*equal, or_(beyond, key.is_(None))))
        equal.append(key.is_(None) if place is None else key == place)
    return or_(*alternatives)


def order_descending(key: ColumnElement[Any]) -> ColumnElement[Any]:
    """Nulls last; where there are none it is not said, since an index read backwards would not serve it."""
    return key.desc() if _is_never_null(key) else key.desc().nulls_last()


def _is_never_null(key: ColumnElement[Any]) -> bool:
    return getattr(key, "nullable", True) is False


def make_join(link: Link, source: FromClause) -> Callable[[FromClause], list[ColumnElement[bool]]]:
    return lambda target: [target.c[there.key] == source.c[here.key] for here, there in link.on]
