"""Samples what is not counted by requests, once a second: the pool, caches, queues and quotas; backlogs every few seconds."""

import asyncio
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog

from api.http.body_memory import Budget
from api.watch.requests import RequestCounts
from domain.jobs.apply import batch_counts
from domain.jobs.backlogs import read_backlogs
from domain.store.database import Database
from domain.support.lru import list_caches
from domain.support.slices import count_waiting
from domain.write.locks import lock_waits

log = structlog.get_logger()

SECONDS = 1.0
"""Seconds between two samples."""
DAY = 86_400
"""Seconds."""
BACKLOG_SAMPLES = 15
"""Samples between two reads of the backlogs, which are a statement."""


class Sampler:
    """Writes samples on the board on which a worker counts. `state` is that of the application; the functions return how many
    connections and requests there are now."""

    def __init__(
        self,
        counts: RequestCounts,
        state: Any,
        count_connections: Callable[[], int],
        count_requests: Callable[[], int],
    ) -> None:
        self._board, self._counts, self._state = counts.board, counts, state
        self._count_connections, self._count_requests = count_connections, count_requests

    async def run(self) -> None:
        """Samples until it is cancelled."""
        number, reading = 0, None
        while True:
            self.sample()
            if number % BACKLOG_SAMPLES == 0 and (reading is None or reading.done()):
                reading = asyncio.create_task(self.sample_backlogs())
            number += 1
            due = time.monotonic() + SECONDS
            await asyncio.sleep(SECONDS)
            self._board.put("markonce_loop_delay_seconds", max(time.monotonic() - due, 0.0))

    def sample(self) -> None:
        """Writes one sample of everything in this process."""
        put = self._board.put
        put("markonce_connections", self._count_connections())
        put("markonce_requests_in_progress", self._count_requests())
        put("markonce_worker_memory_bytes", _read_memory())
        put("markonce_worker_cpu_seconds_total", time.process_time())
        put("markonce_slices_waiting", count_waiting())
        if (writes := getattr(self._state, "writes", None)) is not None:
            put("markonce_writes_waiting", writes.count_waiting())
        put("markonce_school_locks_total", lock_waits.count)
        put("markonce_school_lock_seconds_total", lock_waits.seconds)
        for outcome, number in batch_counts.items():
            put("markonce_job_batches_total", number, outcome)
        if (database := getattr(self._state, "database", None)) is not None:
            self._sample_database(database)
        self._sample_caches()
        self._sample_bodies()
        self._sample_quotas()
        if cleaned_up_at := getattr(self._state, "cleaned_up_at", None):
            put("markonce_cleanup_age_seconds", time.monotonic() - cleaned_up_at)
        put("markonce_worker_sampled_seconds", time.monotonic())

    async def sample_backlogs(self) -> None:
        """Reads the backlogs and writes them. One that cannot be read now stays as it was."""
        put = self._board.put
        try:
            backlogs = await read_backlogs(self._state.database)
        except Exception as error:
            self._board.values[self._board.find("markonce_backlog_read_failures_total")] += 1
            log.warning("backlogs not read", kind=type(error).__name__)
            return
        for stage, number in backlogs.jobs.items():
            put("markonce_jobs", number, stage)
        for backlog, (number, age) in backlogs.waiting.items():
            put("markonce_backlog_items", number, backlog)
            put("markonce_backlog_age_seconds", age, backlog)
        put("markonce_staged_bytes", backlogs.staged_bytes)
        if backlogs.register_days is not None:
            put("markonce_register_age_seconds", backlogs.register_days * DAY)

    def _sample_database(self, database: Database) -> None:
        put, pool = self._board.put, database.count_pool()
        put("markonce_pool_size", pool.size)
        for use, number in (("lent", pool.lent), ("writing", pool.writing), ("idle", pool.idle)):
            put("markonce_pool_connections", number, use)
        put("markonce_pool_waiting", pool.waiting)
        put("markonce_pool_waits_total", pool.waits)
        put("markonce_pool_wait_seconds_total", pool.waited)
        put("markonce_pool_timeouts_total", pool.timeouts)
        put("markonce_pool_connect_failures_total", pool.failures)
        for kind, number in database.failures.items():
            put("markonce_database_failures_total", number, kind)

    def _sample_caches(self) -> None:
        put = self._board.put
        for cache in list_caches():
            put("markonce_cache_bytes", cache.weight, cache.name)
            put("markonce_cache_limit_bytes", cache.limit, cache.name)
            put("markonce_cache_entries", cache.size, cache.name)
            put("markonce_cache_hits_total", cache.hits, cache.name)
            put("markonce_cache_misses_total", cache.misses, cache.name)

    def _sample_bodies(self) -> None:
        bodies = self._state.bodies
        for stage, budgets in (("arriving", bodies.arriving), ("processed", bodies.processed)):
            for size, budget in budgets.by_size.items():
                self._sample_budget(budget, stage, size)

    def _sample_budget(self, budget: Budget, stage: str, size: str) -> None:
        self._board.put("markonce_body_bytes", budget.used, stage, size)
        self._board.put("markonce_bodies_waiting", budget.waiting, stage, size)

    def _sample_quotas(self) -> None:
        authenticator = getattr(self._state, "authenticator", None)
        if authenticator is None:
            return
        for client in filter(None, self._counts.clients):
            left = authenticator.quotas.read_left(UUID(client))
            if left is not None:
                self._board.put("markonce_quota_left_ratio", left, client)


def _read_memory() -> int:
    """Returns the resident bytes of this process; where the system has no /proc, the most that they have been."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
