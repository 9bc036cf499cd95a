"""How filters find pupils by what identifies them: a name however it is written, the beginning of a name, and a UPN that
the pupil has or had.
"""

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    FromClause,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    column,
    exists,
    func,
    literal_column,
    or_,
    select,
)

from domain.declare.resource import TextMatch, TextRange
from domain.declare.value_types import ValueType
from domain.roster.names import fold_name
from domain.store.metadata import metadata

upns = Table(
    "upns",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("upn", Text, primary_key=True),
    Column("pupil_id", Uuid, nullable=False),
    Column("current", Boolean, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
)

BEGINNING = "*"
"""Stands at the end of the beginning of a name."""
HOW_NAMES_ARE_FOUND = "As a filter it is found in any case, and Ains* finds what begins so."
_LAST = "\U0010ffff"
_LAST_SQL: ColumnElement[str] = literal_column("chr(1114111)", Text)


def parse_name_filter(raw: object) -> TextRange:
    """Returns the range of folded names that a filter's value means: one name, or all that begin with what stands
    before a `*`.

    Raises ValueError with a description.
    """
    text = str(ValueType.TEXT.parse(raw))
    beginning, asterisk, rest = text.partition(BEGINNING)
    if rest:
        raise ValueError(f"has {BEGINNING} elsewhere than at its end: a name is found by its beginning, as in Ains{BEGINNING}")
    folded = fold_name(beginning)
    if not folded:
        raise ValueError("is empty; name at least one letter")
    if not asterisk:
        return TextRange(folded, folded)
    if beginning.endswith(" "):  # a whole word, such as the particle in van *
        folded += " "
    return TextRange(folded, folded + _LAST)


def match_name(folded: Column[str]) -> TextMatch:
    """Returns how a filter finds a name by the column of its folded form."""

    def find_many(names: ColumnElement[str], beginnings: ColumnElement[str]) -> ColumnElement[bool]:
        each = func.unnest(beginnings).table_valued(column("text", Text), name="beginning")
        begins = exists(select(literal_column("1")).select_from(each).where(folded.between(each.c.text, each.c.text + _LAST_SQL)))
        return or_(folded == any_(names), begins.correlate_except(each))

    return TextMatch(parse_name_filter, lambda low, high: folded.between(low, high), find_many)


def match_upn(tenant_id: Column[object], pupil_id: Column[object]) -> TextMatch:
    """Returns how a filter finds a pupil by a UPN, also a former one; the columns are those of the pupil."""

    def find(condition: ColumnElement[bool], u: FromClause) -> ColumnElement[bool]:
        owns = and_(u.c.tenant_id == tenant_id, u.c.pupil_id == pupil_id, condition)
        return exists(select(literal_column("1")).where(owns)).correlate_except(u)

    def find_one(low: ColumnElement[str], high: ColumnElement[str]) -> ColumnElement[bool]:
        u = upns.alias()
        return find(u.c.upn == low, u)

    def find_many(numbers: ColumnElement[str], beginnings: ColumnElement[str]) -> ColumnElement[bool]:
        u = upns.alias()
        return find(u.c.upn == any_(numbers), u)

    return TextMatch(lambda upn: TextRange(str(upn), str(upn)), find_one, find_many)
