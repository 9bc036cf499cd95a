"""The input of a command that changes or deletes one row, and its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

from msgspec import UNSET, Struct

from domain.declare.errors import Issue, Stale
from domain.declare.inputs import DryRun, Input, Output, RuledInput, Warnings
from domain.write.partial import UNREADABLE

Fields = TypeVar("Fields", bound=Struct)


class PatchInput(RuledInput, kw_only=True):
    """The fields of a row that can be changed. A field that the request leaves out is UNSET and keeps its value."""

    unknown: ClassVar[str] = "This cannot be changed here; what can is {fields}."


class RowVersion(Input, kw_only=True):
    """The row to change, and the version of it that the client has read."""

    id: str
    expected_version: int


class Removal(Input, kw_only=True):
    """The deletion of a row."""


class Changed(Output, kw_only=True):
    """The outcome for a row (updated, unchanged or deleted) and its version now, or before it was deleted."""

    id: str
    outcome: str
    version: int
    warnings: Warnings = []
    dry_run: DryRun = UNSET

    @property
    def has_written(self) -> bool:
        return self.outcome != "unchanged"


class StoredRow(Protocol):
    """A row by the names of its columns: a Record of asyncpg, or a dict."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True)
class Patch(Generic[Fields]):
    """A change of one row.

    Fields that keep their value are UNSET. `versions` are those that the row may have; None allows any. `version_at` is the
    place of the request that says them, for issues: a header field or a JSON pointer.
    """

    id: UUID
    versions: frozenset[int] | None
    fields: Fields
    version_at: str = "If-Match"

    def check_version(self, version: int) -> None:
        """Raises Stale if the row's version is not one that the client expects."""
        if self.versions is not None and version not in self.versions:
            message = f"The row has version {version} now. Read it again, and change it as it is."
            raise Stale(message, issues=(Issue(self.version_at, Stale.code, message),))

    def merge_over(self, stored: StoredRow) -> dict[str, Any]:
        """Returns the new values by column: those of the patch, and the stored ones of fields that are UNSET. A field that
        cannot be read is UNREADABLE (partial.py).
        """
        values = {name: getattr(self.fields, name, UNREADABLE) for name in self.fields.__struct_fields__}
        return {name: stored[name] if value is UNSET else value for name, value in values.items()}

    def make_result(self, outcome: str, version: int, warnings: Sequence[Issue] = ()) -> Changed:
        """Returns the output of the command."""
        return Changed(id=str(self.id), outcome=outcome, version=version, warnings=[*warnings])
