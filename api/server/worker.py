"""`python -m api.server.worker LISTENER LIFELINE [BOARD]`: the worker process, which its supervisor starts. The arguments
are file descriptors; there is a board for its figures where there is an operations port."""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING

from api.watch.board import Board
from api.watch.requests import RequestCounts
from api.watch.traces import Tracing

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from api.server.serving import Server
    from api.settings import Settings

    Build = Callable[[Settings], Starlette]

RESERVED_DESCRIPTORS = 128
"""File descriptors for the database, logs and files, which connections of clients may not use."""


def main(listener: int, lifeline: int, board: int | None = None, *, build: "Build | None" = None) -> None:
    """Serves until SIGINT or SIGTERM. Prints an error and exits with 1 where it cannot start. `build` makes another application
    than `build_app` does: that of the demonstration."""
    Thread(target=_exit_with_supervisor, args=(lifeline,), daemon=True).start()
    gc.disable()  # until the modules are there, which are never freed
    import structlog
    import uvloop  # after the thread has started, since imports take a second

    from api.http.problems import format_traceback
    from api.logs import configure_logging
    from api.settings import SettingsError
    from domain.declare.errors import DomainError

    configure_logging()
    try:
        uvloop.run(_serve(socket.socket(fileno=listener), lifeline, board, build))
    except (SettingsError, DomainError, OSError) as problem:
        structlog.get_logger().error("worker cannot start", cause=f"error: {getattr(problem, 'detail', None) or problem}")
        sys.exit(1)
    except Exception as problem:  # whose text may hold personal data
        structlog.get_logger().error("worker failed", kind=type(problem).__name__, at=format_traceback(problem))
        sys.exit(1)


def _exit_with_supervisor(lifeline: int) -> None:
    """Ends the process at once when the supervisor, which alone has the other end, has ended."""
    try:
        os.read(lifeline, 1)
    finally:
        os._exit(1)


async def _serve(listener: socket.socket, lifeline: int, board: int | None, build: "Build | None") -> None:
    from api.app import build_app
    from api.http.problems import respond
    from api.server.serving import MAX_CONNECTIONS, Server
    from api.settings import Settings

    settings = Settings.from_environment()
    app = (build or build_app)(settings)
    limit = max(1, min(MAX_CONNECTIONS, raise_descriptor_limit() - RESERVED_DESCRIPTORS))
    server = Server(app, lambda problem: respond(problem, settings.base_url), limit)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    loop.add_signal_handler(signal.SIGUSR1, setattr, app.state, "is_draining", True)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        if settings.trace_one_in:
            tracing = app.state.watch.tracing = Tracing(settings.trace_one_in)
            stack.push_async_callback(tracing.stop)
        if board is not None:
            await stack.enter_async_context(_sample(app, server, board))
        gc.collect()
        gc.freeze()  # modules are never freed, so the garbage collector need not scan them
        gc.enable()
        server.on_started = lambda: os.write(lifeline, b"!")  # the worker's message that it serves
        await server.serve([listener])


@asynccontextmanager
async def _sample(app: "Starlette", server: "Server", board: int) -> AsyncIterator[None]:
    """Counts requests, and samples all else, on the board of this worker."""
    from api.http.sampling import Sampler

    counts = app.state.watch.counts = server.counts = RequestCounts(Board(board))
    state = server.server_state
    sampling = asyncio.create_task(Sampler(counts, app.state, state.connections.__len__, state.tasks.__len__).run())
    try:
        yield
    finally:
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling


def raise_descriptor_limit() -> int:
    """Raises the soft limit of file descriptors to the hard limit, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS reports no limit but has one
        return soft
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
