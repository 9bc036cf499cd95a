"""SQL of filters, keyset pagination and joins."""

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

from domain.declare.ranges import Comparison
from domain.declare.resource import Link, TextMatch
from domain.read.query import ONE_VALUE, Condition
from domain.read.tenants import NAME, bind_pair, compares_tenants, is_owned

_COMPARE = {Comparison.GTE: operator.ge, Comparison.GT: operator.gt, Comparison.LTE: operator.le, Comparison.LT: operator.lt}


def write_filter(
    condition: Condition, bind: str, write_value: Callable[[ColumnElement[Any] | None], ColumnElement[Any]]
) -> ColumnElement[bool]:
    """Returns the condition of a filter. `write_value` makes the field's value, or another expression, NULL where the caller
    lacks the field's scope.
    """
    match = condition.field.match
    if match is None:
        return write_condition(write_value(None), condition, bind)
    return write_value(write_match(match, condition, bind))


def write_condition(expression: ColumnElement[Any], condition: Condition, bind: str) -> ColumnElement[bool]:
    """Returns the condition of a filter, whose values are bound to the parameter `bind`.

    The expression equals one of the values or compares with the only one. If the expression is a list, they overlap.
    """
    type_: TypeEngine[Any] = expression.type
    if isinstance(type_, ARRAY):
        return cast(expression, ARRAY(Text)).op("&&", is_comparison=True)(bindparam(bind, type_=ARRAY(Text)))
    if isinstance(type_, SmallInteger | Numeric):  # a filter may be any number, whatever the column holds
        type_ = Integer() if isinstance(type_, SmallInteger) else Numeric()
    if condition.comparison is not None:
        compared: ColumnElement[bool] = _COMPARE[condition.comparison](expression, bindparam(bind, type_=type_))
        return compared
    if condition.values == ONE_VALUE:
        return expression == bindparam(bind, type_=type_)
    return expression == any_(bindparam(bind, type_=ARRAY(type_)))


def write_match(match: TextMatch, condition: Condition, bind: str) -> ColumnElement[bool]:
    """Returns the condition of a filter by text ranges, whose bounds are bound to `bind` and to `bind` with `_high`."""
    if condition.values == ONE_VALUE:
        return match.find_one(bindparam(bind, type_=Text), bindparam(f"{bind}_high", type_=Text))
    return match.find_many(bindparam(bind, type_=ARRAY(Text)), bindparam(f"{bind}_high", type_=ARRAY(Text)))


def write_keyset(
    keys: list[tuple[ColumnElement[Any], bool]], after: tuple[str | None, ...], bind: str, without: int | None = None
) -> ColumnElement[bool]:
    """Returns the condition for rows after a position: keyset pagination.

    `keys` are pairs of (expression, is descending). `after` says which values of the position are null; the others are
    bound as text to parameters that begin with `bind`. Nulls sort last in either direction. The key numbered `without` is left
    out, since it is the same in every row and in the position.
    """
    pairs = [
        (key, descending, None if value is None else cast(bindparam(f"{bind}_{i}", type_=Text), key.type))
        for i, ((key, descending), value) in enumerate(zip(keys, after, strict=True))
        if i != without
    ]
    columns, values = [key for key, _, _ in pairs], [value for _, _, value in pairs if value is not None]
    directions = {descending for _, descending, _ in pairs}
    if len(values) == len(pairs) and len(directions) == 1 and all(map(_is_never_null, columns)):
        return tuple_(*columns) < tuple_(*values) if True in directions else tuple_(*columns) > tuple_(*values)
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for key, descending, value in pairs:
        if value is not None:
            beyond = key < value if descending else key > value
            alternatives.append(and_(*equal, or_(beyond, key.is_(None))))
        equal.append(key.is_(None) if value is None else key == value)
    return or_(*alternatives)


def order_descending(key: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns the descending order with nulls last.

    For a key without nulls, NULLS LAST is left out: PostgreSQL could not use an index read backwards for it.
    """
    return key.desc() if _is_never_null(key) else key.desc().nulls_last()


def _is_never_null(key: ColumnElement[Any]) -> bool:
    return getattr(key, "nullable", True) is False


def make_join(
    link: Link, source: FromClause, tenant: ColumnElement[Any] | None
) -> Callable[[FromClause], list[ColumnElement[bool]]]:
    """Returns a function from the target of the link to the conditions that join it to the source.

    If all that is read is of one `tenant`, the target is bound to it by itself.
    """

    def join(target: FromClause) -> list[ColumnElement[bool]]:
        pairs = [target.c[there.key] == source.c[here.key] for here, there in link.on]
        if tenant is None:
            return pairs
        bound = [] if any(map(compares_tenants, pairs)) or not is_owned(target) else [target.c[NAME] == tenant]
        return [*bound, *(bind_pair(pair, tenant, source) if compares_tenants(pair) else pair for pair in pairs)]

    return join
