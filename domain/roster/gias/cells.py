"""Readers of the cells of GIAS downloads.

A reader takes a cell without surrounding blanks; it returns the value or raises UnreadableError.
"""

import re
from collections.abc import Callable
from datetime import date
from typing import Any, Literal, NamedTuple

from domain.roster.school_numbers import pad_company_number
from domain.support.lru import Lru


class UnreadableError(Exception):
    """A cell, row or file that cannot be read, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PartlyReadableError(UnreadableError):
    """A cell of which only `value` could be read: it makes a note, and its row is kept."""

    def __init__(self, code: str, message: str, value: object) -> None:
        super().__init__(code, message)
        self.value = value


CellReader = Callable[[str], Any]
NOT_RECORDED = {"", "01-01-1900", "1900-01-01"}
"""Cells of a date that mean that GIAS has not recorded it."""
NO_LINKS = {"", "does not have links"}
_DAY_FIRST = re.compile(r"([0-9]{2})-([0-9]{2})-([0-9]{4})")
_YEAR_FIRST = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LINK = re.compile(r"\b([0-9]{6})\s+([A-Za-z]+)")


def read_text(cell: str) -> str | None:
    return cell or None


def require(read: CellReader) -> CellReader:
    """Returns the reader, for a cell that must not be blank."""

    def reader(cell: str) -> Any:
        if not cell:
            raise UnreadableError("gias-missing-value", "must not be blank")
        return read(cell)

    return reader


def make_text_reader(pattern: str, code: str, expected: str) -> CellReader:
    """Returns a reader of identifiers as text: a blank cell is None, and one that does not match `pattern` is an error."""
    matches = re.compile(pattern).fullmatch

    def reader(cell: str) -> str | None:
        if not cell:
            return None
        whole = cell.removesuffix(".0")
        if not matches(whole):
            raise UnreadableError(code, f"{_quote(cell)} is not {expected}")
        return whole

    return reader


def make_number_reader(pattern: str, code: str, expected: str) -> CellReader:
    """Returns the same for identifiers as numbers."""
    text = make_text_reader(pattern, code, expected)
    return lambda cell: int(text(cell)) if cell else None


def read_company_number(cell: str) -> str | None:
    return pad_company_number(cell.removesuffix(".0")) or None


_days: Lru[str, date] = Lru("days of the register", 1_000_000, weigh=lambda cell, day: 150)


def read_date(cell: str) -> date | None:
    if cell in NOT_RECORDED:
        return None
    return _days.get(cell) or _days.put(cell, _parse_day(cell))


def _parse_day(cell: str) -> date:
    parts = _DAY_FIRST.fullmatch(cell)
    try:
        if parts:
            return date(int(parts[3]), int(parts[2]), int(parts[1]))
        if _YEAR_FIRST.fullmatch(cell):
            return date.fromisoformat(cell)
    except ValueError:
        pass
    raise UnreadableError("gias-invalid-date", f"{_quote(cell)} is not a date written dd-mm-yyyy or yyyy-mm-dd")


class SchoolLink(NamedTuple):
    """A link to a school that this one follows (`predecessor`) or that follows it (`successor`)."""

    kind: Literal["predecessor", "successor"]
    urn: int


def read_links(cell: str) -> tuple[SchoolLink, ...]:
    """Reads links such as `148469 Successor - amalgamated`.

    Links that are no succession (a change of age range) make a note.
    """
    if cell.lower() in NO_LINKS:
        return ()
    links: list[SchoolLink] = []
    other_count = 0
    for urn, word in _LINK.findall(cell):
        match word.lower():
            case "predecessor" | "successor" as kind:
                links.append(SchoolLink(kind, int(urn)))
            case _:
                other_count += 1
    if other_count or not links:
        raise PartlyReadableError("gias-link-not-read", f"{_quote(cell)} is more than predecessors and successors", tuple(links))
    return tuple(links)


def _quote(cell: str) -> str:
    return repr(cell if len(cell) <= 60 else cell[:60] + "…")
