"""How filters find pupils by what identifies them: a name however it is written, the beginning of a name, a UPN that the
pupil has or had, and any reference of the caller's.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    DateTime,
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

from domain.access.reach import CALLER
from domain.declare.resource import TextMatch, TextRange
from domain.declare.value_types import ValueType
from domain.roster.names import fold_name
from domain.roster.references import NO_REFERENCE, is_identifier
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
    return _match_owned(
        lambda text: TextRange(str(text), str(text)), upns, "upn", lambda u: and_(u.tenant_id == tenant_id, u.pupil_id == pupil_id)
    )


def match_reference(references: Table, tenant_id: Column[object], pupil_id: Column[object]) -> TextMatch:
    """Returns how a filter finds a pupil by any reference that the caller has for it; the columns are those of the
    pupil.
    """

    def parse(text: object) -> TextRange:
        if is_identifier(str(text)):
            raise ValueError(f"is none that it can have. {NO_REFERENCE.removesuffix('.')}")
        return TextRange(str(text), str(text))

    return _match_owned(
        parse,
        references,
        "value",
        lambda r: and_(r.tenant_id == tenant_id, r.id == pupil_id, r.kind == literal_column("'pupil'"), r.source == CALLER),
    )


def _match_owned(
    parse: Callable[[object], TextRange], table: Table, name: str, owns: Callable[[Any], ColumnElement[bool]]
) -> TextMatch:
    """Returns how a filter finds a pupil by a text of a table, of whose rows `owns` says which are the pupil's."""

    def find(condition: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> ColumnElement[bool]:
        t = table.alias()
        return exists(select(literal_column("1")).where(owns(t.c), condition(t.c[name]))).correlate_except(t)

    return TextMatch(
        parse,
        lambda low, high: find(lambda text: text == low),
        lambda texts, beginnings: find(lambda text: text == any_(texts)),
    )
