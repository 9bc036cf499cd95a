"""The report of a GIAS import."""

from collections import Counter
from typing import Any, Literal

from domain.declare.inputs import Output


class ImportCounts(Output, kw_only=True):
    """What became of the rows of one kind: received = created + updated + unchanged + all that were ignored, by reason."""

    received: int
    created: int
    updated: int
    unchanged: int
    ignored: dict[str, int]


class ImportIssue(Output, kw_only=True):
    """A problem. An `error` left out its row or the whole file. Without file and line, the message names the rows."""

    file: str | None = None
    line: int | None = None
    column: str
    code: str
    message: str
    severity: Literal["error", "note"] = "error"


class TransferNeeded(Output, kw_only=True):
    """A school that another tenant should control, were there not pupil data with the present one."""

    school_id: str
    urn: int
    from_tenant_id: str
    to_tenant_id: str


class ImportReport(Output, kw_only=True):
    """What became of an extract.

    `unread` counts rows and files that could not be read, each of them among the issues; `succession`, the links
    between schools; `ended`, memberships whose link is gone; `moved`, schools known before that came under another
    tenant.
    """

    unread: int
    trusts: ImportCounts
    schools: ImportCounts
    memberships: ImportCounts
    succession: ImportCounts
    ended: int
    moved: int
    transfer_needed: list[TransferNeeded]
    issues: list[ImportIssue]


class RowTally:
    """The counts of one kind of rows while an import runs: rows received, keys created and updated, and rows ignored,
    by reason.
    """

    def __init__(self, received: int) -> None:
        self.received = received
        self.created: set[Any] = set()
        self.updated: set[Any] = set()
        self.ignored: Counter[str] = Counter()

    def make_counts(self) -> ImportCounts:
        created, updated = len(self.created), len(self.updated)
        unchanged = self.received - created - updated - self.ignored.total()
        return ImportCounts(
            received=self.received, created=created, updated=updated, unchanged=unchanged, ignored=dict(self.ignored)
        )
