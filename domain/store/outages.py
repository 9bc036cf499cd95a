"""Decides which errors mean that the database is unavailable, so that the client should retry.

Other errors are faults of this program.
"""

import asyncpg

from domain.declare.errors import Busy

TRANSIENT_CLASSES = frozenset({"08", "28", "3D", "53", "57", "58"})
"""SQLSTATE classes (PostgreSQL documentation, appendix A): connection, login, no such database, insufficient resources
(disk, memory, connections), operator intervention, and system errors such as those of the disk.
"""
TRANSIENT_SQLSTATES = frozenset({"25006", "25P03", "25P04", "55006"})
"""A read-only database, a transaction that was idle or open for too long, and a database that a command uses
exclusively.
"""
LOCK_NOT_AVAILABLE = "55P03"

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


def is_timeout(error: BaseException) -> bool:
    """Whether a statement, or a wait for an answer or a connection, took too long."""
    return isinstance(error, TimeoutError | asyncpg.QueryCanceledError)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a statement waited for a lock too long."""
    return getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE


class OutcomeUnknown(Busy):
    """COMMIT was sent and not answered: the transaction may be committed or not."""

    code = "outcome-unknown"

    def __init__(self) -> None:
        super().__init__(
            "It is not known whether it was written: the connection to the database was lost during COMMIT. Send the same request"
            " again, best with an Idempotency-Key, to find out."
        )
