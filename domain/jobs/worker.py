"""Applies the jobs of all clients, one school at a time, in turns: a client's jobs one after another, those of different clients beside each other.

Every server has one worker. A job is claimed for a while by whoever applies it, so that another server goes on where a server has ended.
"""

import asyncio
import time
from collections.abc import Mapping

import structlog

from domain.declare.errors import Busy
from domain.jobs.apply import MakeReader, apply_next, read_claimed
from domain.store.database import Database
from domain.write.command import Command

log = structlog.get_logger()

LEASE_SECONDS = 60
"""Seconds for which a job is claimed. It needs no lock beyond them: rows that were applied meanwhile are not applied again."""
POLL_SECONDS = 5.0
"""Seconds between two looks for a job that another server has received."""
RETRY_SECONDS = 2.0


class Worker:
    """`share` is the percentage of its time for which it applies rows, so that the requests of other clients are answered."""

    def __init__(self, database: Database, commands: Mapping[str, Command], make_reader: MakeReader, share: int) -> None:
        self._database, self._make_reader, self._share = database, make_reader, share
        self._commands = {command.operation: command for command in commands.values()}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that there is a job."""
        self._woken.set()

    async def run(self) -> None:
        """Applies jobs until it is cancelled."""
        while True:
            begun = time.monotonic()
            try:
                has_worked = await self.apply_once()
                rest = (time.monotonic() - begun) * (100 / self._share - 1)
            except Busy:
                has_worked, rest = True, RETRY_SECONDS
            except Exception as error:
                log.warning("a job was not applied", kind=type(error).__name__)
                has_worked, rest = True, POLL_SECONDS
            if has_worked:
                await asyncio.sleep(rest)
                continue
            self._woken.clear()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def apply_once(self) -> bool:
        """Applies the next rows of the job whose turn it is. Returns whether there was a job. Raises Busy."""
        claimed = await self._database.run_transaction(
            None, lambda connection: connection.fetchrow("SELECT client_id, id FROM claim_job($1)", LEASE_SECONDS)
        )
        if claimed is None:
            return False
        job = await read_claimed(self._database, claimed["client_id"], claimed["id"], self._commands, self._make_reader)
        if job is not None:
            await apply_next(self._database, job)
        return True
