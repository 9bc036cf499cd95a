"""Adds up the figures of the workers, and writes them with those of the supervisor in the format of Prometheus.

A counter is what the present worker has counted and what those before it had. So it goes on when a worker is started
again. A gauge is of the workers that run: their sum, unless each says the same of the database or is to be seen alone.
"""

import os
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

from api.watch.board import Series, read_board
from api.watch.figures import BOUNDS, COUNTER, FIGURES, GAUGE, SUM

Key = tuple[str, tuple[str, ...]]
"""The name of a series and its labels."""


class Totals:
    """The figures of every worker of a server, one after another or beside each other."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._boards: list[int] = []
        self._ended: dict[Key, list[float]] = {}

    def add(self, descriptor: int) -> None:
        """Adds the board of a worker that starts."""
        with self._lock:
            self._boards.append(descriptor)

    def retire(self, descriptor: int) -> None:
        """Keeps the counters of a worker that has ended, and closes its board."""
        with self._lock:
            self._boards.remove(descriptor)
            for series in read_board(descriptor):
                if FIGURES[series.name].kind != GAUGE:
                    _add(self._ended, series)
            os.close(descriptor)

    def read(self) -> dict[Key, list[float]]:
        """Returns every series, added up."""
        with self._lock:
            totals = {key: [*numbers] for key, numbers in self._ended.items()}
            for descriptor in self._boards:
                for series in read_board(descriptor):
                    _add(totals, series)
        return totals


LARGEST = {
    *(
        "markonce_jobs",
        "markonce_backlog_items",
        "markonce_backlog_age_seconds",
        "markonce_staged_bytes",
        "markonce_register_age_seconds",
    ),
    *("markonce_cleanup_age_seconds", "markonce_loop_delay_seconds"),
}
SMALLEST = {"markonce_worker_sampled_seconds", "markonce_quota_left_ratio"}
"""Gauges of which the largest, or the smallest, of all workers counts."""


def _add(totals: dict[Key, list[float]], series: Series) -> None:
    key = series.name, series.labels
    present = totals.get(key)
    if present is None:
        totals[key] = [*series.numbers]
    elif series.name in LARGEST:
        totals[key] = [*map(max, present, series.numbers)]
    elif series.name in SMALLEST:
        totals[key] = [*map(min, present, series.numbers)]
    else:
        totals[key] = [a + b for a, b in zip(present, series.numbers, strict=True)]


def write_figures(totals: Mapping[Key, list[float]], accept: str) -> tuple[bytes, str]:
    """Returns every figure as the text that `accept`, the value of an Accept header, prefers, and its media type."""
    from prometheus_client import CollectorRegistry  # here, since a supervisor without an operations port does without
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(totals))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Families:
    """What prometheus_client collects."""

    def __init__(self, totals: Mapping[Key, list[float]]) -> None:
        self._by_name: dict[str, list[tuple[tuple[str, ...], list[float]]]] = {name: [] for name in FIGURES}
        for (name, labels), numbers in sorted(totals.items()):
            self._by_name[name].append((labels, numbers))

    def collect(self) -> Iterable[Any]:
        """Yields a family for each figure, also where it has no series yet."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, series in self._by_name.items():
            figure = FIGURES[name]
            if figure.kind in (COUNTER, GAUGE):
                make = CounterMetricFamily if figure.kind == COUNTER else GaugeMetricFamily
                family = make(name, figure.doc, labels=figure.labels)
                for labels, (number,) in series:
                    family.add_metric(labels, number)
                yield family
            else:
                histogram = HistogramMetricFamily(name, figure.doc, labels=figure.labels)
                for labels, numbers in series:
                    histogram.add_metric(labels, _add_up_buckets(numbers), numbers[SUM])
                yield histogram


def _add_up_buckets(numbers: list[float]) -> list[tuple[str, float]]:
    """Returns the buckets as Prometheus has them: each holds those below it too."""
    buckets, total = list[tuple[str, float]](), 0.0
    for bound, number in zip((*map(str, BOUNDS), "+Inf"), numbers, strict=False):
        total += number
        buckets.append((bound, total))
    return buckets
