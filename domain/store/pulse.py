"""Tells a database that is busy from one that answers nobody, such as on a machine that stands still: its connections stay open and it refuses none.

PostgreSQL ends a statement that takes too long by itself. Where it does not do even that, and where no connection of the pool was free in time and
none has been answered meanwhile, it is asked.
"""

import asyncio
import time

import asyncpg

from domain.store.urls import DatabaseUrl, open_connection

ANSWER_SECONDS = 5.0
"""Seconds beyond its time limit within which PostgreSQL must have ended a statement."""
ASK_SECONDS = 2.0
"""Seconds for an answer to a new connection."""
SHARED_SECONDS = 1.0
"""Seconds for which an answer holds."""


class Pulse:
    """Asks one database whether it answers, by a new connection. Those who ask at once share one question."""

    def __init__(self, target: DatabaseUrl) -> None:
        self._target = target
        self._asking: asyncio.Task[bool] | None = None
        self._asked_at = float("-inf")

    async def is_answering(self) -> bool:
        """Whether PostgreSQL answers within ASK_SECONDS, be it by a refusal."""
        asking = self._asking
        if asking is None or (asking.done() and (asking.cancelled() or time.monotonic() > self._asked_at + SHARED_SECONDS)):
            asking = self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(asking)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                connection = await open_connection(self._target, seconds=ASK_SECONDS)
            connection.terminate()
            return True
        except asyncpg.PostgresError:
            return True
        except (OSError, asyncpg.InterfaceError, ValueError, asyncio.IncompleteReadError):
            return False
        finally:
            self._asked_at = time.monotonic()
