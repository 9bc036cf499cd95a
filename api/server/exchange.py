"""One request and its response, as ASGI has them (the HTTP part of its specification, version 2.4)."""

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

from starlette.types import Message

from api.server.content import Chunked, Sized
from api.server.head import Head, MalformedRequest

MAX_QUEUED = 65_536
"""Bytes of a body that wait for the application; no more is read before it has taken them."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = (b"connection", b"close")


class Wire(Protocol):
    """What an exchange asks of its connection."""

    is_lost: bool

    @property
    def is_stopping(self) -> bool: ...

    def write(self, head: bytes, body: bytes = b"") -> None: ...
    async def drain(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Exchange:
    """`receive` and `send` are the application's; `feed` brings what arrives of the body."""

    __slots__ = (
        "_chunks_response",
        "_expects_continue",
        "_headers",
        "_is_bodiless",
        "_pieces",
        "_queued",
        "_remaining",
        "_status",
        "_waiter",
        "content",
        "has_begun",
        "head",
        "is_broken",
        "is_done",
        "keeps_alive",
        "wire",
    )

    def __init__(self, wire: Wire, head: Head) -> None:
        self.wire, self.head = wire, head
        self.content: Sized | Chunked = Chunked() if head.section.length is None else Sized(head.section.length)
        self.keeps_alive = head.section.keeps_alive
        self.has_begun = self.is_done = self.is_broken = False
        self._expects_continue = head.section.expects_continue
        self._pieces: list[bytes] | None = []
        self._queued = 0
        self._waiter: asyncio.Future[None] | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._remaining: int | None = None
        self._chunks_response = self._is_bodiless = False

    # The request's body.

    def feed(self, data: bytes) -> bytes:
        """Takes what of the data is content, and returns what follows it. A body that is malformed is one that breaks off."""
        try:
            piece, rest = self.content.feed(data)
        except MalformedRequest:
            self.is_broken, self.keeps_alive = True, False
            piece = rest = b""
        if self._pieces is not None and piece and not self.is_done:
            self._expects_continue = False
            self._pieces.append(piece)
            self._queued += len(piece)
            if self._queued > MAX_QUEUED:
                self.wire.pause_reading()
        self.wake()
        return rest

    def cut(self) -> None:
        """Nothing more comes from the client: neither the rest of this body nor another request."""
        self.keeps_alive = False
        self.is_broken = self.is_broken or self.is_receiving
        self.wake()

    def give_up(self) -> None:
        """The application will not answer; somebody else does."""
        self.is_done, self.keeps_alive = True, False

    def is_longer_than(self, size: int) -> bool:
        """Whether more than so many bytes of the body are still to come, or nobody knows how many."""
        return self.is_receiving and (self.content.remaining is None or self.content.remaining > size)

    def wake(self) -> None:
        """Lets `receive` look again: something arrived, or nothing will."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def is_receiving(self) -> bool:
        """Whether more of the body is to come."""
        return not self.content.is_complete and not self.is_broken

    @property
    def waits_for_client(self) -> bool:
        """Whether the application waits for more of the body."""
        return self._waiter is not None and self.is_receiving

    async def receive(self) -> Message:
        while True:
            if self.is_broken or self.wire.is_lost or self.is_done:
                return {"type": "http.disconnect"}
            if self._pieces is not None and (self._queued or self.content.is_complete):
                body, more = b"".join(self._pieces), not self.content.is_complete
                self._pieces, self._queued = [] if more else None, 0
                self.wire.resume_reading()
                return {"type": "http.request", "body": body, "more_body": more}
            if self._expects_continue and not self.has_begun:
                self._expects_continue = False
                self.wire.write(_CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    # The response.

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self._status:
                raise RuntimeError("The response was begun before.")
            self._status, self._headers = message["status"], list(message.get("headers", ()))
            return
        if message["type"] != "http.response.body" or not self._status or self.is_done:
            raise RuntimeError(f"{message['type']} is out of turn.")
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.wire.is_lost:
            self.is_done = not more
            return
        head = b"" if self.has_begun else self._begin(len(body), more)
        if self._is_bodiless:
            body = b""
        elif self._remaining is not None:
            self._remaining -= len(body)
            if self._remaining < 0 or (self._remaining and not more):
                raise RuntimeError("The body is not as long as its Content-Length.")
        elif self._chunks_response:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self.wire.write(head, body)
        self.is_done = not more
        if more:
            await self.wire.drain()

    def _begin(self, size: int, more: bool) -> bytes:
        """The head of the response. Decides what ends the body: a length, the last chunk, or the end of the connection."""
        has_content = self._status not in (204, 304)
        self._is_bodiless = not has_content or self.head.method == "HEAD"
        if self.is_broken or self.wire.is_stopping or (self._expects_continue and self.is_receiving):
            self.keeps_alive = False
        headers = self._headers
        length = None
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and value.lower() == b"close":
                self.keeps_alive = False
        if not has_content:
            headers = [field for field in headers if field[0] != b"content-length"]
        elif length is not None:
            self._remaining = length
        elif not more:
            self._remaining = size
            headers.append((b"content-length", b"%d" % size))
        elif self.head.version == "1.1":
            self._chunks_response = True
            headers.append((b"transfer-encoding", b"chunked"))
        else:
            self.keeps_alive = False
        if not self.keeps_alive and CLOSE not in headers:
            headers.append(CLOSE)
        head = write_head(self._status, headers)
        self.has_begun = True
        return head


def write_head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The head of a response. Raises ValueError for a field that would be more than one line."""
    lines = b"".join([b"%b: %b\r\n" % field for field in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("A header field of the response has more than one line.")
    return b"%b%b%b\r\n" % (_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, _date_line(), lines)


_date = (0, b"")


def _date_line() -> bytes:
    """The Date field, written once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"date: {formatdate(now, usegmt=True)}\r\n".encode())
    return _date[1]
