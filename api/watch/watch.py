"""What watches the requests of an application: the counts of a worker, and traces, each if there are any."""

from dataclasses import dataclass

from api.watch.requests import RequestCounts


@dataclass
class Watch:
    """The worker sets `counts` where there is an operations port."""

    counts: RequestCounts | None = None
