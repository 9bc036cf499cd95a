"""Declaring a field with its column in place, as docs/adding.md does."""

from sqlalchemy import Column, MetaData, Table, Text, Uuid

from domain.declare.resource import Field, add_column
from domain.declare.scopes import Scope
from domain.declare.value_types import ValueType


def test_a_column_is_declared_where_its_field_is() -> None:
    table = Table("pupils", MetaData(), Column("id", Uuid, primary_key=True))
    free, needed = add_column(table, "house", Text), add_column(table, "team", Text, nullable=False)
    assert [column.name for column in table.columns] == ["id", "house", "team"]
    fields = [Field(free, "House."), Field(needed, "Team."), Field(needed, "Team.", scope=Scope.PUPILS_SENSITIVE)]
    assert [(field.kind, field.may_be_null) for field in fields] == [(ValueType.TEXT, nullable) for nullable in (True, False, True)]
