"""The figures of a row of an edition, as they are stored."""

from msgspec import Struct


class EditionFigures(Struct, array_like=True):
    """Of one subject: `expected` and `higher` are None where the schools' schemes have no such standard; `hundredths` is the sum of marks,
    None where they have none, or none that may be told."""

    eligible: int
    valid: int
    expected: int | None
    higher: int | None
    hundredths: int | None
