"""The server in the process of a test."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from api.http.problems import respond
from api.server.serving import Server


def make_server(app: Any, limit: int = 1_000, grace: float = 0.1, idle: float = 75) -> Server:
    server = Server(app, lambda problem: respond(problem, "http://x"), limit)
    server.config.timeout_graceful_shutdown, server.config.timeout_keep_alive = grace, idle  # type: ignore[assignment]
    server.config.load()
    return server


@asynccontextmanager
async def serving_here(app: Any, limit: int = 1_000, grace: float = 0.1, idle: float = 75) -> AsyncIterator[tuple[int, Server]]:
    """Its port and the server, which is told to stop at the end of the block if it was not before."""
    server = make_server(app, limit, grace, idle)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        port = listener.getsockname()[1]
        started = asyncio.Event()
        server.on_started = started.set
        serving = asyncio.create_task(server.serve([listener]))
        await started.wait()
        yield port, server
        server.stop()
        await serving


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    """What an application sends that answers with this body."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
