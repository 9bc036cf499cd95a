"""A request that outlasts the server is told that nobody knows what became of it."""

import asyncio
import json
from typing import Any

import pytest

from api.outermost import Outermost, Paths
from api.problems import respond
from api.server.connections import Connections
from tests.faults.raw import request


async def unending(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def slow(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"!"})


async def last_words(app: Any, data: bytes, grace: float) -> bytes:
    """What a client reads, which has sent this and not been answered when the server is told to stop."""
    outermost = Outermost(app, "http://x", 60, Paths([]))
    connections = Connections(outermost, lambda problem: respond(problem, "http://x"), 10)
    served = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*served.sockets[0].getsockname())
    idle, _ = await asyncio.open_connection(*served.sockets[0].getsockname())
    writer.write(data)
    await asyncio.sleep(0.1)
    served.close()
    await connections.stop(grace)
    assert await idle.read(-1) == b""
    received = await reader.read(-1)
    writer.close()
    return received


async def test_a_request_that_outlasts_the_server_is_503() -> None:
    head, _, body = (await last_words(unending, request() * 2, 0.2)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close" in head
    assert b"retry-after: " in head
    assert "It is not known whether anything was written" in json.loads(body)["detail"]


@pytest.mark.parametrize("times", [1, 2])
async def test_a_request_that_ends_in_time_is_answered_and_the_one_after_it_is_not_begun(times: int) -> None:
    received = await last_words(slow, request() * times, 10)
    assert received.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in received
    assert received.endswith(b"\r\n\r\n!")
