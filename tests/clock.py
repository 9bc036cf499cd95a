"""Moves the clock of the calendar and of windows, for tests whose server runs in the same process."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from domain.support import clock

PLANNING = datetime(2030, 6, 3, 9, tzinfo=UTC)
"""A day on which rolls of the coming year are planned; they stay so for the tests' own time."""
PLANNED_DAY = "2030-09-02"


def set_clock(monkeypatch: pytest.MonkeyPatch, instant: datetime) -> None:
    """Lets the clock stand at an instant, which has a time zone, until the test ends or it is set again."""
    assert instant.tzinfo is not None
    monkeypatch.setattr(clock, "read_now", lambda: instant)


@contextmanager
def standing_at(instant: datetime) -> Iterator[None]:
    """Lets the clock stand at an instant within the block, for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        set_clock(patch, instant)
        yield
