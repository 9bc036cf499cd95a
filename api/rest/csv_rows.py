"""Reads the records of a CSV body as rows of JSON: the header line says which field each column is (csv_columns.py).

A record with a fault of its own is a FaultyValue in place of its row, so that a lenient batch loses no other row.
"""

import re
from collections.abc import Iterator

from api.http.command_body import NUL
from api.rest.csv import FORMULA
from api.rest.csv_columns import Columns
from api.rest.row_records import Record, find_line_and_column, refuse_csv
from domain.declare.errors import BadRequest, FaultyValue, Issue

_QUOTED = re.compile(r'(?:[^"]+|"")*+')
_OTHER_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _CellFault(Exception):
    """A character at which a record cannot be read on."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at
        self.message = message


class CsvReader:
    """Reads the records after a header line. Raises BadRequest for a header line with unknown or repeated columns."""

    def __init__(self, header: Record, columns: Columns) -> None:
        self.header = header
        text = header.text.removeprefix(BYTE_ORDER_MARK)
        if text.startswith(_OTHER_BYTE_ORDER_MARKS):
            raise refuse_csv("csv-encoding", 1, 1, "the body is in UTF-16 or UTF-32; send UTF-8.")
        try:
            cells = list(_iterate_cells(_decode(text)))
        except _CellFault as fault:
            line, column = _locate(header.line, text, fault.at)
            raise refuse_csv("csv-malformed", line, column, fault.message) from None
        except UnicodeDecodeError as error:
            line, column = find_line_and_column(header.line, text, error.start)
            raise refuse_csv("csv-encoding", line, column, "this byte is not UTF-8.") from None
        problems = columns.choose([name.strip() for name, _ in cells])
        if problems:
            places = [_locate(header.line, text, cells[n][1]) for n, _, _ in problems]
            issues = [
                Issue("", code, f"Line {line}, column {column}: {message}", line=line)
                for (line, column), (_, code, message) in zip(places, problems, strict=True)
            ]
            raise BadRequest("The header line cannot be read.", code="csv-malformed", issues=tuple(issues))
        self._columns = columns
        self._width = len(cells)

    def read(self, record: Record) -> object:
        """The row of a record, or its fault."""
        if record.fault is not None:
            return record.fault
        try:
            text = _decode(record.text)
            cells = text.split(",") if '"' not in text and "\r" not in text else [cell for cell, _ in _iterate_cells(text)]
        except UnicodeDecodeError as error:
            line, column = find_line_and_column(record.line, record.text, error.start)
            return _describe("csv-encoding", line, column, "this byte is not UTF-8.")
        except _CellFault as fault:
            return _describe("csv-malformed", *_locate(record.line, record.text, fault.at), fault.message)
        if not any(cells):
            return _describe("csv-row-empty", record.line, 1, "the row is empty.")
        if len(cells) != self._width:
            line, column = _locate(record.line, record.text, len(text))
            count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            return _describe("csv-ragged", line, column, f"the row ends after {count}; the header line has {self._width}.")
        return self._columns.make_row([_read_cell(cell) for cell in cells])


def _decode(text: bytes) -> str:
    return text.decode()


def _describe(code: str, line: int, column: int, message: str) -> FaultyValue:
    return FaultyValue(code, f"Line {line}, column {column}: {message}")


def _locate(line: int, text: bytes, at: int) -> tuple[int, int]:
    """The line and column of a character of a record."""
    before = text.decode(errors="replace")[:at]
    return line + before.count("\n"), len(before) - before.rfind("\n")


def _iterate_cells(text: str) -> Iterator[tuple[str, int]]:
    """The cells of a record, each with the index of its first character. Raises _CellFault."""
    at = 0
    while True:
        begun = at
        if text[at : at + 1] == '"':
            found = _QUOTED.match(text, at + 1)
            assert found is not None
            if found.end() == len(text):
                raise _CellFault(at, "this quote is never closed.")
            cell, at = found[0].replace('""', '"'), found.end() + 1
            if text[at : at + 1] not in ("", ","):
                raise _CellFault(at, "a comma or the end of the line is expected here; a quote in a quoted cell is doubled.")
        else:
            at = text.find(",", at)
            at = len(text) if at < 0 else at
            cell = text[begun:at]
            if '"' in cell:
                raise _CellFault(begun + cell.index('"'), "a cell that holds a quote is quoted, and the quote is doubled.")
            if "\r" in cell:
                raise _CellFault(begun + cell.index("\r"), "lines end in LF or CRLF.")
        yield cell, begun
        if at == len(text):
            return
        at += 1


def _read_cell(cell: str) -> str | FaultyValue:
    """The text of a cell, without the ' with which this API guards a formula (csv.py)."""
    if "\0" in cell:
        return NUL
    return cell[1:] if cell.startswith("'") and cell[1:].lstrip(" ").startswith(FORMULA) else cell
