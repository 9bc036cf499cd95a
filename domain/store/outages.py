"""Decides which errors mean that the database is unavailable, so that the client should retry.

Other errors are faults of this program.
"""

import asyncpg

from domain.declare.errors import Busy, DatabaseUnavailable
from domain.store.pool import NoneFree

TRANSIENT_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58"})
"""SQLSTATE classes (PostgreSQL documentation, appendix A): connection, login, no such database, insufficient resources
(disk, memory, connections), operator intervention, and system errors such as those of the disk.
"""
TRANSIENT_SQLSTATES = frozenset({"25006", "25P03", "25P04", "55006"})
"""A read-only database, a transaction that was idle or open for too long, and a database that a command uses
exclusively.
"""
LOCK_NOT_AVAILABLE = "55P03"
OVERLOAD_SQLSTATES = frozenset({"53200", "53300", "55006", "57014"})
"""PostgreSQL works, and has no memory or connection left, or stopped a statement that took too long or was in the way."""

LOCK_TIMEOUT = "lock_timeout"
FAILURES = (LOCK_TIMEOUT, "timeout", "rejected", "lost")
"""The kinds of failures that are counted: a lock, an answer or a connection of the pool did not come in time, PostgreSQL
rejected a statement for a transient reason, the connection was lost or could not be made.
"""
LATE = "The database did not answer in time."
LOCKED_BY_OTHERS = "Other writes to the same schools are running."
LOST = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Errors of a broken connection, also of one that broke in the middle of a message. TimeoutError is an OSError."""


def is_rejection(error: BaseException) -> bool:
    """Whether PostgreSQL has rejected a statement, which had no effect, and the session continues."""
    return isinstance(error, asyncpg.PostgresError) and getattr(error, "severity_en", None) == "ERROR"


def is_outage(error: BaseException) -> bool:
    """Whether PostgreSQL is unavailable: it ended or refused the session, or rejected a statement for a transient
    reason.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return False
    sqlstate = str(error.sqlstate or "")
    return not is_rejection(error) or sqlstate[:2] in TRANSIENT_CLASSES or sqlstate in TRANSIENT_SQLSTATES


def is_overload(error: BaseException) -> bool:
    """Whether PostgreSQL works for others and not for this request."""
    return getattr(error, "sqlstate", None) in OVERLOAD_SQLSTATES


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a statement waited for a lock too long."""
    return getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE


def make_outage(error: Exception, *, is_connected: bool, loss: str) -> tuple[str, Busy]:
    """Returns the kind of a failure and the error for the client, without PostgreSQL's own text. It is DatabaseUnavailable where
    PostgreSQL serves nobody, and else Busy.

    `is_connected` says that there was a connection, and `loss` what was written.
    """
    if is_lock_timeout(error):
        return LOCK_TIMEOUT, Busy(LOCKED_BY_OTHERS)
    if isinstance(error, NoneFree):
        return "timeout", Busy("No connection to the database was free in time.")
    if is_connected and isinstance(error, TimeoutError):
        return "timeout", DatabaseUnavailable(f"The database does not answer; {loss}.")
    if is_connected and isinstance(error, asyncpg.QueryCanceledError):
        return "timeout", Busy(LATE)
    if is_rejection(error) or is_overload(error):
        detail = f"The database cannot do this at the moment; {loss}."
        return "rejected", Busy(detail) if is_overload(error) else DatabaseUnavailable(detail)
    lost = f"The connection to the database was lost; {loss}." if is_connected else f"The database cannot be reached; {loss}."
    return "lost", DatabaseUnavailable(lost)


class OutcomeUnknown(Busy):
    """COMMIT was sent and not answered: the transaction may be committed or not."""

    code = "outcome-unknown"

    def __init__(self) -> None:
        super().__init__(
            "It is not known whether it was written: the connection to the database was lost during COMMIT. Send the same request"
            " again, best with an Idempotency-Key, to find out."
        )
