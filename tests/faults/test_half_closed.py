"""A client that has sent all and closes its side of the connection may still read: what it has sent whole is answered."""

import asyncio
from typing import Any

import pytest

from tests.faults.raw import request
from tests.faults.serving import answer, serving_here


async def slow(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.1)
    await answer(send, b"!")


async def read_after_closing(data: bytes) -> bytes:
    async with serving_here(slow) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            received = await reader.read(-1)
        writer.close()
    return received


@pytest.mark.parametrize("times", [1, 3])
async def test_whole_requests_are_answered(times: int) -> None:
    received = await read_after_closing(request() * times)
    assert received.count(b"HTTP/1.1 200 ") == times


async def test_a_request_whose_body_is_cut_short_ends_the_connection() -> None:
    received = await read_after_closing(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert b"HTTP/1.1 200 " not in received


async def test_a_head_that_is_cut_short_ends_the_connection() -> None:
    assert await read_after_closing(request() + b"GET / HTTP/1.1\r\nHost:") != b""
