"""One connection: each request is checked, then parsed by llhttp, then answered, before the next one is looked at."""

import time
from math import inf
from typing import TYPE_CHECKING, Any

import httptools
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from api.server.chunks import Chunks
from api.server.head import (
    NO_SUCH_METHOD,
    MalformedRequest,
    RequestLine,
    UpgradeOffered,
    check_fields,
    check_incomplete,
    check_lines,
    check_trailer,
    drop_upgrade,
)
from api.server.limits import LimitedProtocol

if TYPE_CHECKING:
    from api.server.serving import Server

MAX_WAITING = 65_536
"""Bytes of further requests that wait for the one before; no more is read before its end."""
MAX_DISCARDED = 262_144
"""Bytes of a body that nobody wants, beyond which the connection is closed instead."""


class StrictProtocol(LimitedProtocol):
    """Hands llhttp one request at a time, each after its head was checked, and the next one when the response to it has been sent."""

    def __init__(self, owner: "Server", config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(owner, config, server_state, app_state)
        self._application, self.app = self.app, self._run
        self._scanned = 0
        self._has_begun = self._is_broken = False
        self._line: RequestLine | None = None
        self._chunks: Chunks | None = None
        self._remaining = 0

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        if not self._is_lingering and not self._is_broken:
            self._since = time.monotonic()
            self._read(self._unread + data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more and may still read: what it has sent whole is answered (RFC 9112 section 9.6)."""
        self._has_ended = True
        return self._is_answering and not self._in_body and not self._is_lingering

    def resume_writing(self) -> None:
        super().resume_writing()
        self._settle()
        self.deadline = inf
        if self._is_lingering:
            self._wait_for_rest()
        elif not self._is_answering:
            self._go_on()

    # From one request to the next.

    def _read(self, data: bytes) -> None:
        """Reads what may be read now of the present request and of those after it."""
        try:
            while data and not self._is_lingering:
                if self._in_body:
                    size = self._read_body(data)
                    if not (self._in_body or self._is_answering):
                        self._rest()
                elif self._is_answering or self.flow.write_paused:
                    break
                else:
                    size = self._read_head(data)
                    if not size:
                        break
                data = data[size:]
        except MalformedRequest as malformed:
            self._refuse(malformed)
            return
        self._unread = data
        if len(data) > MAX_WAITING and (self._is_answering or self.flow.write_paused):
            self.flow.pause_reading()

    def _read_head(self, data: bytes) -> int:
        """Hands the parser a head that is whole, and returns its size. An empty line before it is skipped (RFC 9112 section 2.2)."""
        start = 2 if data.startswith(b"\r\n") else 0
        end = data.find(b"\r\n\r\n", max(start, self._scanned - 3)) + 4
        if end < 4:
            check_incomplete(data, self._scanned)
            self._scanned = len(data)
            if self._is_idle:
                self._is_idle = False
                self._wait_for_head()
            return 0
        head = data[start:end]
        self._scanned, self._is_idle, self.deadline = 0, False, inf
        line = self._line = check_lines(head)
        try:
            self._feed(head)
        except UpgradeOffered:  # httptools would not read the body after it
            self._line, self.parser = line, httptools.HttpRequestParser(self)
            self._feed(drop_upgrade(head))
        return end

    def _read_body(self, data: bytes) -> int:
        if self._chunks is not None:
            size = self._chunks.measure(data)
        else:
            size = min(self._remaining, len(data))
            self._remaining -= size
        if not size:
            raise MalformedRequest(_ILL_FORMED_BODY)
        self._feed(data[:size])
        return size

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserInvalidMethodError as problem:
            raise MalformedRequest(*NO_SUCH_METHOD) from problem
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            if isinstance(problem.__context__, MalformedRequest):
                raise problem.__context__ from None
            raise MalformedRequest(_ILL_FORMED_BODY if self._in_body else _ILL_FORMED_HEAD) from problem

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            check_trailer(name)
        else:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        line, self._line = self._line, None
        if line is None:  # of a request that begins in the body of another
            raise MalformedRequest(_ILL_FORMED_BODY)
        if self.parser.should_upgrade():
            raise UpgradeOffered(_ILL_FORMED_HEAD)
        length, self.url, self.expect_100_continue = check_fields(self.headers, line)
        self._chunks, self._remaining = (Chunks(), 0) if length is None else (None, length)
        self._in_body, self._has_begun = True, False
        super().on_headers_complete()
        if self.expect_100_continue:
            self.cycle.keep_alive = False  # whether the body comes is the client's to decide, if the response comes first

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    # The application.

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.cycle.disconnected:
            self._has_begun = True
            await self._application(scope, self._break_off(receive) if self._in_body else receive, send)

    def _break_off(self, receive: Receive) -> Receive:
        async def receive_unless_broken() -> Message:
            message = await receive()
            return {"type": "http.disconnect"} if self._is_broken else message

        return receive_unless_broken

    def on_response_complete(self) -> None:
        if not self._is_lingering and not self.flow.write_paused:
            self._go_on()

    def _go_on(self) -> None:
        """The response is sent. What is left of the request's body is read past, where it is short; the next request may be there."""
        self.flow.resume_reading()
        if self._in_body and (self._chunks is not None or self._remaining > MAX_DISCARDED):
            self.transport.close()
        elif self._in_body:
            self._wait_for_rest()
        else:
            self._rest()
            if self._unread:
                self._read(self._unread)
            if self._has_ended and not self._is_answering:
                self.transport.close()

    def _refuse(self, malformed: MalformedRequest) -> None:
        """Answers a request that does not reach the application, and ends the connection: nobody can say where the next request begins.

        An application that has begun answers itself, with a body that breaks off here; nobody else knows what it has done.
        """
        self._unread = b""
        if self._is_answering and self._has_begun:
            self._is_broken, self.cycle.keep_alive = True, False
            self.cycle.message_event.set()
            return
        if self._is_answering:
            self.cycle.disconnected = True
        if not self._in_body or self._is_answering:
            self.transport.write(self._owner.refuse(malformed))
        self.transport.close()


_ILL_FORMED_HEAD = "A field is a name, a colon and a value on one line, without a space before the colon; lines end in CRLF."
_ILL_FORMED_BODY = "The body is not as long as it says, or its chunks are not well formed."
