"""The input of a command that does something with one row beside changing its fields, such as reopening a window."""

from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from msgspec import Struct

from domain.declare.inputs import Input

ActionFields = TypeVar("ActionFields", bound=Struct)


class RowRef(Input, kw_only=True):
    """The row that the command is about."""

    id: str


@dataclass(frozen=True)
class Action(Generic[ActionFields]):
    """The row's id, and what else the command needs."""

    id: UUID
    fields: ActionFields
