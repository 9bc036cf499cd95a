"""Every figure that `/metrics` shows: its name, kind, labels and meaning. Names and units follow the conventions of Prometheus.

Each label has few values, whatever clients send: a route is a template, and of clients MAX_CLIENTS are named.
"""

from dataclasses import dataclass
from typing import Final, Literal

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"
BOUNDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets of a histogram, in seconds. One more bucket has no bound."""
SUM = len(BOUNDS) + 1
"""The position of a histogram's sum, after its buckets."""
MAX_CLIENTS = 100
"""Clients that have a label of their own. All others share one."""
OTHER = "(other)"
UNKNOWN_ROUTE, MALFORMED_ROUTE = "(unknown)", "(malformed)"


@dataclass(frozen=True)
class Figure:
    """One figure. Those of a `worker` are written by the workers, and the others by their supervisor."""

    kind: Literal["counter", "gauge", "histogram"]
    doc: str
    labels: tuple[str, ...] = ()
    worker: bool = True


FIGURES = {
    # requests
    "markonce_requests_total": Figure(
        COUNTER, "Requests that were answered.", ("interface", "method", "route", "status", "client")
    ),
    "markonce_request_seconds": Figure(HISTOGRAM, "Time to answer.", ("interface", "method", "route", "status")),
    "markonce_client_request_seconds": Figure(HISTOGRAM, "Time to answer a client.", ("client", "interface")),
    "markonce_response_bytes_total": Figure(COUNTER, "Bytes of responses, before compression.", ("interface",)),
    "markonce_database_seconds_total": Figure(
        COUNTER, "Time that requests have spent with the database, with the wait for a connection.", ("interface",)
    ),
    "markonce_problems_total": Figure(
        COUNTER, "Problems in responses, by code; in GraphQL also those of a 200.", ("interface", "status", "code")
    ),
    "markonce_requests_in_progress": Figure(GAUGE, "Requests that are being answered."),
    "markonce_connections": Figure(GAUGE, "Connections of clients."),
    # quota
    "markonce_quota_cost_total": Figure(COUNTER, "What requests have cost of the quotas.", ("client", "interface")),
    "markonce_quota_refused_total": Figure(COUNTER, "Requests that were refused because the quota was used up.", ("client",)),
    "markonce_quota_left_ratio": Figure(GAUGE, "How much of a client's quota is left, 1 where it is untouched.", ("client",)),
    # database
    "markonce_pool_size": Figure(GAUGE, "Connections to the database that may be open."),
    "markonce_pool_connections": Figure(
        GAUGE, "Connections to the database: lent, lent to a write (which count as lent too), idle.", ("use",)
    ),
    "markonce_pool_waiting": Figure(GAUGE, "Requests that wait for a connection."),
    "markonce_pool_waits_total": Figure(COUNTER, "Waits for a connection."),
    "markonce_pool_wait_seconds_total": Figure(COUNTER, "Time spent waiting for a connection."),
    "markonce_pool_timeouts_total": Figure(COUNTER, "Waits for a connection that were in vain."),
    "markonce_pool_connect_failures_total": Figure(COUNTER, "Connections that could not be opened."),
    "markonce_database_failures_total": Figure(
        COUNTER, "Uses of the database that failed: lock_timeout, timeout, rejected, lost.", ("kind",)
    ),
    "markonce_writes_waiting": Figure(GAUGE, "Single judgements and targets that wait for their client's transaction."),
    "markonce_school_locks_total": Figure(COUNTER, "Writes that locked schools."),
    "markonce_school_lock_seconds_total": Figure(COUNTER, "Time that writes have waited for the locks of schools."),
    # memory and queues
    "markonce_cache_bytes": Figure(GAUGE, "Bytes that a cache holds.", ("cache",)),
    "markonce_cache_limit_bytes": Figure(GAUGE, "Bytes that a cache may hold.", ("cache",)),
    "markonce_cache_entries": Figure(GAUGE, "Entries of a cache.", ("cache",)),
    "markonce_cache_hits_total": Figure(COUNTER, "Look-ups that a cache answered.", ("cache",)),
    "markonce_cache_misses_total": Figure(COUNTER, "Look-ups that a cache did not answer.", ("cache",)),
    "markonce_body_bytes": Figure(GAUGE, "Memory of request bodies, by stage and size.", ("stage", "size")),
    "markonce_bodies_waiting": Figure(GAUGE, "Requests whose body waits for memory.", ("stage", "size")),
    "markonce_slices_waiting": Figure(GAUGE, "Long pieces of work that wait for their turn."),
    "markonce_loop_delay_seconds": Figure(GAUGE, "By how much the event loop was late at the last sample."),
    "markonce_worker_memory_bytes": Figure(GAUGE, "Resident memory of the worker."),
    "markonce_worker_cpu_seconds_total": Figure(COUNTER, "Processor time of the worker."),
    "markonce_worker_sampled_seconds": Figure(GAUGE, "When the worker last sampled, by the clock of the system's uptime."),
    # jobs and backlogs
    "markonce_job_batches_total": Figure(
        COUNTER, "What became of rows of a school in a job: applied, refused; failed counts jobs.", ("outcome",)
    ),
    "markonce_jobs": Figure(GAUGE, "Jobs that are not done, of all servers: receiving, queued, running.", ("stage",)),
    "markonce_backlog_items": Figure(GAUGE, "What waits, of all servers: jobs, planned rolls that are due.", ("backlog",)),
    "markonce_backlog_age_seconds": Figure(GAUGE, "The age of what has waited longest; 0 where nothing waits.", ("backlog",)),
    "markonce_staged_bytes": Figure(GAUGE, "Bytes of the rows that jobs have staged, of all servers."),
    "markonce_register_age_seconds": Figure(GAUGE, "Time since the day of the last extract of GIAS that was imported."),
    "markonce_cleanup_age_seconds": Figure(GAUGE, "Time since this server last removed expired rows."),
    "markonce_backlog_read_failures_total": Figure(COUNTER, "Reads of the backlogs that failed."),
    # the supervisor's
    "markonce_ready": Figure(GAUGE, "1 where the server is ready, 0 where it is not.", worker=False),
    "markonce_failing_checks": Figure(GAUGE, "1 for each check of /health/ready that fails.", ("check",), worker=False),
    "markonce_draining": Figure(GAUGE, "1 while a planned stop runs.", worker=False),
    "markonce_worker_serving": Figure(GAUGE, "1 while a worker serves, 0 while it starts.", worker=False),
    "markonce_worker_starts_total": Figure(COUNTER, "Starts of a worker.", worker=False),
    "markonce_worker_failures_total": Figure(COUNTER, "Ends of a worker that nobody had planned.", worker=False),
    "markonce_worker_silent_seconds": Figure(GAUGE, "Time since the worker last sampled.", worker=False),
    "markonce_figures_dropped_total": Figure(COUNTER, "Series for which the memory of a worker had no room."),
    "markonce_info": Figure(GAUGE, "The version of the program.", ("version",), worker=False),
}
