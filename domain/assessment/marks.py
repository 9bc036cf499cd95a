"""Marks behind grades: how many decimals they may have."""

from decimal import Decimal
from typing import Any

from domain.declare.inputs import ExactNumber, round_half_up
from domain.declare.vocabulary import STORED_DECIMALS
from domain.write.batch import Batch


def resolve_mark(batch: Batch[Any, Any], at: int, mark: ExactNumber, rounding: int | None) -> Decimal:
    """Returns the mark to store. It is rounded only where its scheme declares to how many decimals, which is told in a
    warning; otherwise a mark with more decimals than are stored is rejected.
    """
    rounded = round_half_up(mark, STORED_DECIMALS if rounding is None else rounding)
    if rounded != mark and rounding is None:
        message = f"A mark has at most {STORED_DECIMALS} decimals; rounded it would be {rounded}."
        batch.reject(at, "mark", "too-many-decimals", message)
    elif rounded != mark:
        batch.warn(at, "mark", "mark-rounded", f"The scheme rounds marks; this one is stored as {rounded}.")
    return rounded
