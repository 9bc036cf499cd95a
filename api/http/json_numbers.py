"""Reads the numbers of JSON documents and of GraphQL literals with every digit, so that a mark is stored as it was sent."""

from decimal import Decimal, InvalidOperation
from math import inf, isinf

_EXACT_LENGTH = 16
"""Characters of a number with at most 15 digits and a decimal point, all of which a double keeps."""


def read_fraction(text: str) -> float | Decimal:
    """The value of a JSON number that has a fraction or an exponent: a float that is exactly it when written again, else a Decimal.

    A float is infinite where the number is beyond double precision.
    """
    number = float(text)
    if len(text) <= _EXACT_LENGTH and "e" not in text and "E" not in text:
        return number
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent of more than 18 digits
        return inf
    return number if isinf(number) or exact == Decimal(repr(number)) else exact
