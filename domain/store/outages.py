"""Which errors say that the database cannot serve at the moment, so that the client is told to come back; any other is a fault of ours."""

import asyncpg

from domain.declare.errors import Busy

TRANSIENT_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58"})
"""SQLSTATE classes (PostgreSQL documentation, appendix A): connection, login, no such database, resources (disk, memory, connections), operator
intervention, and system errors such as those of the disk."""
TRANSIENT_SQLSTATES = frozenset({"25006", "25P03", "25P04", "55006"})
"""A read-only database, a transaction that was idle or open for too long, and a database in use by a command that wants it alone."""
LOCK_NOT_AVAILABLE = "55P03"

LOST = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a broken connection raises, also one that broke off in the middle of a message. TimeoutError is an OSError."""


def is_rejection(error: BaseException) -> bool:
    """Whether PostgreSQL has refused a statement and goes on with the session as it was: what was sent had no effect."""
    return isinstance(error, asyncpg.PostgresError) and getattr(error, "severity_en", None) == "ERROR"


def is_outage(error: BaseException) -> bool:
    """Whether PostgreSQL says of itself that it cannot serve: it ended the session or refused to begin one, or it refused a statement for such a reason."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    sqlstate = str(error.sqlstate or "")
    return not is_rejection(error) or sqlstate[:2] in TRANSIENT_CLASSES or sqlstate in TRANSIENT_SQLSTATES


def is_timeout(error: BaseException) -> bool:
    """Whether a statement, or a wait for an answer or a connection, took too long."""
    return isinstance(error, TimeoutError | asyncpg.QueryCanceledError)


def is_lock_timeout(error: BaseException) -> bool:
    return getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE


class OutcomeUnknown(Busy):
    """COMMIT was sent and its answer did not come: the write may be there or not."""

    code, title = "outcome-unknown", "It is not known whether it was written"

    def __init__(self) -> None:
        super().__init__(
            "It is not known whether it was written: the database was lost while it was committed. The same request again, best with an Idempotency-Key, tells."
        )
