"""Reading Get Information About Schools (GIAS): the bytes of its CSV downloads become typed rows and issues. No SQL.

Three files are known: *establishments*, *groups* and *group links* (which establishment belongs to which group). Which file is
which is told from its header, whatever its name and the order of its columns; columns that nobody reads are ignored. Bad content is
never an exception: every problem is an issue naming file, line and column, the row it stands in is left out, and reading goes on.

Facts of the downloads of spring 2022 that shape the code:

- The service writes Windows-1252, newer extracts UTF-8, and some of those carry Windows-1252 punctuation mangled on the way.
- Dates are dd-mm-yyyy in establishments and yyyy-mm-dd in groups; 1 January 1900 means "not recorded".
- Extracts that went through a data frame show whole numbers as `6893415.0` and lose a company number's leading zero.
- Group links name children's centres too, whose URNs have five digits; a school's has six.
- A Group ID is not a key (a single-academy trust hands its own to the multi-academy trust that succeeds it, and federations write
  anything there); the Group UID is. Nor is a LAESTAB: a converting school and the academy it becomes share one.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from msgspec import Struct

from domain.support.lru import Lru

TRUST_TYPES = {6: "multi-academy", 10: "single-academy"}
"""Group type codes that are trusts, among sponsors, federations, children's centres and others."""


class ParseIssue(Struct, frozen=True):
    """Something wrong at a place. An `error` keeps its row, or the whole file, out; a `note` keeps nothing out."""

    file: str
    line: int  # physical line in the file, from 1; of a row with line breaks inside quotation marks, the first
    column: str  # header of the column; empty where the whole row or file is meant
    code: str
    message: str
    severity: Literal["error", "note"] = "error"


class NotRead(Exception):
    """A cell, row or file that cannot be read, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PartlyRead(NotRead):
    """A cell of which only `value` could be read: worth a note, no reason to leave the row out."""

    def __init__(self, code: str, message: str, value: object) -> None:
        super().__init__(code, message)
        self.value = value


# Cells. A reader takes a cell without surrounding blanks and returns its value, or raises `NotRead`.

Reader = Callable[[str], Any]
NOT_RECORDED = {"", "01-01-1900", "1900-01-01"}
STATUSES = {"open, but proposed to close": "proposed to close"}
NO_LINKS = {"", "does not have links"}
_DAY_FIRST = re.compile(r"([0-9]{2})-([0-9]{2})-([0-9]{4})")
_YEAR_FIRST = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LINK = re.compile(r"\b([0-9]{6})\s+([A-Za-z]+)")


def _read_text(cell: str) -> str | None:
    return cell or None


def _require(read: Reader) -> Reader:
    """The same reader, for a cell that must not be blank."""

    def reader(cell: str) -> Any:
        if not cell:
            raise NotRead("gias-missing-value", "must not be blank")
        return read(cell)

    return reader


def _match(pattern: str, code: str, expected: str) -> Reader:
    """A reader of identifiers kept as text: blank is None, anything but `pattern` is refused."""
    matches = re.compile(pattern).fullmatch

    def reader(cell: str) -> str | None:
        if not cell:
            return None
        whole = cell.removesuffix(".0")
        if not matches(whole):
            raise NotRead(code, f"{_quote(cell)} is not {expected}")
        return whole

    return reader


def _read_number(pattern: str, code: str, expected: str) -> Reader:
    text = _match(pattern, code, expected)
    return lambda cell: int(text(cell)) if cell else None


def _read_company_number(cell: str) -> str | None:
    """Companies House numbers have eight characters; data frames drop the leading zeros of those that are all digits."""
    whole = cell.removesuffix(".0")
    return whole.zfill(8) if whole.isdecimal() else whole or None


def _read_status(cell: str) -> str:
    """Lower case: open, closed, proposed to close, proposed to open; an unknown status is kept, not refused."""
    status = cell.lower()
    return STATUSES.get(status, status)


_days: Lru[str, date] = Lru("days of the register", 1_000_000, weigh=lambda cell, day: 150)


def _read_date(cell: str) -> date | None:
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
    raise NotRead("gias-invalid-date", f"{_quote(cell)} is not a date written dd-mm-yyyy or yyyy-mm-dd")


class SchoolLink(NamedTuple):
    """Another school this one follows (`predecessor`) or is followed by (`successor`)."""

    kind: Literal["predecessor", "successor"]
    urn: int


def _read_links(cell: str) -> tuple[SchoolLink, ...]:
    """Such as `148469 Successor - amalgamated`. Links that are no succession (a change of age range) are noted, not kept."""
    if cell.lower() in NO_LINKS:
        return ()
    links: list[SchoolLink] = []
    others = 0
    for urn, word in _LINK.findall(cell):
        match word.lower():
            case "predecessor" | "successor" as kind:
                links.append(SchoolLink(kind, int(urn)))
            case _:
                others += 1
    if others or not links:
        raise PartlyRead("gias-link-not-read", f"{_quote(cell)} is more than predecessors and successors", tuple(links))
    return tuple(links)


def _quote(cell: str) -> str:
    return repr(cell if len(cell) <= 60 else cell[:60] + "…")


# Rows. A field's annotation names the column it comes from and how the column is read; a field without a default needs its column.


class Column(NamedTuple):
    """Where a field comes from: the header of the download, and the reader of its cells."""

    header: str
    read: Reader


_ESTABLISHMENT_NUMBER = _match("[0-9]{4}", "gias-invalid-establishment-number", "an establishment number of four digits")
_LA = _match("[0-9]{3}", "gias-invalid-la-code", "a local authority code of three digits")
_NUMBER = _read_number("[0-9]{1,9}", "gias-invalid-number", "a whole number")
_URN = _read_number("[1-9][0-9]{5}", "gias-invalid-urn", "a URN of six digits")
_URN_IN_GROUP = _read_number("[1-9][0-9]{4,5}", "gias-invalid-urn", "a URN of six digits (five for a children's centre)")
_UKPRN = _match("[1-9][0-9]{7}", "gias-invalid-ukprn", "a UKPRN of eight digits")


class Establishment(Struct, frozen=True):
    """A school, open, closed or proposed. Its key is the URN; a school that becomes an academy gets a new one."""

    urn: Annotated[int, Column("URN", _require(_URN))]
    la_code: Annotated[str | None, Column("LA (code)", _LA)]
    establishment_number: Annotated[str | None, Column("EstablishmentNumber", _ESTABLISHMENT_NUMBER)]
    name: Annotated[str, Column("EstablishmentName", _require(_read_text))]
    type_name: Annotated[str | None, Column("TypeOfEstablishment (name)", _read_text)]
    status: Annotated[str, Column("EstablishmentStatus (name)", _require(_read_status))]
    phase: Annotated[str | None, Column("PhaseOfEducation (name)", _read_text)]
    low_age: Annotated[int | None, Column("StatutoryLowAge", _NUMBER)]
    high_age: Annotated[int | None, Column("StatutoryHighAge", _NUMBER)]
    opened_on: Annotated[date | None, Column("OpenDate", _read_date)]
    closed_on: Annotated[date | None, Column("CloseDate", _read_date)]
    ukprn: Annotated[str | None, Column("UKPRN", _UKPRN)]
    la_name: Annotated[str | None, Column("LA (name)", _read_text)] = None
    type_group: Annotated[str | None, Column("EstablishmentTypeGroup (name)", _read_text)] = None
    open_reason: Annotated[str | None, Column("ReasonEstablishmentOpened (name)", _read_text)] = None
    close_reason: Annotated[str | None, Column("ReasonEstablishmentClosed (name)", _read_text)] = None
    town: Annotated[str | None, Column("Town", _read_text)] = None
    postcode: Annotated[str | None, Column("Postcode", _read_text)] = None
    links: Annotated[tuple[SchoolLink, ...], Column("Linked establishments", _read_links)] = ()

    @property
    def laestab(self) -> str | None:
        """LA code and establishment number in one, seven digits as text; None where either is not recorded."""
        return self.la_code + self.establishment_number if self.la_code and self.establishment_number else None


class Group(Struct, frozen=True):
    """A trust (see `TRUST_TYPES`) or another group. Trusts have `incorporated_on`, other groups `opened_on`."""

    uid: Annotated[int, Column("Group UID", _require(_NUMBER))]
    group_id: Annotated[str | None, Column("Group ID", _read_text)]
    name: Annotated[str, Column("Group Name", _require(_read_text))]
    companies_house_number: Annotated[str | None, Column("Companies House Number", _read_company_number)]
    type_code: Annotated[int, Column("Group Type (code)", _require(_NUMBER))]
    status: Annotated[str, Column("Group Status", _require(_read_status))]
    opened_on: Annotated[date | None, Column("Open date", _read_date)]
    closed_on: Annotated[date | None, Column("Closed Date", _read_date)]
    incorporated_on: Annotated[date | None, Column("Incorporated on (open date)", _read_date)]
    ukprn: Annotated[str | None, Column("UKPRN", _UKPRN)] = None


class GroupLink(Struct, frozen=True):
    """An establishment in a group on the day of the download. `joined_on` is None where GIAS has not recorded the day."""

    urn: Annotated[int, Column("URN", _require(_URN_IN_GROUP))]
    group_uid: Annotated[int, Column("Group UID", _require(_NUMBER))]
    type_code: Annotated[int, Column("Group Type (code)", _require(_NUMBER))]
    joined_on: Annotated[date | None, Column("Joined date", _read_date)]
    group_closed_on: Annotated[date | None, Column("Closed Date", _read_date)] = None


class Extract(Struct, frozen=True):
    """What the files say: one row per key (URN, Group UID, or both for a link), in file order, and all issues."""

    establishments: list[Establishment]
    groups: list[Group]
    links: list[GroupLink]
    issues: list[ParseIssue]


# Files.


class _FileKind:
    """One of the three files: the row it holds, the fields that are its key, and its columns by field."""

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

# What bytes 80-9F of Windows-1252 mean. In decoded text those code points are control characters that no register holds on purpose:
# they are an apostrophe or a dash whose file was once taken for Latin-1.
_MANGLED = re.compile("[\x80-\x9f]")
_PUNCTUATION = {chr(byte): bytes([byte]).decode("cp1252", "replace") for byte in range(0x80, 0xA0)}


def read(files: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> Extract:
    """Read GIAS downloads: file name → content, any of the three kinds, several of a kind too. Never raises for bad content.

    Within a file the second row of a key is an issue. Across files a row that was already read is kept once, and is an issue if it
    says something else.
    """
    reading = _Reading()
    for file, content in files.items() if isinstance(files, Mapping) else files:
        reading.file(file, content)
    return Extract(reading.rows(_ESTABLISHMENTS), reading.rows(_GROUPS), reading.rows(_LINKS), reading.issues)


class _FoundRow(NamedTuple):
    """A row that was read, and where."""

    row: Any
    file: str
    line: int


class _Sheet(NamedTuple):
    """A file whose header is understood: the number of its columns, the index of each field's cell, the line of every key met."""

    file: str
    kind: _FileKind
    width: int
    places: dict[str, int]
    seen: dict[tuple[int, ...], int]


class _Reading:
    """The rows and issues of the files read so far."""

    def __init__(self) -> None:
        self.issues: list[ParseIssue] = []
        self.found: dict[_FileKind, dict[tuple[int, ...], _FoundRow]] = {kind: {} for kind in (_ESTABLISHMENTS, _GROUPS, _LINKS)}

    def rows(self, kind: _FileKind) -> list[Any]:
        return [found.row for found in self.found[kind].values()]

    def file(self, file: str, content: bytes) -> None:
        """Read one file. What is wrong with it as a whole is one issue, and none of its rows are read."""
        line = 1
        try:
            lines = _split_rows(_decode(content))
            line, header = next(lines, (1, NotRead("gias-unreadable-file", "the file is empty")))
            if isinstance(header, NotRead):
                raise header
            headers = [cell.strip().lower() for cell in header]
            kind = _recognise(headers)
            sheet = _Sheet(file, kind, len(headers), _locate_columns(kind, headers), {})
        except NotRead as problem:
            self._issue(file, line, "", problem)
            return
        for line, cells in lines:
            if isinstance(cells, NotRead):
                self._issue(file, line, "", cells)
            elif len(cells) != sheet.width:
                message = f"the row has {len(cells)} cells, the header has {sheet.width}"
                self._issue(file, line, "", NotRead("gias-ragged-row", message))
            else:
                self._row(sheet, line, cells)

    def _row(self, sheet: _Sheet, line: int, cells: list[str]) -> None:
        """Read one row. A key counts as met even if its row is left out: a second row may not stand in for it unseen."""
        kind = sheet.kind
        values: dict[str, Any] = {}
        for field, place in sheet.places.items():
            column = kind.columns[field]
            try:
                values[field] = column.read(cells[place].strip())
            except PartlyRead as problem:
                values[field] = problem.value
                self._issue(sheet.file, line, column.header, problem, "note")
            except NotRead as problem:
                self._issue(sheet.file, line, column.header, problem)
        if any(field not in values for field in kind.key):
            return
        key = tuple(values[field] for field in kind.key)
        first = sheet.seen.setdefault(key, line)
        key_column = kind.columns[kind.key[0]].header
        if first != line:
            self._issue(sheet.file, line, key_column, NotRead("gias-duplicate-row", f"stands on line {first} already"))
        elif len(values) == len(sheet.places):
            found = _FoundRow(kind.row(**values), sheet.file, line)
            kept = self.found[kind].setdefault(key, found)
            if kept.row != found.row:
                conflict = f"differs from {kept.file}, line {kept.line}, which is kept"
                self._issue(sheet.file, line, key_column, NotRead("gias-conflicting-row", conflict))

    def _issue(self, file: str, line: int, column: str, problem: NotRead, severity: Literal["error", "note"] = "error") -> None:
        self.issues.append(ParseIssue(file, line, column, problem.code, str(problem), severity))


def _decode(content: bytes) -> str:
    """UTF-8 (with or without a byte order mark) or Windows-1252, decided for the file as a whole."""
    if content.startswith(b"PK\x03\x04"):
        raise NotRead("gias-unreadable-file", "this is a ZIP archive or an Excel workbook: unpack it, or save it as CSV")
    if b"\0" not in content:
        for encoding in ("utf-8-sig", "cp1252"):
            with suppress(UnicodeDecodeError):
                return _MANGLED.sub(lambda character: _PUNCTUATION[character[0]], content.decode(encoding))
    raise NotRead("gias-unreadable-file", "this is not a CSV file in UTF-8 or Windows-1252")


def _split_rows(text: str) -> Iterator[tuple[int, list[str] | NotRead]]:
    """Each row that is not blank, or why it cannot be read, with its first physical line."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            message = f"lines {line} to {rows.line_num} cannot be read: look for a quotation mark that is not closed ({error})"
            yield line, NotRead("gias-unreadable-row", message)
        else:
            if any(map(str.strip, cells)):
                yield line, cells


def _recognise(headers: list[str]) -> _FileKind:
    """Only files about groups have columns named `Group …`, and of those only links name an establishment."""
    of_schools = "urn" in headers or any(header.startswith("establishment") for header in headers)
    if any(header.startswith("group ") for header in headers):
        return _LINKS if of_schools else _GROUPS
    if any(header.startswith("establishment") for header in headers):
        return _ESTABLISHMENTS
    raise NotRead("gias-unknown-file", "this is not the header of GIAS establishments, groups or group links, comma-separated")


def _locate_columns(kind: _FileKind, headers: list[str]) -> dict[str, int]:
    """Field → index of its cell, for the columns the file has."""
    counts = {column.header: headers.count(column.header.lower()) for column in kind.columns.values()}
    missing = [header for header in kind.required if not counts[header]]
    repeated = [header for header, count in counts.items() if count > 1]
    if missing or repeated:
        wrong = [f"{what} columns: {', '.join(which)}" for what, which in (("missing", missing), ("repeated", repeated)) if which]
        raise NotRead("gias-invalid-header", "; ".join(wrong))
    return {field: headers.index(column.header.lower()) for field, column in kind.columns.items() if counts[column.header]}
