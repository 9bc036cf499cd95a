"""What watches the requests of an application: the counts of a worker, and traces, each if there are any."""

from dataclasses import dataclass

from api.watch.requests import RequestCounts
from api.watch.traces import Tracing


@dataclass
class Watch:
    """The worker sets `counts` where there is an operations port, and `tracing` where requests are traced."""

    counts: RequestCounts | None = None
    tracing: Tracing | None = None
