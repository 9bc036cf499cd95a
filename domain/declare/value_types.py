"""The types of values: their names in GraphQL, and how a text is read as one."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

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
from sqlalchemy.types import TypeEngine

from domain.declare.ids import parse_id

MAX_TEXT = 2000
"""Characters of the longest text that is written or compared with."""


class ValueType(Enum):
    """What a value is: its name in GraphQL, and how it is told in words when a value is not one."""

    ID = ("ID", "an id")
    TEXT = ("String", f"text of at most {MAX_TEXT:,} characters")
    TEXTS = ("[String!]", "a list of texts")
    INTEGER = ("Int", "a whole number of at most 32 bits")
    NUMBER = ("Float", "a number")
    BOOLEAN = ("Boolean", "true or false")
    DATE = ("Date", "a date such as 2026-09-01")
    INSTANT = ("DateTime", "an instant with its offset, such as 2026-09-01T08:30:00Z")

    @property
    def graphql(self) -> str:
        return str(self.value[0])

    @property
    def description(self) -> str:
        return str(self.value[1])

    def parse(self, given: object) -> Any:
        """The Python value of a text (or of a JSON value, from GraphQL); ValueError in words for anything else."""
        try:
            parsed = _PARSE[self](given)
        except (ValueError, InvalidOperation, OverflowError, TypeError):
            parsed = None
        if parsed is None:
            raise ValueError(f"is not {self.description}")
        return parsed


def _parse_text(given: object) -> str | None:
    if not isinstance(given, str) or len(given) > MAX_TEXT or re.search("[\0\ud800-\udfff]", given):
        return None
    return given


def _parse_integer(given: object) -> int | None:
    if isinstance(given, bool) or not re.fullmatch(r"-?[0-9]{1,10}", str(given), re.ASCII):
        return None
    number = int(str(given))
    return number if -(2**31) <= number < 2**31 else None


def _parse_number(given: object) -> Decimal | None:
    if isinstance(given, bool) or not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", str(given), re.ASCII):
        return None
    return Decimal(str(given))


def _parse_date(given: object) -> date | None:
    return date.fromisoformat(given) if isinstance(given, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", given, re.ASCII) else None


def _parse_instant(given: object) -> datetime | None:
    if not isinstance(given, str) or not re.match(r"\d{4}-\d\d-\d\dT", given, re.ASCII):
        return None
    instant = datetime.fromisoformat(given.replace(" ", "+"))  # in a URL, an offset's + that was not escaped arrives as a space
    return instant.astimezone(UTC) if instant.tzinfo else None


_PARSE: dict[ValueType, Callable[[object], Any]] = {
    ValueType.ID: lambda given: parse_id(str(given)),
    ValueType.TEXT: _parse_text,
    ValueType.TEXTS: _parse_text,
    ValueType.INTEGER: _parse_integer,
    ValueType.NUMBER: _parse_number,
    ValueType.BOOLEAN: lambda given: {"true": True, "false": False}.get(
        json.dumps(given) if isinstance(given, bool) else str(given)
    ),
    ValueType.DATE: _parse_date,
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
    (ARRAY, ValueType.TEXTS),
    (String, ValueType.TEXT),
]


def find_value_type(type_: TypeEngine[Any]) -> ValueType:
    return next(kind for known, kind in TYPE_OF_COLUMN if isinstance(type_, known))
