"""The dimensions of aggregates and their values, which a question groups by, filters by or compares."""

from domain.declare.vocabulary import find_word
from domain.roster.years import YEARS, parse_year_group

CLASS = "class"
DIMENSIONS = ("school", "subject", "window", "yearGroup", CLASS, "sex", "disadvantaged", "eal", "sen")

CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sex": (("F", "M"), ()),
    "disadvantaged": (("true", "false"), ("unknown",)),
    "eal": (("1", "2", "3"), ("unknown",)),
    "sen": (("N", "K", "E"), ("S", "A", "P", "unknown")),
}
"""The categories of each characteristic, in order: those always shown, and those shown only where the answer has one."""

COMPARED = {"sex": ("F", "M"), "disadvantaged": ("true", "false"), "eal": ("2", "1"), "sen": ("K", "N")}
"""The two categories of which a gap is, unless the question names others: the first less the second."""

FILTERS = {"yearGroup": "year_group", "sex": "sex", "disadvantaged": "disadvantaged", "eal": "eal", "sen": "sen"}
"""What pupils are filtered by, and the columns of cells that have it."""


def list_values(dimension: str) -> tuple[str, ...]:
    """Returns the values of a characteristic or of the year group."""
    if dimension == "yearGroup":
        return YEARS
    always, sometimes = CATEGORIES[dimension]
    return always + sometimes


def find_value(dimension: str, text: str) -> str | None:
    """Returns the value that a text means, in any case; None without one."""
    if dimension == "yearGroup":
        try:
            return parse_year_group(text)
        except ValueError:
            return None
    return find_word(text, list_values(dimension))
