"""Runs the application under granian, which closes slow and oversized headers by itself.

`python -m api.server HOST PORT` is what `serve` becomes: it starts workers and needs nothing of the application itself, whose modules are large.
"""

import gc
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, TypeVar

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.http import HTTP1Settings

HEADER_TIMEOUT_MS = 5_000
T = TypeVar("T")


def from_environment() -> Any:
    """What each worker runs: the ASGI application."""
    from api.app import build_app
    from api.logs import configure_logging
    from api.settings import Settings

    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    configure_logging()
    app = build_app(Settings.from_environment())
    gc.collect()
    gc.freeze()  # modules stay for good: a large batch, which makes garbage collection busy, need not look at them
    return app


def soon(take: Callable[[], T]) -> T:
    """Tries for two seconds: the worker of a server that was killed holds its port and its folder until it notices."""
    deadline = time.monotonic() + 2
    while True:
        try:
            return take()
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


@contextmanager
def reserved(host: str, port: int) -> Iterator[Callable[[], None]]:
    """Holds a port until it is released to the server, which would share a taken one without a word. Raises OSError, saying so."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            soon(lambda: held.bind((host, port)))
        except (OSError, OverflowError) as problem:
            reason = "is in use" if isinstance(problem, OSError) else "is not a port number"
            raise OSError(f"Port {port} on {host} {reason}: choose another with --port (make demo PORT=…).") from problem
        yield held.close


def _end_with(parent: int) -> None:
    """Ends the worker when the process that started it is gone: an orphan would keep the port."""
    while os.getppid() == parent:
        time.sleep(0.25)
    os._exit(1)


def run(host: str, port: int) -> None:
    """Serves until told to stop."""
    Granian(
        "api.server:from_environment",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=10,
    ).serve()


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
