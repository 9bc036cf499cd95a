"""Marks behind grades: how many decimals they may have."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from domain.write.batch import Batch

STORED_DECIMALS = 2
"""Decimals of a mark in the database."""


def resolve_mark(batch: Batch[Any, Any], at: int, mark: float, rounding: int | None) -> Decimal:
    """Returns the mark to store. It is rounded only where its scheme declares to how many decimals, which is told in a
    warning; otherwise a mark with more decimals than are stored is rejected.
    """
    exact = Decimal(str(mark))
    decimals = STORED_DECIMALS if rounding is None else rounding
    rounded = exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    if rounded != exact and rounding is None:
        message = f"A mark has at most {STORED_DECIMALS} decimals; rounded it would be {rounded}."
        batch.reject(at, "mark", "too-many-decimals", message)
    elif rounded != exact:
        batch.warn(at, "mark", "mark-rounded", f"The scheme rounds marks; this one is stored as {rounded}.")
    return rounded
