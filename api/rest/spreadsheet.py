"""Lists as CSV for a spreadsheet: RFC 4180, UTF-8 with a byte order mark, the JSON names as header.

Identifiers are written as text, as they are; text that a spreadsheet would run as a formula is quoted with '.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from domain.engine.errors import BadRequest, Issue
from domain.engine.selection import Many, Selection


def is_wanted(request: Request) -> bool:
    """`format=csv`, or `Accept: text/csv` before JSON."""
    asked = request.query_params.get("format")
    if asked is not None and asked not in ("json", "csv"):
        raise BadRequest(
            "format is json or csv.",
            code="parameter-invalid",
            issues=(Issue("format", "parameter-invalid", "format is json or csv."),),
        )
    return asked == "csv" or (asked is None and request.headers.get("accept", "").split(",")[0].split(";")[0].strip() == "text/csv")


def response(name: str, sheet: bytes, headers: Mapping[str, str]) -> Response:
    """A sheet, to be saved as NAME.csv."""
    headers = {**headers, "Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(sheet, headers=headers, media_type="text/csv; charset=utf-8; header=present")


def of_list(selection: Selection, body: bytes) -> bytes:
    """The rows of a list's JSON; those of linked rows as dotted columns. BadRequest for a to-many link."""
    (_, rows), *_ = selection.items
    columns = _columns(rows.row)  # type: ignore[union-attr]
    return written(
        [".".join(path) for path in columns], ([_at(row, path) for path in columns] for row in msgspec.json.decode(body)["data"])
    )


def written(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """A sheet of JSON values."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _columns(items: Any) -> list[tuple[str, ...]]:
    columns: list[tuple[str, ...]] = []
    for key, item in items:
        if isinstance(item, Many):
            message = f"A spreadsheet has one row each; leave {key} out of include, or ask for JSON."
            raise BadRequest(message, code="csv-not-flat", issues=(Issue("include", "csv-not-flat", message),))
        below = getattr(item, "row", None)
        columns += [(key, *path) for path in _columns(below)] if below is not None else [(key,)]
    return columns


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        row = None if row is None else row[key]
    return row


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = " ".join(value) if isinstance(value, list) else str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
