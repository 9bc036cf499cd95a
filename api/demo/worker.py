"""`python -m api.demo.worker AHEAD FOLDER LISTENER LIFELINE [BOARD]`: the worker of the demonstration. It serves what `serve` does, and
the sandbox. AHEAD are the seconds by which the calendar is ahead of real time, FOLDER is that of the demonstration."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from api.server.worker import main
from domain.support import clock

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from api.settings import Settings


def build(settings: "Settings") -> "Starlette":
    """Returns the application with the sandbox."""
    from api.app import build_app
    from api.demo.sandbox import make_extras

    return build_app(settings, extras=make_extras(Path(sys.argv[2])))


if __name__ == "__main__":
    clock.move_clock(timedelta(seconds=float(sys.argv[1])))
    main(*map(int, sys.argv[3:]), build=build)
