"""Aggregates as CSV: a long table with a row for each group of pupils, and a wide one with a row for each school."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from api.rest.csv import make_cell, write_table
from domain.aggregates.aggregate_rows import AggregatePage, AggregateRow
from domain.aggregates.breakdowns import BEGINNINGS, name_count
from domain.aggregates.comparison_rows import AggregateChange, AggregateGap
from domain.aggregates.dimensions import CLASS, DIMENSIONS
from domain.aggregates.query import INCLUDED, AggregateQuery
from domain.declare.inputs import Output
from domain.support.slices import Steps

FIGURES = ("eligible", "expectedPercent", "higherPercent", "average")
"""The figures of each group of pupils in a wide table, before those that the query includes."""
_COMPARED: dict[str, type[Output]] = {"gap": AggregateGap, "change": AggregateChange}


def write_long_table(page: AggregatePage, query: AggregateQuery) -> Steps[bytes]:
    """A row for each row of the page, without the columns of dimensions that the query does not name."""
    used = {"subject", "window", *query.group_by, *(["school"] if query.school else [])}
    columns_of = {"school": ("schoolId", "schoolUrn", "schoolName"), CLASS: ("classId", "classCode")}
    unused_columns = {column for name in DIMENSIONS if name not in used for column in columns_of.get(name, (name,))}
    names = [field.encode_name for field in msgspec.structs.fields(AggregateRow)]
    included = _list_included(page, query)
    unused_columns |= {*INCLUDED, *_COMPARED, *(() if query.pools_windows else ("windows",))}
    columns = [name for name in names if name not in unused_columns] + included
    rows = (_flatten(row, included) for row in msgspec.to_builtins(page.data))
    return write_table(map(make_cell, columns), ([row.get(column) for column in columns] for row in rows))


def make_whole_query(query: AggregateQuery) -> AggregateQuery:
    """The query of a wide table: every row, in the order of the table's columns."""
    others = [name for name in DIMENSIONS if name in query.group_by and name not in ("school", "subject", "window")]
    first = [name for name in ("window", "subject") if name in query.group_by]
    return replace(query, group_by=(*first, *others, "school"), first=None)


def write_wide_table(page: AggregatePage, query: AggregateQuery) -> Steps[bytes]:
    """A row for each school with its URN and name, and a column for each group of pupils and figure: `reading.sex=F.expectedPercent`.

    Symbols are the DfE's: c suppressed, z not applicable (nobody eligible, not collected, no average in this subject), x not available.
    A school that contributes to no row of the page still has a row, unless it was not in the trust.
    """
    included = _list_included(page, query)
    figures = (*FIGURES, *included)
    rows = [_flatten(row, included) for row in msgspec.to_builtins(page.data)]
    names = {row["schoolUrn"]: row["schoolName"] for row in rows}
    names |= {school.school_urn: school.school_name for school in page.excluded if school.reason != "not-a-member"}
    groups = {(row["schoolUrn"], _name_group(row, query)): row for row in rows}
    columns = [(group, figure) for group in dict.fromkeys(group for _, group in groups) for figure in figures]
    header = ["schoolUrn", "schoolName", *(".".join((*group, figure)) for group, figure in columns)]
    return write_table(
        [make_cell(name) for name in header],
        (
            [urn, names[urn], *(_format_figure(groups.get((urn, group)), figure) for group, figure in columns)]
            for urn in sorted(names)
        ),
    )


def _name_group(row: dict[str, Any], query: AggregateQuery) -> tuple[str, ...]:
    """The parts of a column's name: the window if the query groups by it (with its year, if its code has none), the subject, other dimensions."""
    code, year = row["window"], row["academicYear"]
    window = [code if year in code else f"{year} {code}"] if "window" in query.group_by else []
    others = [name for name in DIMENSIONS if name in query.group_by and name not in ("school", "subject", "window")]
    return (*window, row["subject"], *(f"{name}={row[name]}" for name in others))


def _format_figure(row: dict[str, Any] | None, figure: str) -> Any:
    """The figure, or the symbol that says why there is none."""
    if row is None:
        return "z"
    status = row.get(f"{figure.removesuffix('Percent')}Status", row["status"])
    figure_of_row = row.get(figure)
    return figure_of_row if figure_of_row is not None else status or "z"


def _list_included(page: AggregatePage, query: AggregateQuery) -> list[str]:
    """The columns of what the query includes and compares, the same on each of its pages: `bands.of`, `bands.at.pupils`, …"""
    tables = [name for name in INCLUDED if name in query.include]
    columns = [f"{name}.{member}" for name in tables for member in ("of", "reason")]
    columns += [f"{code}.{figure}" for code in page.included_codes for figure in ("pupils", "percent")]
    asked = {"gap": query.gap, "change": query.change_from}
    return columns + [
        column for name, value in asked.items() if value is not None for column in _list_members(_COMPARED[name], name)
    ]


def _list_members(type_: type[Output], path: str) -> Iterator[str]:
    """The columns of an object: of its members, and of those of the objects in it."""
    for field in msgspec.structs.fields(type_):
        name = f"{path}.{field.encode_name}"
        if isinstance(field.type, type) and issubclass(field.type, Output):
            yield from _list_members(field.type, name)
        else:
            yield name


def _flatten_object(value: Any, path: str) -> dict[str, Any]:
    """The members of an object, and of those in it, by their columns."""
    if not isinstance(value, dict):
        return {path: value}
    return {column: each for name, inner in value.items() for column, each in _flatten_object(inner, f"{path}.{name}").items()}


def _flatten(row: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """A row with its gap, its change and its tables as members of their own. Of a grade that others have and nobody of the row, it has 0 pupils."""
    for name in _COMPARED:
        if row[name] is not None:
            row |= _flatten_object(row[name], name)
    for name in INCLUDED:
        if table := row[name]:
            row |= {f"{name}.of": table["of"], f"{name}.reason": table["reason"]}
            if table["counts"] is not None:
                beginnings = BEGINNINGS[name]
                row |= {column: 0 for column in columns if column.startswith(beginnings) and column not in row}
                for count in table["counts"]:
                    code = name_count(count)
                    row |= {f"{code}.pupils": count["pupils"], f"{code}.percent": count["percent"]}
    return row
