"""Parses the CSV downloads of Get Information About Schools (GIAS) into typed rows and issues.

There are three kinds of files: *establishments*, *groups* and *group links* (which establishment belongs to which
group). The header decides which kind a file is, whatever its name and the order of its columns; other columns are
ignored. Bad content never raises: every problem is an issue with file, line and column, its row is left out, and
parsing goes on.

Properties of the downloads of spring 2022 that shape the code:

- The service writes Windows-1252, newer extracts UTF-8; some of those contain Windows-1252 punctuation that was decoded
  as Latin-1.
- Dates are dd-mm-yyyy in establishments and yyyy-mm-dd in groups; 1 January 1900 means "not recorded".
- Extracts exported from a data frame show whole numbers as `6893415.0` and lose a company number's leading zero.
- Group links include children's centres, whose URNs have five digits; a school's has six.
- A Group ID is not a key (a single-academy trust hands its own to the multi-academy trust that succeeds it, and
  federations write anything there); the Group UID is. Nor is a LAESTAB: a converting school and the academy it becomes
  share one.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, get_type_hints

from msgspec import Struct

from domain.roster.gias.cells import PartlyReadableError, UnreadableError
from domain.roster.gias.rows import Column, Establishment, Extract, Group, GroupLink, ParseIssue


class _FileKind:
    """One of the three kinds of files: the type of its rows, the fields that are its key, its columns by field and the
    required headers.
    """

    def __init__(self, row: type[Struct], *key: str) -> None:
        self.row = row
        self.key = key
        hints = get_type_hints(row, include_extras=True)
        self.columns: dict[str, Column] = {field: hints[field].__metadata__[0] for field in row.__struct_fields__}
        optional = len(row.__struct_defaults__)
        self.required = [column.header for column in self.columns.values()][: len(self.columns) - optional]


_ESTABLISHMENTS = _FileKind(Establishment, "urn")
_GROUPS = _FileKind(Group, "uid")
_LINKS = _FileKind(GroupLink, "urn", "group_uid")

_CONTROLS = re.compile("[\x80-\x9f]")
_PUNCTUATION = {chr(byte): bytes([byte]).decode("cp1252", "replace") for byte in range(0x80, 0xA0)}
"""What bytes 80-9F mean in Windows-1252.

In decoded text these code points are control characters; here they are apostrophes and dashes from a file that was once
decoded as Latin-1.
"""


def parse_gias(files: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> Extract:
    """Parses GIAS downloads (file name → content), any number of each kind; never raises for bad content.

    Within a file the second row with a key is an issue. Across files the first row with a key is kept, and another one
    is an issue if it differs.
    """
    builder = _ExtractBuilder()
    for file, content in files.items() if isinstance(files, Mapping) else files:
        builder.add_file(file, content)
    return Extract(builder.list_rows(_ESTABLISHMENTS), builder.list_rows(_GROUPS), builder.list_rows(_LINKS), builder.issues)


class _ParsedRow(NamedTuple):
    """A row, with its file and line."""

    row: Any
    file: str
    line: int


class _FileLayout(NamedTuple):
    """A file with a valid header: its kind, the number of its columns, the index of each field's cell, and the line of
    every key so far.
    """

    file: str
    kind: _FileKind
    width: int
    positions: dict[str, int]
    line_of_key: dict[tuple[int, ...], int]


class _ExtractBuilder:
    """The rows and issues of the files parsed so far."""

    def __init__(self) -> None:
        self.issues: list[ParseIssue] = []
        self._rows: dict[_FileKind, dict[tuple[int, ...], _ParsedRow]] = {kind: {} for kind in (_ESTABLISHMENTS, _GROUPS, _LINKS)}

    def list_rows(self, kind: _FileKind) -> list[Any]:
        return [parsed.row for parsed in self._rows[kind].values()]

    def add_file(self, file: str, content: bytes) -> None:
        """Parses one file. A problem of the whole file is one issue, and none of its rows are parsed."""
        line = 1
        try:
            lines = _split_rows(_decode(content))
            line, header = next(lines, (1, UnreadableError("gias-unreadable-file", "the file is empty")))
            if isinstance(header, UnreadableError):
                raise header
            headers = [cell.strip().lower() for cell in header]
            kind = _detect_kind(headers)
            layout = _FileLayout(file, kind, len(headers), _locate_columns(kind, headers), {})
        except UnreadableError as problem:
            self._add_issue(file, line, "", problem)
            return
        for line, cells in lines:
            if isinstance(cells, UnreadableError):
                self._add_issue(file, line, "", cells)
            elif len(cells) != layout.width:
                message = f"the row has {len(cells)} cells, the header has {layout.width}"
                self._add_issue(file, line, "", UnreadableError("gias-ragged-row", message))
            else:
                self._add_row(layout, line, cells)

    def _add_row(self, layout: _FileLayout, line: int, cells: list[str]) -> None:
        """Parses one row. The key is remembered even if the row is left out, so that a second row with it is an issue."""
        kind = layout.kind
        values: dict[str, Any] = {}
        for field, position in layout.positions.items():
            column = kind.columns[field]
            try:
                values[field] = column.read(cells[position].strip())
            except PartlyReadableError as problem:
                values[field] = problem.value
                self._add_issue(layout.file, line, column.header, problem, "note")
            except UnreadableError as problem:
                self._add_issue(layout.file, line, column.header, problem)
        if any(field not in values for field in kind.key):
            return
        key = tuple(values[field] for field in kind.key)
        first_line = layout.line_of_key.setdefault(key, line)
        key_column = kind.columns[kind.key[0]].header
        if first_line != line:
            self._add_issue(
                layout.file, line, key_column, UnreadableError("gias-duplicate-row", f"the same key is on line {first_line}")
            )
        elif len(values) == len(layout.positions):
            parsed = _ParsedRow(kind.row(**values), layout.file, line)
            first_parsed = self._rows[kind].setdefault(key, parsed)
            if first_parsed.row != parsed.row:
                conflict = f"differs from {first_parsed.file}, line {first_parsed.line}, which is kept"
                self._add_issue(layout.file, line, key_column, UnreadableError("gias-conflicting-row", conflict))

    def _add_issue(
        self, file: str, line: int, column: str, problem: UnreadableError, severity: Literal["error", "note"] = "error"
    ) -> None:
        self.issues.append(ParseIssue(file, line, column, problem.code, str(problem), severity))


def _decode(content: bytes) -> str:
    """Decodes UTF-8 (with or without a byte order mark) or else Windows-1252, for the whole file."""
    if content.startswith(b"PK\x03\x04"):
        raise UnreadableError("gias-unreadable-file", "this is a ZIP archive or an Excel workbook: unpack it, or save it as CSV")
    if b"\0" not in content:
        for encoding in ("utf-8-sig", "cp1252"):
            with suppress(UnicodeDecodeError):
                return _CONTROLS.sub(lambda character: _PUNCTUATION[character[0]], content.decode(encoding))
    raise UnreadableError("gias-unreadable-file", "this is not a CSV file in UTF-8 or Windows-1252")


def _split_rows(text: str) -> Iterator[tuple[int, list[str] | UnreadableError]]:
    """Returns each row that is not blank, or the error why it cannot be read, with its first physical line."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            message = f"lines {line} to {rows.line_num} cannot be read: look for a quotation mark that is not closed ({error})"
            yield line, UnreadableError("gias-unreadable-row", message)
        else:
            if any(map(str.strip, cells)):
                yield line, cells


def _detect_kind(headers: list[str]) -> _FileKind:
    """Returns the kind of the file.

    Only files about groups have columns named `Group …`, and of those only links have an establishment's column.
    """
    of_schools = "urn" in headers or any(header.startswith("establishment") for header in headers)
    if any(header.startswith("group ") for header in headers):
        return _LINKS if of_schools else _GROUPS
    if any(header.startswith("establishment") for header in headers):
        return _ESTABLISHMENTS
    raise UnreadableError(
        "gias-unknown-file", "this is not the header of GIAS establishments, groups or group links, comma-separated"
    )


def _locate_columns(kind: _FileKind, headers: list[str]) -> dict[str, int]:
    """Returns the index of each field's cell, for the columns that the file has."""
    counts = {column.header: headers.count(column.header.lower()) for column in kind.columns.values()}
    missing = [header for header in kind.required if not counts[header]]
    repeated = [header for header, count in counts.items() if count > 1]
    if missing or repeated:
        problems = [
            f"{what} columns: {', '.join(which)}" for what, which in (("missing", missing), ("repeated", repeated)) if which
        ]
        raise UnreadableError("gias-invalid-header", "; ".join(problems))
    return {field: headers.index(column.header.lower()) for field, column in kind.columns.items() if counts[column.header]}
