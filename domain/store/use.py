"""One request's use of the database: its time, its client, and what it has written."""

from collections.abc import Hashable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from domain.store.statement_times import StatementTime

if TYPE_CHECKING:
    from domain.store.replicas import ReadTerms, Replica

NOTHING_WRITTEN = "nothing of this request was written"


@dataclass
class DatabaseUse:
    """One request's use of the database.

    `seconds` are spent with the database, including the wait for a connection. `has_committed` says that a transaction
    was committed, and `is_committing` that COMMIT was sent and not answered yet. `tenant` is the one tenant whose data it
    uses, where that is known. `times` collects its statements where the request is traced.
    """

    seconds: float = 0.0
    client: Hashable | None = None
    has_committed: bool = False
    is_committing: bool = False
    tenant: UUID | None = None
    times: list[StatementTime] | None = None
    sharers: "Sequence[DatabaseUse]" = ()
    """The uses of the requests that share this one's transaction."""
    terms: "ReadTerms | None" = None
    """What a replica must have to answer; None where the primary answers."""
    replica: "Replica | None" = None
    """The replica that answers this request, so that no statement of it sees less than the one before."""
    written: dict[UUID, int] = field(default_factory=dict)
    """The version of each tenant that the request has written, once it is committed."""
    pending: dict[UUID, int] = field(default_factory=dict)
    """The same of the transaction that runs."""

    def begin_commit(self) -> None:
        """Notes that COMMIT is sent."""
        for use in (self, *self.sharers):
            use.is_committing = True

    def end_commit(self, *, has_committed: bool) -> None:
        """Notes PostgreSQL's answer to COMMIT."""
        for use in (self, *self.sharers):
            use.is_committing = False
            use.has_committed = use.has_committed or has_committed
            if has_committed:
                use.written |= self.pending

    def describe_loss(self) -> str:
        """Says what was written when the connection was lost before a COMMIT was sent."""
        return "this part of the request was not written" if self.has_committed else NOTHING_WRITTEN


database_use: ContextVar[DatabaseUse | None] = ContextVar("database_use", default=None)
"""Set for each request by api/http."""
