"""No client keeps the server waiting for ever, and those that do so for a while stop nobody else.

`MARKONCE_FAULT_CONNECTIONS` says how many silent connections there are at once (600 by default).
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.server import limits as timing
from api.server import serving as counting
from tests.faults.processes import PATIENCE, answers, marked, wait_until
from tests.faults.raw import connect, request
from tests.faults.serving import answer, serving_here
from tests.fixtures.server import Server, free_port

MANY = int(os.environ.get("MARKONCE_FAULT_CONNECTIONS", "600"))
SILENT = {
    "nothing": b"",
    "an empty line": b"\r\n",
    "part of a request line": b"GET /hea",
    "a request line": b"GET /health/live HTTP/1.1\r\n",
    "a head without its end": request()[:-2],
    "the beginning of HTTP/2": b"PRI * HT",
    "HTTP/2 without TLS": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "part of a second request": request() + b"GET /hea",
    "a body that nobody reads": request("POST /health/live HTTP/1.1", "Content-Length: 9"),
}


def until_closed(socks: dict[str, socket.socket], seconds: float) -> dict[str, bytes]:
    """What each was sent before the server closed it; only of those that it closed."""
    received = dict.fromkeys(socks, b"")
    closed: dict[str, bytes] = {}
    deadline = time.monotonic() + seconds
    while len(closed) < len(socks) and time.monotonic() < deadline:
        reading = {sock: name for name, sock in socks.items() if name not in closed}
        for sock in select.select(list(reading), [], [], 0.5)[0]:
            data = sock.recv(65_536)
            received[reading[sock]] += data
            if not data:
                closed[reading[sock]] = received[reading[sock]]
    return closed


def test_the_connection_of_a_silent_client_is_closed(server: Server) -> None:
    with ExitStack() as stack:
        socks = {name: stack.enter_context(connect(server.base_url)) for name in SILENT}
        for name, data in SILENT.items():
            socks[name].sendall(data)
        closed = until_closed(socks, 30)
    assert set(closed) == set(SILENT)
    assert closed["nothing"] == b""
    assert closed["an empty line"].startswith(b"HTTP/1.1 408 ")
    assert closed["a request line"].startswith(b"HTTP/1.1 408 ")
    assert closed["HTTP/2 without TLS"].startswith(b"HTTP/1.1 505 ")
    assert closed["part of a second request"].startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in closed["part of a second request"]


def test_a_head_that_arrives_in_drops_is_not_waited_for(server: Server) -> None:
    with connect(server.base_url) as sock:
        begun = time.monotonic()
        for drop in request("GET /health/live HTTP/1.1", "A: " + "b" * 1_000):
            try:
                sock.sendall(bytes([drop]))
            except ConnectionError:
                break
            if select.select([sock], [], [], 0.25)[0]:
                break
        assert sock.recv(1_000).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begun < 60  # of the 250 s that it would take


@contextmanager
def silent(port: int, number: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)) for _ in range(number)]


def test_silent_connections_stop_nobody_though_they_take_every_descriptor(server: Server, tmp_path: Path) -> None:
    port = free_port()
    with marked(["serve", "--port", str(port)], server.environment, tmp_path / "log", (256, 400)) as running:
        wait_until(lambda: answers(port), "the server")
        limits = [Path(f"/proc/{worker}/limits").read_text() for worker in running.workers]
        assert [line.split()[3:5] for text in limits for line in text.splitlines() if "open files" in line] == [["400", "400"]]
        with silent(port, MANY):
            for _ in range(20):
                assert httpx2.get(f"http://127.0.0.1:{port}/health/live", timeout=PATIENCE).status_code == 200
            with silent(port, MANY), httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                assert [client.get("/health/ready").status_code for _ in range(20)] == [200] * 20
        assert answers(port)
        assert "started again" not in running.said


# The same with shorter limits, in this process.

BIG = 5_000_000


async def big(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, os.urandom(1) * BIG)


async def opened(port: int, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client with a small buffer, which has sent this and reads nothing by itself."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=65_536)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def body_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length: "))
    return await reader.readexactly(int(length.split()[1]))


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "SWEEP_TICKS", 1)
    monkeypatch.setattr(timing, "STALL_SECONDS", 1.0)
    monkeypatch.setattr(timing, "DISCARD_SECONDS", 0.5)


async def test_responses_that_nobody_reads_hold_no_more_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MAX_UNSENT", 4 * BIG)
    async with serving_here(big) as (port, server):
        deaf = [await opened(port, request()) for _ in range(12)]
        for _ in range(200):
            await asyncio.sleep(0.01)
            assert server.unsent <= 4 * BIG
        reader, writer = await opened(port, request())
        assert len(await body_of(reader)) == BIG
        cut = 0
        for deaf_reader, _ in deaf:
            try:
                await body_of(deaf_reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                cut += 1
        assert cut >= 8
        for _, each in [*deaf, (reader, writer)]:
            each.close()


async def test_the_next_response_is_not_made_before_the_one_before_is_read() -> None:
    made = 0

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        nonlocal made
        made += 1
        await big(scope, receive, send)

    async with serving_here(counted) as (port, _):
        reader, writer = await opened(port, request() * 50)
        await asyncio.sleep(0.3)
        assert made == 1
        assert len(await body_of(reader)) == BIG
        assert len(await body_of(reader)) == BIG
        assert made <= 3
        writer.close()


@pytest.mark.usefixtures("brief")
async def test_a_response_that_is_not_read_is_given_up_and_one_that_is_read_slowly_is_not() -> None:
    async with serving_here(big) as (port, server):
        _, deaf = await opened(port, request())
        slow_reader, slow = await opened(port, request())
        received = 0
        while received < BIG:  # three seconds, longer than a client may read nothing
            received += len(await slow_reader.read(100_000))
            await asyncio.sleep(0.06)
        for _ in range(1_000):
            if server.unsent == 0:
                break
            await asyncio.sleep(0.01)
        assert server.unsent == 0
        deaf.close()
        slow.close()


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize(
    "data", [request(), request("POST / HTTP/1.1", "Content-Length: 9"), request("POST / HTTP/1.1", "Content-Length: 999999")]
)
async def test_a_connection_is_not_kept_for_ever_for_what_may_come(data: bytes) -> None:
    async def small(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"!")

    async with serving_here(small, idle=0.5) as (port, _):
        reader, writer = await opened(port, data)
        received = await asyncio.wait_for(reader.read(-1), PATIENCE)
        assert received.endswith(b"\r\n\r\n!")
        writer.close()


async def test_a_request_that_is_answered_is_not_given_up_for_new_connections() -> None:
    ready = asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await ready.wait()
        await answer(send, b"!")

    async with serving_here(waiting, limit=20) as (port, _):
        busy = [await opened(port, request()) for _ in range(10)]
        others = [await opened(port) for _ in range(100)]
        late = await opened(port, request())
        await asyncio.sleep(0.05)
        ready.set()
        for reader, _ in [*busy, late]:
            assert await asyncio.wait_for(body_of(reader), PATIENCE) == b"!"
        assert sum([reader.at_eof() for reader, _ in others]) >= 80
        for _, writer in [*busy, *others, late]:
            writer.close()


async def test_a_connection_is_kept_after_a_body_that_came_later_than_the_response() -> None:
    async def small(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"!")

    async with serving_here(small) as (port, _):
        reader, writer = await opened(port, request("POST / HTTP/1.1", "Content-Length: 9"))
        assert await body_of(reader) == b"!"
        for piece in (b"123", b"456789" + request(), request()[:20], request()[20:]):
            writer.write(piece)
            await asyncio.sleep(0.05)
        assert [await asyncio.wait_for(body_of(reader), PATIENCE) for _ in range(2)] == [b"!"] * 2
        writer.close()


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        (("Content-Length: 9",), False),
        (("Content-Length: 262144",), False),
        (("Content-Length: 262146",), True),
        (("Content-Length: 16000000",), True),
        (("Transfer-Encoding: chunked",), True),
        (("Content-Length: 9", "Expect: 100-continue"), True),
        ((), False),
    ],
)
async def test_a_connection_that_ends_with_its_response_is_announced(fields: tuple[str, ...], ends: bool) -> None:
    """The response comes before the body. A client that is not told would send its next request on this connection, in vain."""

    async def small(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"!", 429)

    async with serving_here(small) as (port, _):
        reader, writer = await opened(port, request("POST / HTTP/1.1", *fields))
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).lower()
        assert b"http/1.1 429 " in head
        assert (b"\r\nconnection: close\r\n" in head) is ends
        assert await reader.readexactly(1) == b"!"
        if ends:
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        else:
            missing = next((int(field.split()[1]) for field in fields), 0)
            writer.write(b"a" * missing + request())
            assert b"http/1.1 429 " in (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)).lower()
        writer.close()


async def test_what_arrives_beside_a_response_that_is_read_slowly_is_answered_after_it() -> None:
    async with serving_here(big) as (port, _):
        reader, writer = await opened(
            port, request("POST / HTTP/1.1", "Content-Length: 200000", body=b"a" * 200_000) + request() * 3_000
        )
        for _ in range(3):
            assert len(await asyncio.wait_for(body_of(reader), PATIENCE)) == BIG
        writer.close()
