"""Splits a stream of rows into records, one for each row, whatever the pieces in which it arrives: lines of NDJSON, and records of CSV (RFC 4180), whose
quoted cells may hold line ends. It holds one record at a time.

Lines and columns in messages count from 1; columns are characters.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from domain.declare.errors import BadRequest, FaultyValue, Issue

MAX_RECORD = 256 * 1024
"""Bytes of one record."""
_UP_TO_QUOTE = re.compile(rb'(?:[^"]+|"")*+')
_TOO_LARGE = f"a row has at most {MAX_RECORD // 1024} kB."


class Record(NamedTuple):
    """The bytes of one row and the line on which they begin. `fault` is what keeps them from being read."""

    line: int
    text: bytes
    fault: FaultyValue | None = None


class NdjsonSplitter:
    """Splits NDJSON into its lines. Empty lines count as lines, and hold no row."""

    def __init__(self) -> None:
        self._rest = b""
        self._line = 1
        self._is_skipping = False

    def split(self, piece: bytes) -> Iterator[Record]:
        """The records that end in this piece."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield from self._take(line)
            self._line += 1
        if len(self._rest) > MAX_RECORD and not self._is_skipping:
            yield from self._take(self._rest)
            self._is_skipping = True
        if self._is_skipping:
            self._rest = b""

    def finish(self) -> Iterator[Record]:
        """The last record, where it has no line end."""
        yield from self._take(self._rest)

    def _take(self, text: bytes) -> Iterator[Record]:
        if self._is_skipping:
            self._is_skipping = False
        elif len(text) > MAX_RECORD:
            yield Record(self._line, b"", FaultyValue("json-too-large", f"Line {self._line}, column 1: {_TOO_LARGE}"))
        elif text.strip(b" \t\r"):
            yield Record(self._line, text)


class CsvSplitter:
    """Splits CSV into its records. Lines end in LF or CRLF. An empty line is a record without cells, unless nothing but empty lines follow."""

    def __init__(self) -> None:
        self._rest = b""
        self._line = 1
        self._empty = 0
        self._open: bytearray | None = None  # a record that has not ended, from the line `_begun`
        self._begun = self._at = self._quote = 0
        self._is_quoted = False

    def split(self, piece: bytes) -> Iterator[Record]:
        """The records that end in this piece. Raises BadRequest where a quote is not closed within MAX_RECORD bytes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield from self._take(line, is_last=False)
            self._line += 1
        if len(self._rest) + len(self._open or b"") > MAX_RECORD:
            raise self._refuse()

    def finish(self) -> Iterator[Record]:
        """The last record, where it has no line end. Raises BadRequest where a quote is not closed."""
        yield from self._take(self._rest, is_last=True)
        if self._open is not None:
            raise self._refuse()

    def _take(self, line: bytes, *, is_last: bool) -> Iterator[Record]:
        if self._open is not None:
            self._open += b"\n" + line
        elif b'"' in line:
            self._open, self._begun, self._at, self._quote = bytearray(line), self._line, 0, 0
            self._is_quoted = line.startswith(b'"')
            self._at = int(self._is_quoted)
        else:
            yield from self._end(self._line, line, is_last=is_last)
            return
        if len(self._open) > MAX_RECORD:
            raise self._refuse()
        if self._is_complete(self._open):
            text, self._open = bytes(self._open), None
            yield from self._end(self._begun, text, is_last=is_last)

    def _is_complete(self, text: bytearray) -> bool:
        """Whether no quote is open at the end. Reads on from where it stopped the last time."""
        while True:
            if self._is_quoted:
                found = _UP_TO_QUOTE.match(text, self._at)
                assert found is not None
                self._at = found.end()
                del found  # while it lives, the text cannot grow
                if self._at == len(text):
                    return False
                self._at, self._is_quoted = self._at + 1, False
            comma = text.find(b",", self._at)
            if comma < 0:
                return True
            self._at = comma + 1
            if text[self._at : self._at + 1] == b'"':
                self._quote, self._at, self._is_quoted = self._at, self._at + 1, True

    def _end(self, line: int, text: bytes, *, is_last: bool) -> Iterator[Record]:
        text = text.removesuffix(b"\r")
        if not text:
            self._empty += not is_last
            return
        for number in range(line - self._empty, line):
            yield Record(number, b"")
        self._empty = 0
        yield Record(line, text)

    def _refuse(self) -> BadRequest:
        if self._open is None or not self._is_quoted:
            return refuse_csv("csv-malformed", self._line, 1, _TOO_LARGE)
        line, column = find_line_and_column(self._begun, bytes(self._open), self._quote)
        return refuse_csv("csv-malformed", line, column, "this quote is never closed.")


def find_line_and_column(line: int, text: bytes, at: int) -> tuple[int, int]:
    """The line and column of a byte of a record that begins on `line`."""
    before = text[:at].decode(errors="replace")
    return line + before.count("\n"), len(before) - before.rfind("\n")


def refuse_csv(code: str, line: int, column: int, message: str) -> BadRequest:
    """The error of a body that is no CSV from this place on."""
    issue = Issue("", code, f"Line {line}, column {column}: {message}", line=line)
    return BadRequest("The body is not acceptable CSV.", code="csv-malformed", issues=(issue,))
