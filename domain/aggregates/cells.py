"""Cells and totals: the tables of counted pupils.

A cell counts the pupils of a school, window, subject and aspect who share year group, characteristics and grade. A
total sums the cells of a school, window, subject and aspect; there are some thirty times fewer totals than cells.
Functions of the database keep both up to date (migration 0005); here they are only read.
"""

from typing import Any

from sqlalchemy import ARRAY, Boolean, Column, Integer, Numeric, SmallInteger, Table, Text, Uuid, column, table

from domain.store.metadata import metadata

MAIN_ASPECT = 0
"""The aspect that is aggregated; `teacher`, `test` and `effort` are further aspects."""


def _make_group() -> list[Column[Any]]:
    return [
        Column("tenant_id", Uuid, primary_key=True),
        Column("academic_year", SmallInteger),
        Column("window_no", SmallInteger, primary_key=True),
        Column("school_id", Uuid, primary_key=True),
        Column("subject_no", SmallInteger, primary_key=True),
        Column("year_group", Text, primary_key=True),
        Column("sex", Text, primary_key=True),
        Column("disadvantaged", Text, primary_key=True),
        Column("eal", Text, primary_key=True),
        Column("sen", Text, primary_key=True),
    ]


def _declare_cells(name: str) -> Table:
    return Table(
        name,
        metadata,
        *_make_group(),
        Column("aspect_no", SmallInteger, primary_key=True),
        Column("scheme_version_no", SmallInteger, primary_key=True),
        Column("grade_no", SmallInteger, primary_key=True, comment="0 is no judgement, -1 a pupil who is not eligible"),
        Column("n", Integer, nullable=False),
    )


cells = _declare_cells("cells")
discounted_cells = _declare_cells("discounted_cells")
"""What the discounted pupils, who are not eligible in `cells`, would add."""

conjunction_cells = Table(
    "conjunction_cells",
    metadata,
    *_make_group(),
    Column("apart", Boolean, primary_key=True, comment="Whether it is what the discounted pupils would add"),
    Column("parts", ARRAY(SmallInteger), primary_key=True, comment="Numbers of the subjects of the conjunction"),
    Column("versions", ARRAY(SmallInteger), primary_key=True, comment="The scheme version of each"),
    Column("grade_nos", ARRAY(SmallInteger), primary_key=True, comment="The grade of each, as in cells"),
    Column("n", Integer, nullable=False),
)
"""Pupils of a conjunction by the tuple of its parts, which tells its outcome by any scale. `cells` has its outcome by the grades' own standards."""

totals = Table(
    "totals",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("academic_year", SmallInteger),
    Column("window_no", SmallInteger, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("subject_no", SmallInteger, primary_key=True),
    Column("aspect_no", SmallInteger, primary_key=True),
    Column("eligible", Integer, nullable=False),
    Column("valid", Integer, nullable=False),
    Column("expected", Integer, nullable=False),
    Column("higher", Integer, nullable=False),
    Column("valued", Integer, nullable=False),
    Column("value_sum", Numeric, nullable=False),
)

grades = table(
    "grades",
    *map(
        column,
        ("tenant_id", "scheme_version_no", "no", "code", "label", "rank", "eligible", "valid", "expected", "higher", "value"),
    ),
)
scheme_versions = table(
    "scheme_versions", *map(column, ("tenant_id", "no", "version", "scheme_id", "expected_status", "higher_status"))
)
