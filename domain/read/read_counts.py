"""ReadCounts: which client was given which groups of collected values, and how often.

A read is counted in memory. A task writes the counts every few seconds, in one transaction and in the order of their keys, so that servers that write
at the same time never wait for each other in a circle. What cannot be counted is told: the database keeps how many counts of a client were lost.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Final
from uuid import UUID

import structlog

from domain.declare.errors import Busy
from domain.read.groups_read import CollectedGroup, GroupsRead, PooledGroup
from domain.store.cleanup import Cleanup
from domain.store.database import Connection, Database, transpose
from domain.store.outages import OutcomeUnknown
from domain.support import clock
from domain.support.slices import iterate_in_slices, split_into_parts

log = structlog.get_logger()

FLUSH_SECONDS = 5.0
"""Seconds between two flushes, and how many seconds of counts a server that is killed loses without a word."""
END_SECONDS = 5.0
"""Seconds that the last flush may take."""
CLEANUP = (Cleanup("read counts older than 13 months", "SELECT remove_old_read_counts($1)"),)
MAX_BODIES, MAX_BYTES = 20_000, 16_000_000
"""Bodies that wait to be counted, and the bytes of their groups. Beyond them counts are lost."""
MAX_CLIENTS = 5_000
"""Clients of which it is known how many of their counts were lost or unknown. All others share one."""
_OTHERS: Final = UUID(int=0)
_COUNT = "SELECT count_reads($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_COUNT_POOLED = "SELECT count_pooled_reads($1, $2, $3, $4, $5, $6)"
_COUNT_OTHERS = "SELECT count_unknown_reads($1, $2, $3, $4)"


class ReadCounts:
    """The counts of this process that are not written yet."""

    def __init__(self) -> None:
        self._bodies: list[tuple[UUID, GroupsRead]] = []
        self._bytes = 0
        self._not_modified: Counter[UUID] = Counter()
        self._lost: Counter[UUID] = Counter()
        self._flushing = asyncio.Lock()

    @property
    def lost(self) -> int:
        """How many counts were lost since the last flush."""
        return self._lost.total()

    def count(self, client_id: UUID, groups: GroupsRead) -> None:
        """Counts that a client was given a body. The groups of a body are those of one client."""
        if groups.reads:
            groups.reads += 1
        else:
            self._begin(client_id, groups, 1)

    def _begin(self, client_id: UUID, groups: GroupsRead, reads: int) -> None:
        if len(self._bodies) >= MAX_BODIES or self._bytes > MAX_BYTES:
            self._lost[self._find_key(self._lost, client_id)] += reads
            return
        self._bodies.append((client_id, groups))
        self._bytes += groups.weight
        groups.reads = reads

    def count_not_modified(self, client_id: UUID) -> None:
        """Counts that a client was told that its body is current, whose groups are not known here."""
        self._not_modified[self._find_key(self._not_modified, client_id)] += 1

    def _find_key(self, counter: "Counter[UUID]", client_id: UUID) -> UUID:
        return client_id if client_id in counter or len(counter) < MAX_CLIENTS else _OTHERS

    async def run(self, database: Database) -> None:
        """Flushes until it is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush(database)

    async def end(self, database: Database) -> None:
        """Writes what is left, at the end of the server. What cannot be written in time is in the log."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self.flush(database)
        if left := self.lost + sum(groups.reads for _, groups in self._bodies):
            log.warning("counts of reads are lost", number=left)

    async def flush(self, database: Database) -> None:
        """Writes the counts. Those that were certainly not written are kept for the next flush; those of which that is not known are
        lost: to send them again might count them twice.
        """
        async with self._flushing:
            bodies, self._bodies, self._bytes = self._bodies, [], 0
            not_modified, self._not_modified = self._not_modified, Counter()
            lost, self._lost = self._lost, Counter()
            if not bodies and not not_modified and not lost:
                return
            taken = [(client_id, groups, groups.reads) for client_id, groups in bodies]
            for _, groups in bodies:
                groups.reads = 0
            try:
                await self._write(database, taken, not_modified, lost)
            except Busy as error:
                if isinstance(error, OutcomeUnknown):
                    self._give_up(taken)
                else:
                    self._put_back(taken, not_modified, lost)
            except BaseException as error:
                log.warning("counts of reads are lost", kind=type(error).__name__)
                self._give_up(taken)
                if not isinstance(error, Exception):
                    raise

    def _put_back(self, taken: list[tuple[UUID, GroupsRead, int]], not_modified: "Counter[UUID]", lost: "Counter[UUID]") -> None:
        for client_id, groups, reads in taken:
            if groups.reads:
                groups.reads += reads
            else:
                self._begin(client_id, groups, reads)
        self._not_modified.update(not_modified)
        self._lost.update(lost)

    def _give_up(self, taken: list[tuple[UUID, GroupsRead, int]]) -> None:
        for client_id, _, reads in taken:
            self._lost[self._find_key(self._lost, client_id)] += reads

    async def _write(
        self,
        database: Database,
        taken: list[tuple[UUID, GroupsRead, int]],
        not_modified: "Counter[UUID]",
        lost: "Counter[UUID]",
    ) -> None:
        counts: Counter[tuple[UUID, CollectedGroup | PooledGroup]] = Counter()
        async for part in iterate_in_slices(taken):
            for client_id, groups, reads in part:
                for group in groups.list_groups():
                    counts[client_id, group] += reads
        rows = sorted((client_id, *group, n) for (client_id, group), n in counts.items() if isinstance(group, CollectedGroup))
        pooled = sorted((client_id, *group, n) for (client_id, group), n in counts.items() if isinstance(group, PooledGroup))
        others = [(client_id, not_modified[client_id], lost[client_id]) for client_id in sorted({*not_modified, *lost})]
        today = clock.read_today()

        async def write(connection: Connection) -> None:
            for part in split_into_parts(rows):
                await connection.execute(_COUNT, today, *transpose(part, 8))
            for pooled_part in split_into_parts(pooled):
                await connection.execute(_COUNT_POOLED, today, *transpose(pooled_part, 5))
            if others:
                await connection.execute(_COUNT_OTHERS, today, *transpose(others, 3))

        await database.run_transaction(None, write)
