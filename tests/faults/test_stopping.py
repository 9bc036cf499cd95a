"""A request that outlasts the server is told so, and what is known of its writes."""

import asyncio
import json
from typing import Any

import pytest

from api.http.middleware import RequestMiddleware, Router
from tests.faults.raw import request
from tests.faults.serving import answer, serving_here


async def unending(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def slow(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0.3)
    await answer(send, b"!")


async def last_words(app: Any, data: bytes, grace: float) -> bytes:
    """What a client reads, which has sent this and not been answered when the server is told to stop."""
    outermost = RequestMiddleware(app, "http://x", 60, Router([]))
    async with serving_here(outermost, grace=grace) as (port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        idle, _ = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        await asyncio.sleep(0.1)
    assert server.should_exit
    assert await idle.read(-1) == b""
    received = await reader.read(-1)
    writer.close()
    return received


async def test_a_request_that_outlasts_the_server_is_503() -> None:
    head, _, body = (await last_words(unending, request() * 2, 0.2)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close" in head
    assert b"retry-after: " in head
    assert "The server is stopping; nothing of this request was written" in json.loads(body)["detail"]


@pytest.mark.parametrize("times", [1, 2])
async def test_a_request_that_ends_in_time_is_answered_and_the_one_after_it_is_not_begun(times: int) -> None:
    received = await last_words(slow, request() * times, 10)
    assert received.count(b"HTTP/1.1 200 ") == 1
    assert b"connection: close" in received
    assert received.endswith(b"\r\n\r\n!")
