"""The body of a bulk command as a stream of rows: a line of NDJSON or a record of CSV for each entry.

What JSON has beside its entries is said by parameters of the URL, which have the same names: none of it identifies a child. The rows become the same
document that they are in JSON, and the command parses it as any other.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request

from api.http.body import UTF_8, split_media_type
from api.http.problems import HttpProblem
from api.rest.csv_columns import STREAMED, Columns
from api.rest.csv_rows import CsvReader
from api.rest.ndjson import read_line
from api.rest.query_string import parse_flag
from api.rest.row_records import CsvSplitter, NdjsonSplitter, Record, refuse_csv
from domain.declare.errors import BadRequest, DomainError, Invalid
from domain.declare.ids import parse_id
from domain.roster.school_numbers import parse_urn
from domain.support.slices import Steps
from domain.write.command import Command

NDJSON, CSV = "application/x-ndjson", "text/csv"
STREAM_TYPES = (NDJSON, CSV)
RECORDS_PER_STEP = 16
"""Records that are read before the event loop may do other work."""


class StreamedRows(NamedTuple):
    """The rows of a stream as values of JSON, and the line on which each begins."""

    values: list[object]
    lines: list[int]


def find_stream_type(request: Request, command: Command) -> str | None:
    """The media type of a request that sends rows as a stream; None where it sends a document.

    Raises HttpProblem 415 for a stream in another character set than UTF-8 and for CSV without a header line.
    """
    kind, parameters = split_media_type(request)
    if kind not in STREAM_TYPES or command.name not in STREAMED:
        return None
    charsets = {value.lower() for name, value in parameters if name == "charset"}
    has_header = all(value.lower() != "absent" for name, value in parameters if name == "header")
    if charsets <= UTF_8 and has_header:
        return kind
    send = "CSV begins with a header line." if charsets <= UTF_8 else "Rows are sent in UTF-8."
    raise HttpProblem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media-type", send, {"Accept-Post": ", ".join(list_media_types(command))})


def list_media_types(command: Command) -> tuple[str, ...]:
    """The media types of a command's body."""
    return ("application/json", *STREAM_TYPES) if command.name in STREAMED else ("application/json",)


def list_head_fields(command: Command) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a batch beside its lists of rows, which a stream has as parameters."""
    return tuple(each for each in msgspec.structs.fields(command.input) if each.encode_name not in command.row_types)


def read_head(command: Command, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The head of a batch from the parameters of a URL. A text that does not have the type of its field is an issue as in JSON."""
    head: dict[str, Any] = {}
    for each in list_head_fields(command):
        text = parameters.get(each.encode_name)
        if text is None:
            continue
        schema = msgspec.json.schema(each.type)
        kinds = {kind.get("type") for kind in (schema, *schema.get("anyOf", ()))}
        flag = parse_flag(text)
        if each.encode_name == "school":
            head["school"] = _name_school(text)
        elif "boolean" in kinds and flag is not None:
            head[each.encode_name] = flag
        elif "integer" in kinds and text.isascii() and text.isdigit() and len(text) < 10:
            head[each.encode_name] = int(text)
        else:
            head[each.encode_name] = text
    return head


def _name_school(text: str) -> dict[str, str]:
    """How a batch names a school, from its id, URN or LAESTAB."""
    if parse_id(text) is not None:
        return {"id": text}
    try:
        parse_urn(text)
    except ValueError:
        return {"laestab": text}
    return {"urn": text}


class RowReader:
    """Reads a stream of rows piece by piece."""

    def __init__(self, kind: str, command: Command, head: Mapping[str, Any]) -> None:
        self._splitter = CsvSplitter() if kind == CSV else NdjsonSplitter()
        self._read: Callable[[Record], object] | None = None if kind == CSV else read_line
        entry = command.entries
        assert entry is not None
        self._columns = Columns(STREAMED[command.name], entry, has_school="school" in head)
        self.header: str | None = None

    def read(self, piece: bytes) -> Iterable[tuple[Record, object]]:
        """The rows that end in this piece. Raises BadRequest for a body that cannot be read on."""
        return self._read_all(self._splitter.split(piece))

    def finish(self) -> Iterable[tuple[Record, object]]:
        """The last row. Raises BadRequest where CSV has no header line."""
        yield from self._read_all(self._splitter.finish())
        if self._read is None:
            raise refuse_csv("csv-malformed", 1, 1, "the header line is missing.")

    def _read_all(self, records: Iterable[Record]) -> Iterable[tuple[Record, object]]:
        for record in records:
            if self._read is None:
                self._read = CsvReader(record, self._columns).read
                self.header = record.text.decode()
            else:
                yield record, self._read(record)


def read_rows(kind: str, command: Command, head: Mapping[str, Any], body: bytes, most: int) -> Steps[StreamedRows | None]:
    """The rows of a whole body, in steps; None where there are more than `most`. Raises BadRequest where it cannot be read as a whole."""
    reader, rows = RowReader(kind, command, head), StreamedRows([], [])
    for read in (reader.read(body), reader.finish()):
        for record, value in read:
            if len(rows.lines) == most:
                return None
            rows.values.append(value)
            rows.lines.append(record.line)
            if len(rows.lines) % RECORDS_PER_STEP == 0:
                yield
    return rows


def make_row_reader(kind: str, command: Command, head: Mapping[str, Any], header: str | None) -> Callable[[int, bytes], object]:
    """How the rows of a stream are read, each by its line and its bytes. `header` is the header line of CSV."""
    entry = command.entries
    assert entry is not None
    read: Callable[[Record], object] = read_line
    if kind == CSV:
        columns = Columns(STREAMED[command.name], entry, has_school="school" in head)
        read = CsvReader(Record(1, (header or "").encode()), columns).read
    return lambda line, text: read(Record(line, text))


def describe_head(head: Mapping[str, Any]) -> str:
    """The head as a text that is the same for equal ones."""
    return json.dumps(head, sort_keys=True)


def raise_if_unread(kind: str, error: DomainError) -> None:
    """Raises the error of a body with rows that cannot be read, in place of that of the command: nothing was written, so it is a 400 as for JSON."""
    if not isinstance(error, Invalid) or not any(issue.code.startswith(("csv-", "json-")) for issue in error.issues):
        return
    noun, code = ("CSV", "csv-malformed") if kind == CSV else ("NDJSON", "json-malformed")
    raise BadRequest(f"The body is not acceptable {noun}.", code=code, issues=error.issues) from None
