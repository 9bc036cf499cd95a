"""LAESTABs that schools had before: a LAESTAB is dated, since it changes when local government is reorganised.

A former one still means its school, as long as no other open school has it now. Source: Department for Education, "Get
Information about Schools" (the establishment number and the local authority of a URN may change).
"""

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    FromClause,
    Index,
    Table,
    Text,
    Uuid,
    any_,
    exists,
    literal_column,
    or_,
    select,
)

from domain.declare.resource import TextMatch, TextRange
from domain.roster.text_lists import list_texts
from domain.store.metadata import metadata

CODE = "laestab-superseded"
MESSAGE = "The school has another LAESTAB now. Send that one: this one finds the school only until another school has it."

former_laestabs = Table(
    "former_laestabs",
    metadata,
    Column("school_id", Uuid, primary_key=True),
    Column("laestab", Text, primary_key=True),
    Column("replaced_on", Date, nullable=False),
    Index("former_laestabs_by_laestab", "laestab"),
)

FIND_SQL = """
SELECT f.school_id FROM (SELECT {laestab}) AS sought (laestab) JOIN former_laestabs f ON f.laestab = sought.laestab
JOIN schools o ON o.id = f.school_id AND o.status <> 'closed'
WHERE NOT EXISTS (SELECT 1 FROM schools h WHERE h.laestab = f.laestab AND h.status <> 'closed')
ORDER BY f.replaced_on DESC, f.school_id LIMIT 1
"""
"""The open school that had a LAESTAB last, where no open school has it now. `laestab` is any SQL expression: a subquery of FROM sees no table
beside it, and so takes none for the caller's."""


def list_former(school_id: Column[Any]) -> ColumnElement[Any]:
    """Returns in SQL the former LAESTABs of a school, the latest first."""
    f = former_laestabs.alias()
    return list_texts(f, f.c.laestab, (f.c.replaced_on.desc(), f.c.laestab), f.c.school_id == school_id)


def match_laestab(school: Table) -> TextMatch:
    """Returns how a filter finds a school by a LAESTAB, also by a former one that no open school has now."""

    def find(condition: ColumnElement[bool], former: ColumnElement[bool], f: FromClause) -> ColumnElement[bool]:
        h = school.alias()
        is_free = ~exists().where(h.c.laestab == f.c.laestab, h.c.status != literal_column("'closed'")).correlate(f)
        had = exists(select(literal_column("1")).select_from(f).where(f.c.school_id == school.c.id, former, is_free))
        return or_(condition, had.correlate_except(f, h))

    def find_one(low: ColumnElement[str], high: ColumnElement[str]) -> ColumnElement[bool]:
        f = former_laestabs.alias()
        return find(school.c.laestab == low, f.c.laestab == low, f)

    def find_many(numbers: ColumnElement[str], beginnings: ColumnElement[str]) -> ColumnElement[bool]:
        f = former_laestabs.alias()
        return find(school.c.laestab == any_(numbers), f.c.laestab == any_(numbers), f)

    return TextMatch(lambda laestab: TextRange(str(laestab), str(laestab)), find_one, find_many)
