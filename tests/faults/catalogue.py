"""The trials, by name."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.trials import clock, cuts, freezes, kills, load, orders, refusals, shapes, singles, starved


@dataclass(frozen=True)
class Trial:
    """`small` and `full` are counts of whatever it counts. Where `durable` is set, commits must be on disk, since PostgreSQL is killed."""

    name: str
    about: str
    run: Callable[[Laboratory, int, int, Watch], Awaitable[Result]]
    steps: Callable[[int], int]
    small: int
    full: int
    durable: bool = False


TRIALS = {
    trial.name: trial
    for trial in (
        Trial("kills", kills.ABOUT, kills.run, kills.steps, kills.SMALL, kills.FULL, durable=True),
        Trial("cuts", cuts.ABOUT, cuts.run, cuts.steps, cuts.SMALL, cuts.FULL),
        Trial("freezes", freezes.ABOUT, freezes.run, freezes.steps, freezes.SMALL, freezes.FULL),
        Trial("refusals", refusals.ABOUT, refusals.run, refusals.steps, refusals.SMALL, refusals.FULL),
        Trial("clock", clock.ABOUT, clock.run, clock.steps, clock.SMALL, clock.FULL),
        Trial("load", load.ABOUT, load.run, load.steps, load.SMALL, load.FULL),
        Trial("starved", starved.ABOUT, starved.run, starved.steps, starved.SMALL, starved.FULL),
        Trial("singles", singles.ABOUT, singles.run, singles.steps, singles.SMALL, singles.FULL),
        Trial("orders", orders.ABOUT, orders.run, orders.steps, orders.SMALL, orders.FULL),
        Trial("shapes", shapes.ABOUT, shapes.run, shapes.steps, shapes.SMALL, shapes.FULL),
    )
}
