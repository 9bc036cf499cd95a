"""The types of field values: their GraphQL names, and how a text is parsed."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from domain.declare.ids import parse_id
from domain.support.texts import clean_text, is_clean

MAX_TEXT = 2000
"""Characters of a text that is written or used in a filter."""
MAX_SHORT_TEXT, MAX_NAME = 200, 100
"""The same of a text that is no sentence, and of a name of a person."""


class ValueType(Enum):
    """The type of a value: its GraphQL name, and its description for error messages."""

    ID = ("ID", "an id")
    TEXT = ("String", f"text of at most {MAX_TEXT:,} characters")
    TEXTS = ("[String!]", "a list of texts")
    INTEGER = ("Int", "a whole number of at most 32 bits")
    NUMBER = ("Float", "a number")
    BOOLEAN = ("Boolean", "true or false")
    DATE = ("Date", "a date such as 2026-09-01")
    OBJECT = ("JSON", "an object")
    INSTANT = ("DateTime", "an instant with its offset, such as 2026-09-01T08:30:00Z")

    @property
    def graphql(self) -> str:
        return str(self.value[0])

    @property
    def description(self) -> str:
        return str(self.value[1])

    def parse(self, raw: object) -> Any:
        """Returns the Python value of a text (from a URL) or a JSON value (from GraphQL).

        Raises ValueError with a description.
        """
        try:
            parsed = _PARSE[self](raw)
        except (ValueError, InvalidOperation, OverflowError, TypeError):
            parsed = None
        if parsed is None:
            raise ValueError(f"is not {self.description}")
        return parsed


def _parse_text(raw: object) -> str | None:
    if not isinstance(raw, str) or len(raw) > MAX_TEXT or re.search("[\0\ud800-\udfff]", raw):
        return None
    return raw if is_clean(raw) else clean_text(raw)


def _parse_integer(raw: object) -> int | None:
    if isinstance(raw, bool) or not re.fullmatch(r"-?[0-9]{1,10}", str(raw), re.ASCII):
        return None
    number = int(str(raw))
    return number if -(2**31) <= number < 2**31 else None


def _parse_number(raw: object) -> Decimal | None:
    if isinstance(raw, bool) or not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", str(raw), re.ASCII):
        return None
    return Decimal(str(raw))


def _parse_date(raw: object) -> date | None:
    text = raw.strip() if isinstance(raw, str) else ""
    return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None


def _parse_instant(raw: object) -> datetime | None:
    """Reads an instant as writes do (RFC 3339), and also without seconds or with the hours alone of an offset."""
    if not isinstance(raw, str) or not re.match(r"\s*\d{4}-\d\d-\d\d[Tt ]", raw, re.ASCII):
        return None
    text = _LOST_PLUS.sub("+", raw.strip())
    try:
        instant = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        instant = datetime.fromisoformat(text)
    return instant.astimezone(UTC) if instant.tzinfo else None


_LOST_PLUS = re.compile(r"(?<=\d) (?=\d\d(:?\d\d)?$)", re.ASCII)
"""The sign of an offset: in a URL, an unescaped + arrives as a space."""


def _parse_boolean(raw: object) -> bool | None:
    return raw if isinstance(raw, bool) else {"true": True, "false": False}.get(str(raw).strip().lower())


_PARSE: dict[ValueType, Callable[[object], Any]] = {
    ValueType.ID: lambda raw: parse_id(str(raw)),
    ValueType.TEXT: _parse_text,
    ValueType.TEXTS: _parse_text,
    ValueType.INTEGER: _parse_integer,
    ValueType.NUMBER: _parse_number,
    ValueType.BOOLEAN: _parse_boolean,
    ValueType.DATE: _parse_date,
    ValueType.OBJECT: lambda raw: None,
    ValueType.INSTANT: _parse_instant,
}


TYPE_OF_COLUMN: list[tuple[type[TypeEngine[Any]], ValueType]] = [
    (Uuid, ValueType.ID),
    (Boolean, ValueType.BOOLEAN),
    (BigInteger, ValueType.INTEGER),
    (SmallInteger, ValueType.INTEGER),
    (Integer, ValueType.INTEGER),
    (Numeric, ValueType.NUMBER),
    (DateTime, ValueType.INSTANT),
    (Date, ValueType.DATE),
    (JSONB, ValueType.OBJECT),
    (ARRAY, ValueType.TEXTS),
    (String, ValueType.TEXT),
]


def find_value_type(type_: TypeEngine[Any]) -> ValueType:
    """Returns the type of the values of an SQL type. Raises StopIteration for an unsupported SQL type."""
    return next(value_type for sql_type, value_type in TYPE_OF_COLUMN if isinstance(type_, sql_type))
