"""The state of a window at an instant, which is derived from its terms: nobody has to call for it to open or close.

`opensAt` opens a planned window and `closesAt` closes an open one. The verbs do it earlier: open_window moves `opensAt`
to its own instant and stores `open`, close_window stores `closed` with the instant in `closed_at`. A stored `locked`
holds. The rule itself is the function window_state of the database (migration 0017), so that every statement has the
same one. The instant is that of the clock (domain/support/clock.py).
"""

from typing import Any

from sqlalchemy import ColumnElement, DateTime, Text, case, func, literal_column

from domain.read.time_binds import NOW


def derive_state(w: Any) -> ColumnElement[str]:
    """Returns in SQL the state now of a row with the columns state, opens_at and closes_at."""
    state: ColumnElement[str] = func.window_state(w.state, w.opens_at, w.closes_at, NOW, type_=Text)
    return state


def has_opened(w: Any) -> ColumnElement[bool]:
    """Returns the condition that a window is open now, or was."""
    return derive_state(w) != literal_column("'planned'")


def derive_closed_at(w: Any) -> ColumnElement[Any]:
    """Returns in SQL the instant at which a window closed, by itself or early; null while it is not closed."""
    has_closed = derive_state(w).in_([literal_column("'closed'"), literal_column("'locked'")])
    return case((has_closed, func.coalesce(w.closed_at, w.closes_at, type_=DateTime(timezone=True))))


def state_sql(now: str, w: str = "w") -> str:
    """Returns `derive_state` as SQL text. `now` is an SQL expression, `w` the row's alias."""
    return f"window_state({w}.state, {w}.opens_at, {w}.closes_at, {now})"
