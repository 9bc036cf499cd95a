"""Responses as CSV for spreadsheets: RFC 4180, UTF-8, a header row of the JSON names.

The fields of a linked row and the members of an object are columns of their own, such as `window.name`; the elements of a list are separated by
semicolons. Identifiers are written as they are. Text that a spreadsheet would run as a formula gets a ' in front (OWASP, "CSV Injection"). A byte
order mark, by which some spreadsheets know UTF-8, is written where `bom` asks for it.
"""

import csv
import io
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request

from api.http.accept import choose_media_type
from api.rest.query_string import OF_CSV, parse_flag
from domain.aggregates.dimensions import CLASS
from domain.aggregates.transition_rows import TransitionPage, TransitionRow
from domain.declare.errors import BadRequest, Issue
from domain.declare.vocabulary import find_word
from domain.publishing.preview_groups import PreviewGroup
from domain.publishing.read_preview import PublicationPreview
from domain.read.query import FieldValue, ListQuery, ToMany, ToOne
from domain.read.staff_names import make_class_issue
from domain.support.slices import Steps

ROWS_PER_STEP = 16
"""Rows written before the event loop may do other work."""
PARAMETERS, FORMATS, SHAPES = ("format", "bom", "shape"), ("json", "csv"), ("long", "wide")
CSV = (b"content-type", b"text/csv; charset=utf-8; header=present")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings of a cell that a spreadsheet may run."""
_FORMAT_ISSUE = Issue("format", "parameter-invalid", "format is json or csv.")


def is_csv_wanted(request: Request) -> bool:
    """Whether the response is to be CSV: by `format`, or without it by Accept. Raises BadRequest for an unknown format."""
    text = request.query_params.get("format")
    if text is None:
        return accepts_csv(request)
    name = find_word(text, FORMATS)
    if name is None:
        raise BadRequest(_FORMAT_ISSUE.message, code="parameter-invalid", issues=(_FORMAT_ISSUE,))
    return name == "csv"


def accepts_csv(request: Request) -> bool:
    """Whether Accept prefers text/csv to JSON. A client that accepts neither gets JSON (RFC 9110, section 12.5.1)."""
    accepted: list[bytes] = [value for name, value in request.scope["headers"] if name == b"accept"]
    if accepted in ([], [b"*/*"], [b"application/json"]):
        return False
    header = ",".join(value.decode("latin-1") for value in accepted)
    return choose_media_type(header, ("application/json", "text/csv")) == "text/csv"


def wants_mark(request: Request) -> bool:
    """Whether CSV is to begin with a byte order mark."""
    return parse_flag(request.query_params.get("bom", "")) is True


def read_format(request: Request, formats: tuple[str, ...] = FORMATS) -> tuple[bool, str, list[Issue]]:
    """Whether aggregates are to be CSV, the shape of the table, and the issues of these parameters. `formats` are those that there are."""
    parameters = request.query_params
    issues = [
        Issue(name, "parameter-repeated", f"{name} appears more than once.")
        for name in PARAMETERS
        if len(parameters.getlist(name)) > 1
    ]
    if "format" in parameters and find_word(parameters["format"], formats) is None:
        message = f"format is {', '.join(formats[:-1])} or {formats[-1]}."
        return False, SHAPES[0], [*issues, Issue("format", "parameter-invalid", message)]
    as_csv, shape = is_csv_wanted(request), find_word(parameters.get("shape", SHAPES[0]), SHAPES)
    if shape is None:
        shape = SHAPES[0]
        issues.append(Issue("shape", "parameter-invalid", f"shape is {' or '.join(SHAPES)}."))
    if "bom" in parameters and parse_flag(parameters["bom"]) is None:
        issues.append(Issue("bom", "parameter-invalid", "bom is true or false."))
    elif wants_mark(request) and not as_csv:
        issues.append(Issue("bom", "parameter-invalid", OF_CSV))
    if "shape" in parameters and not as_csv:
        issues.append(Issue("shape", "shape-of-csv", "shape is for CSV only; ask for it with format=csv."))
    dimensions = ",".join(parameters.getlist("groupBy")).split(",")
    if as_csv and any(find_word(name.strip(), (CLASS,)) for name in dimensions):
        issues.append(make_class_issue("groupBy", "A file is never divided by class, since it travels farther than its reader."))
    if shape == "wide":
        if all(find_word(name, ("school",)) is None for name in dimensions):
            issues.append(Issue("groupBy", "wide-by-school", "A wide table has a row per school: group by school too."))
        message = "A wide table has no pages; leave {} out, or ask for shape=long."
        issues += [Issue(name, "wide-is-whole", message.format(name)) for name in ("first", "after") if name in parameters]
    return as_csv, shape, issues


def make_file_headers(name: str) -> list[tuple[bytes, bytes]]:
    """The header field by which a browser saves the response as NAME.csv (RFC 6266)."""
    return [(b"content-disposition", f'attachment; filename="{name}.csv"'.encode())]


def list_columns(query: ListQuery) -> list[tuple[str, ...]]:
    """The columns of a list, as paths in its rows. Raises BadRequest where the query has a nested list."""
    (_, rows), *_ = query.fields
    return _list_columns(rows.fields)  # type: ignore[union-attr]


def write_list(query: ListQuery, body: bytes) -> Steps[bytes]:
    """A list's JSON as CSV."""
    columns = list_columns(query)
    return write_table(
        [".".join(path) for path in columns],
        ([_find_value(row, path) for path in columns] for row in msgspec.json.decode(body)["data"]),
    )


def write_transitions(page: TransitionPage) -> Steps[bytes]:
    """A row for each row of the matrix and each reason why pupils are left out."""
    columns = [field.encode_name for field in msgspec.structs.fields(TransitionRow)]
    return write_table(columns, ([row[column] for column in columns] for row in msgspec.to_builtins(page.data)))


def write_preview(preview: PublicationPreview) -> Steps[bytes]:
    """A row for each group of the edition. Lists are separated by semicolons."""
    columns = [field.encode_name for field in msgspec.structs.fields(PreviewGroup)]
    rows = ([_join(row[column]) for column in columns] for row in msgspec.to_builtins(preview.groups))
    return write_table(columns, rows)


def _join(value: object) -> object:
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def write_table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Steps[bytes]:
    """A table of JSON values as CSV, in steps."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    for count, row in enumerate(rows, 1):
        writer.writerow([make_cell(value) for value in row])
        if count % ROWS_PER_STEP == 0:
            yield
    return out.getvalue().encode()


def _list_columns(fields: Any) -> list[tuple[str, ...]]:
    columns: list[tuple[str, ...]] = []
    for name, field in fields:
        if isinstance(field, ToMany):
            message = f"CSV cannot hold nested lists; leave {name} out of include, or ask for JSON."
            raise BadRequest(message, code="csv-not-flat", issues=(Issue("include", "csv-not-flat", message),))
        if isinstance(field, ToOne):
            columns += [(name, *path) for path in _list_columns(field.fields)]
        elif isinstance(field, FieldValue) and field.field.members:
            columns += [(name, member) for member in field.field.members]
        else:
            columns.append((name,))
    return columns


def _find_value(row: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        row = None if row is None else row[key]
    return row


def make_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ";".join(map(_make_plain, value)) if isinstance(value, list) else _make_plain(value)
    return f"'{text}" if isinstance(value, str | list) and text.lstrip(" ").startswith(FORMULA) else text


def _make_plain(value: Any) -> str:
    """The text of a value that has no parts."""
    if isinstance(value, dict | list):
        raise TypeError("a cell of CSV holds no object")
    return str(value)
