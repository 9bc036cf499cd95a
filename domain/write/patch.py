"""A change of one row, or its deletion, and the versions it is meant for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from msgspec import UNSET, Struct

from domain.declare.errors import Issue, Stale
from domain.declare.inputs import Input, Output

Fields = TypeVar("Fields", bound=Struct)


class PatchInput(Input, kw_only=True):
    """What may change of one row: each field UNSET, and staying as it is, unless it is given."""

    unknown: ClassVar[str] = "This cannot be changed here; what can is {fields}."


class RowVersion(Input, kw_only=True):
    """The row that a change is for, and the version that was read of it."""

    id: str
    expected_version: int


class Removal(Input, kw_only=True):
    """The deletion of a row."""


class Changed(Output, kw_only=True):
    """What became of a row: updated, unchanged or deleted, and the version it has (or had) now."""

    id: str
    outcome: str
    version: int


@dataclass(frozen=True)
class Patch(Generic[Fields]):
    """A change of one row: what is given of it, each field UNSET where it stays, and the versions the row may have (None: any)."""

    id: UUID
    versions: frozenset[int] | None
    given: Fields

    def check(self, version: int) -> None:
        """Raises Stale, which tells the row's version, where the change is meant for another one."""
        if self.versions is not None and version not in self.versions:
            message = f"The row has version {version} now. Read it again, and change it as it is."
            raise Stale(message, issues=(Issue("version", Stale.code, message),))

    def over(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The values as they are to be, by column: those given, else those stored. A field has the name of its column."""
        given = {name: getattr(self.given, name) for name in self.given.__struct_fields__}
        return {name: stored[name] if value is UNSET else value for name, value in given.items()}

    def done(self, outcome: str, version: int) -> Changed:
        return Changed(id=str(self.id), outcome=outcome, version=version)
