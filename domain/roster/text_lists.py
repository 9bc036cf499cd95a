"""Lists of texts of another table that a row shows as one field."""

from typing import Any

from sqlalchemy import ARRAY, ColumnElement, FromClause, Text, func, literal_column, select
from sqlalchemy.dialects.postgresql import aggregate_order_by


def list_texts(of: FromClause, text: ColumnElement[Any], order: tuple[Any, ...], *conditions: Any) -> ColumnElement[Any]:
    """Returns in SQL the texts of the rows of a table that meet the conditions, in this order; an empty list without any."""
    texts = func.array_agg(aggregate_order_by(text, *order))
    listed = func.coalesce(texts, literal_column("'{}'::text[]"), type_=ARRAY(Text))
    return select(listed).where(*conditions).correlate_except(of).scalar_subquery()
