"""Ranges: which values a filter such as `mark.gte` leaves, by the type of its field."""

from datetime import timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Any

from domain.declare.value_types import ValueType


class Comparison(StrEnum):
    """The operator of a range filter, such as `dateOfBirth.gte=2015-09-01`. Other filters test for equality."""

    GTE = "gte"
    GT = "gt"
    LTE = "lte"
    LT = "lt"

    @property
    def is_lower(self) -> bool:
        """Whether it bounds the values from below."""
        return self in (Comparison.GTE, Comparison.GT)


_STEPS = {ValueType.INTEGER: 1, ValueType.DATE: timedelta(days=1), ValueType.INSTANT: timedelta(microseconds=1)}
"""The distance of two values that follow one another, as the database stores them."""


def find_nearest(comparison: Comparison, bound: Any, type_: ValueType, decimals: int) -> Any:
    """Returns the least value that a lower bound leaves, or the greatest that an upper bound leaves: 4 of whole numbers
    above 3, whose number of decimals is 0.

    Raises OverflowError where no date or instant lies beyond.
    """
    below = above = bound
    step = _STEPS.get(type_)
    if step is None:
        step = Decimal(1).scaleb(-decimals)
        below, above = bound.quantize(step, ROUND_FLOOR), bound.quantize(step, ROUND_CEILING)
    match comparison:
        case Comparison.GTE:
            return above
        case Comparison.GT:
            return below + step
        case Comparison.LTE:
            return below
    return above - step
