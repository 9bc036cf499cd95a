"""`python -m api.server.worker LISTENER LIFELINE`: the worker process, which its supervisor starts. The arguments are
file descriptors."""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from threading import Thread

RESERVED_DESCRIPTORS = 128
"""File descriptors for the database, logs and files, which connections of clients may not use."""


def main(listener: int, lifeline: int) -> None:
    """Serves until SIGINT or SIGTERM. Prints an error and exits with 1 where it cannot start."""
    Thread(target=_exit_with_supervisor, args=(lifeline,), daemon=True).start()
    gc.disable()  # until the modules are there, which are never freed
    import uvloop  # after the thread has started, since imports take a second

    from api.logs import configure_logging
    from api.settings import SettingsError
    from domain.declare.errors import DomainError

    configure_logging()
    try:
        uvloop.run(_serve(socket.socket(fileno=listener), lifeline))
    except (SettingsError, DomainError, OSError) as problem:
        sys.exit(f"error: {getattr(problem, 'detail', None) or problem}")


def _exit_with_supervisor(lifeline: int) -> None:
    """Ends the process at once when the supervisor, which alone has the other end, has ended."""
    try:
        os.read(lifeline, 1)
    finally:
        os._exit(1)


async def _serve(listener: socket.socket, lifeline: int) -> None:
    from api.app import build_app
    from api.http.problems import respond
    from api.server.serving import MAX_CONNECTIONS, Server
    from api.settings import Settings

    settings = Settings.from_environment()
    app = build_app(settings)
    limit = max(1, min(MAX_CONNECTIONS, raise_descriptor_limit() - RESERVED_DESCRIPTORS))
    server = Server(app, lambda problem: respond(problem, settings.base_url), limit)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    async with app.router.lifespan_context(app):
        gc.collect()
        gc.freeze()  # modules are never freed, so the garbage collector need not scan them
        gc.enable()
        server.on_started = lambda: os.write(lifeline, b"!")  # the worker's message that it serves
        await server.serve([listener])


def raise_descriptor_limit() -> int:
    """Raises the soft limit of file descriptors to the hard limit, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS reports no limit but has one
        return soft
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
