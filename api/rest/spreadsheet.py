"""Lists as CSV for a spreadsheet: RFC 4180, UTF-8 with a byte order mark, the JSON names as header.

Identifiers are written as text, as they are; text that a spreadsheet would run as a formula is quoted with '.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import Request

from domain.engine.errors import BadRequest, Issue
from domain.engine.selection import Many, Selection
from domain.engine.slices import Steps
from domain.insight.aggregates import AggregatePage, AggregateRow
from domain.insight.question import DIMENSIONS, Question

STRIDE = 16
"""Rows written before others may go on."""
PARAMETERS, SHAPES = ("format", "shape"), ("long", "wide")
FIGURES = ("eligible", "expectedPercent", "higherPercent", "average")
"""What a wide sheet says of each group of pupils."""


def is_wanted(request: Request) -> bool:
    """`format=csv`, or `Accept: text/csv` before JSON."""
    asked = request.query_params.get("format")
    if asked not in (None, "json", "csv"):
        raise BadRequest(_FORMAT.message, code="parameter-invalid", issues=(_FORMAT,))
    return asked == "csv" or (asked is None and accepts(request))


def accepts(request: Request) -> bool:
    """Whether the client would sooner have a spreadsheet."""
    accepted: bytes = next((value for name, value in request.scope["headers"] if name == b"accept"), b"")
    return accepted.split(b",")[0].split(b";")[0].strip() == b"text/csv"


def read_shape(request: Request) -> tuple[bool, str, list[Issue]]:
    """Whether a spreadsheet of aggregates is wanted, its shape, and what is wrong with these parameters."""
    given = request.query_params
    wrong = [Issue(n, "parameter-repeated", f"{n} stands more than once.") for n in PARAMETERS if len(given.getlist(n)) > 1]
    if given.get("format") not in (None, "json", "csv"):
        return False, SHAPES[0], [*wrong, _FORMAT]
    as_csv, shape = is_wanted(request), given.get("shape", SHAPES[0])
    if shape not in SHAPES:
        wrong.append(Issue("shape", "parameter-invalid", f"shape is {' or '.join(SHAPES)}."))
    if "shape" in given and not as_csv:
        wrong.append(Issue("shape", "shape-of-csv", "shape is of a spreadsheet; ask for one with format=csv."))
    if shape == "wide":
        if "school" not in ",".join(given.getlist("groupBy")).split(","):
            wrong.append(Issue("groupBy", "wide-by-school", "A wide sheet has a row per school: group by school too."))
        message = "A wide sheet is whole; leave {} out, or ask for shape=long."
        wrong += [Issue(name, "wide-is-whole", message.format(name)) for name in ("first", "after") if name in given]
    return as_csv, shape, wrong


KIND = (b"content-type", b"text/csv; charset=utf-8; header=present")


def named(name: str) -> list[tuple[bytes, bytes]]:
    """So that it is saved as NAME.csv."""
    return [(b"content-disposition", f'attachment; filename="{name}.csv"'.encode())]


def of_list(selection: Selection, body: bytes) -> Steps[bytes]:
    """The rows of a list's JSON; those of linked rows as dotted columns. BadRequest for a to-many link."""
    (_, rows), *_ = selection.items
    columns = _columns(rows.row)  # type: ignore[union-attr]
    return written(
        [".".join(path) for path in columns], ([_at(row, path) for path in columns] for row in msgspec.json.decode(body)["data"])
    )


def long(page: AggregatePage, question: Question) -> Steps[bytes]:
    """A row per row, without the columns of dimensions that were not asked about."""
    asked = {"subject", "window", *question.group_by, *(["school"] if question.school else [])}
    told = {"school": ("schoolId", "schoolUrn", "schoolName")}
    left_out = {column for name in DIMENSIONS if name not in asked for column in told.get(name, (name,))}
    columns = [field.encode_name for field in msgspec.structs.fields(AggregateRow) if field.encode_name not in left_out]
    return written(columns, ([row[column] for column in columns] for row in msgspec.to_builtins(page.data)))


def whole(question: Question) -> Question:
    """What a wide sheet is made of: every row, in the order of its columns."""
    others = [name for name in DIMENSIONS if name in question.group_by and name not in ("school", "subject", "window")]
    ahead = [name for name in ("window", "subject") if name in question.group_by]
    return replace(question, group_by=(*ahead, *others, "school"), first=None)


def wide(page: AggregatePage, question: Question) -> Steps[bytes]:
    """A row per school with its URN and name, and a column per group of pupils and figure: `reading.sex=F.expectedPercent`.

    As in the DfE's files: c suppressed, z not applicable (nobody eligible, not collected, no average in this subject), x not available.
    A school whose pupils are in no row has one, unless it was not in the trust.
    """
    rows = msgspec.to_builtins(page.data)
    names = {row["schoolUrn"]: row["schoolName"] for row in rows}
    names |= {school.school_urn: school.school_name for school in page.excluded if school.reason != "not-a-member"}
    groups = {(row["schoolUrn"], _group(row, question)): row for row in rows}
    columns = [(group, figure) for group in dict.fromkeys(group for _, group in groups) for figure in FIGURES]
    header = ["schoolUrn", "schoolName", *(".".join((*group, figure)) for group, figure in columns)]
    return written(
        [_cell(name) for name in header],
        ([urn, names[urn], *(_figure(groups.get((urn, group)), figure) for group, figure in columns)] for urn in sorted(names)),
    )


def _group(row: dict[str, Any], question: Question) -> tuple[str, ...]:
    """The parts of a column's name: the window where it is grouped by (with its year, if its code is without), the subject, the others."""
    code, year = row["window"], row["academicYear"]
    window = [code if year in code else f"{year} {code}"] if "window" in question.group_by else []
    others = [name for name in DIMENSIONS if name in question.group_by and name not in ("school", "subject", "window")]
    return (*window, row["subject"], *(f"{name}={row[name]}" for name in others))


def _figure(row: dict[str, Any] | None, figure: str) -> Any:
    value = None if row is None else row[figure]
    return value if value is not None else ((row and row["status"]) or "z")


def written(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Steps[bytes]:
    """A sheet of JSON values, in steps."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    for i, row in enumerate(rows, 1):
        writer.writerow([_cell(value) for value in row])
        if i % STRIDE == 0:
            yield
    return b"\xef\xbb\xbf" + out.getvalue().encode()


_FORMAT = Issue("format", "parameter-invalid", "format is json or csv.")


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
