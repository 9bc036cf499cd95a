"""SQL expressions that write JSON by text concatenation, at a fifth of the cost of json_build_object."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ColumnElement,
    Date,
    Text,
    Uuid,
    case,
    cast,
    func,
    literal_column,
)
from sqlalchemy.sql.elements import ExpressionClauseList
from sqlalchemy.sql.operators import concat_op

from domain.declare.value_types import ValueType


def concatenate(parts: Sequence[ColumnElement[str]]) -> ColumnElement[str]:
    """Returns the concatenation of SQL texts.

    Adjacent fixed texts are merged, since each part costs PostgreSQL and the compiler a step.
    """
    flat: list[ColumnElement[str]] = []
    for part in parts:
        for inner in part.clauses if isinstance(part, ExpressionClauseList) and part.operator is concat_op else (part,):
            if flat and inner in _fixed and flat[-1] in _fixed:
                flat[-1] = quote(_fixed[flat[-1]] + _fixed[inner])
            else:
                flat.append(inner)
    return flat[0] if len(flat) == 1 else ExpressionClauseList(concat_op, *flat, type_=Text)


def quote(text: str) -> ColumnElement[str]:
    """Returns a fixed text as an SQL literal: a declared name, a GraphQL name or punctuation, never a value of a
    request.
    """
    quoted: ColumnElement[str] = literal_column("'" + text.replace("'", "''") + "'", Text)
    _fixed[quoted] = text
    return quoted


_fixed: WeakKeyDictionary[ColumnElement[str], str] = WeakKeyDictionary()
"""The text of each literal that `quote` made, so that `concatenate` can merge them."""


def write_json(value_type: ValueType, expression: ColumnElement[Any]) -> ColumnElement[str]:
    """Returns the JSON text of a value of this type; SQL NULL for NULL."""
    if value_type in (ValueType.INTEGER, ValueType.NUMBER, ValueType.BOOLEAN):
        return cast(expression, Text)
    if value_type in (ValueType.ID, ValueType.DATE) and isinstance(expression.type, Uuid | Date):
        return concatenate([quote('"'), cast(expression, Text), quote('"')])  # nothing to escape; three times as fast
    text = cast(func.to_json(expression), Text)
    # every session is in UTC (domain/store/database.py)
    return func.replace(text, quote('+00:00"'), quote('Z"'), type_=Text) if value_type is ValueType.INSTANT else text


def write_members(value: ColumnElement[Any], members: Sequence[tuple[str, str, bool]]) -> ColumnElement[str]:
    """Returns the JSON object of some members of a JSONB value; null for NULL. `members` are those of ObjectMembers."""
    parts: list[ColumnElement[str]] = []
    for i, (key, text, is_fixed) in enumerate(members):
        member = quote(f'"{text}"') if is_fixed else cast(value.op("->")(quote(text)), Text)
        parts += [quote(f'{"," if i else "{"}"{key}":'), func.coalesce(member, quote("null"))]
    return case((value.is_(None), quote("null")), else_=concatenate([*parts, quote("}")]))


def join_with_dots(numbers: list[ColumnElement[Any]]) -> list[ColumnElement[str]]:
    """Returns the parts of a text such as 3.14.2, for `concatenate`."""
    texts = [cast(number, Text) for number in numbers]
    return [part for i, text in enumerate(texts) for part in ([quote("."), text] if i else [text])]
