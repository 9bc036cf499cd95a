"""Reads the body of a command, also where single values of it are well formed and can be none (strict_json.py), such as 1e400 or a text with U+0000.

Such a small body is parsed all the same, with a FaultyValue in place of each, so that its faults are told with those of all other fields and
refuse no more than their rows of a lenient batch.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from math import isinf
from typing import Any

from starlette.requests import Request

from api.http.body import MAX_OTHER_BODY, read_json
from api.http.json_numbers import read_fraction
from api.http.strict_json import (
    HOLDS_HALF,
    HOLDS_NUL,
    INTEGER_RANGE,
    INTEGERS,
    MAX_INTEGER_LENGTH,
    NO_NUMBER,
    REPEATED_KEY,
    MalformedJson,
    Value,
)
from domain.declare.errors import BadRequest, DomainError, FaultyValue, Invalid

_SURROGATE = re.compile("[\ud800-\udfff]")
_OF_VALUES = frozenset({"json-duplicate-key", "json-nul", "json-surrogate", "json-number-range", "json-not-a-number"})
RANGE = FaultyValue("json-number-range", INTEGER_RANGE)
TOO_LARGE = FaultyValue("json-number-range", "This number is too large for double precision.")
CONSTANT = FaultyValue("json-not-a-number", NO_NUMBER)
NUL = FaultyValue("json-nul", f"This string {HOLDS_NUL}")
HALF = FaultyValue("json-surrogate", f"This string {HOLDS_HALF}")
REPEATED = FaultyValue("json-duplicate-key", REPEATED_KEY)


class _KeyIsFaulty(ValueError):
    """A key, by which a value would be told, can be no text."""


def parse_faulty(malformed: MalformedJson) -> dict[str, Any]:
    """The object of a body with faulty values. Raises the error again where the body has other faults, or is large."""
    if malformed.body is None or not {issue.code for issue in malformed.issues} <= _OF_VALUES:
        raise malformed
    try:
        value = _DECODER.decode(malformed.body.decode())
    except (ValueError, RecursionError):
        raise malformed from None
    if not isinstance(value, dict):
        raise malformed
    return value


def mark_text(value: Any) -> Any:
    if isinstance(value, str):
        return NUL if "\0" in value else HALF if _SURROGATE.search(value) else value
    return [mark_text(element) for element in value] if isinstance(value, list) else value


def _mark_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if mark_text(name) is not name:
            raise _KeyIsFaulty
        members[name] = REPEATED if name in members else mark_text(value)
    return members


def mark_integer(text: str) -> int | FaultyValue:
    return int(text) if len(text) <= MAX_INTEGER_LENGTH and int(text) in INTEGERS else RANGE


def mark_fraction(text: str) -> float | Decimal | FaultyValue:
    number = read_fraction(text)
    return TOO_LARGE if isinf(number) else number


def _mark_constant(word: str) -> FaultyValue:
    return CONSTANT


_DECODER = json.JSONDecoder(
    object_pairs_hook=_mark_object, parse_int=mark_integer, parse_float=mark_fraction, parse_constant=_mark_constant
)


@dataclass
class CommandBody:
    """`malformed` is the error of a body whose faulty values were marked for the command."""

    malformed: MalformedJson | None = None

    async def read(
        self,
        request: Request,
        kinds: tuple[str, ...] = ("application/json",),
        most: int = MAX_OTHER_BODY,
        check: Callable[[Value], None] | None = None,
        also: tuple[str, ...] = (),
    ) -> tuple[object, bytes]:
        """The JSON value of the body and its bytes, as `read_json` returns them. Raises what it raises where there are other faults than of values."""
        try:
            return await read_json(request, kinds, most, check, also)
        except MalformedJson as problem:
            document = parse_faulty(problem)
            self.malformed = problem
            return document, problem.body or b""

    def raise_if_malformed(self, error: DomainError) -> None:
        """Raises the error of the body in place of that of the command, with all issues of both: a body with faulty values is a 400 as ever."""
        if self.malformed is None or not isinstance(error, Invalid):
            return
        if {issue.code for issue in error.issues} <= _OF_VALUES:
            raise self.malformed from None
        raise BadRequest("The body is not acceptable JSON.", code="json-malformed", issues=error.issues) from None
