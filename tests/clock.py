"""Moves the clock of the calendar and of windows, for tests whose server runs in the same process."""

from datetime import datetime

import pytest

from domain.support import clock


def set_clock(monkeypatch: pytest.MonkeyPatch, instant: datetime) -> None:
    """Lets the clock stand at an instant, which has a time zone, until the test ends or it is set again."""
    assert instant.tzinfo is not None
    monkeypatch.setattr(clock, "read_now", lambda: instant)
