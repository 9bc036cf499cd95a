"""One connection: each request is checked, parsed by llhttp and answered before the next one is read."""

import time
from math import inf
from typing import TYPE_CHECKING, Any

import httptools
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from api.server.chunks import Chunks
from api.server.head import (
    UNKNOWN_METHOD,
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
"""Bytes of further requests that are buffered during a request. No more is read before its end."""
MAX_DISCARDED = 262_144
"""Bytes of an unread body that are discarded after the response. Where more remain, the connection is closed."""


class StrictProtocol(LimitedProtocol):
    """Passes one request at a time to llhttp, after checking its head, and the next one after the response is sent."""

    def __init__(self, owner: "Server", config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(owner, config, server_state, app_state)
        self._application, self.app = self.app, self._run
        self._scanned = 0
        self._has_begun = self._is_body_malformed = False
        self._line: RequestLine | None = None
        self._chunks: Chunks | None = None
        self._remaining = 0

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        if not self._is_lingering and not self._is_body_malformed:
            self._since = time.monotonic()
            self._read(self._unread + data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more but may still read, so complete requests are answered (RFC 9112 section 9.6)."""
        self._has_ended = True
        return self._is_answering and not self._in_body and not self._is_lingering

    def resume_writing(self) -> None:
        super().resume_writing()
        self._clear_unsent()
        self.deadline = inf
        if self._is_lingering:
            self._wait_for_rest()
        elif not self._is_answering:
            self._continue_reading()

    # Reading requests.

    def _read(self, data: bytes) -> None:
        """Reads the present request and those after it, as far as they may be read now."""
        try:
            while data and not self._is_lingering:
                if self._in_body:
                    size = self._read_body(data)
                    if not (self._in_body or self._is_answering):
                        self._become_idle()
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
        """Passes a complete head to the parser and returns its size, or 0 where it is incomplete. An empty line before
        it is skipped (RFC 9112 section 2.2)."""
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
            raise MalformedRequest(*UNKNOWN_METHOD) from problem
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            if isinstance(problem.__context__, MalformedRequest):
                raise problem.__context__ from None
            raise MalformedRequest(_ILL_FORMED_BODY if self._in_body else _ILL_FORMED_HEAD) from problem

    # Called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            check_trailer(name)
        else:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        line, self._line = self._line, None
        if line is None:  # of a request that begins within the body of another
            raise MalformedRequest(_ILL_FORMED_BODY)
        if self.parser.should_upgrade():
            raise UpgradeOffered(_ILL_FORMED_HEAD)
        length, self.url, self.expect_100_continue = check_fields(self.headers, line)
        self._chunks, self._remaining = (Chunks(), 0) if length is None else (None, length)
        self._in_body, self._has_begun = True, False
        super().on_headers_complete()
        if self.expect_100_continue:
            self.cycle.keep_alive = False  # if the response is sent first, the client may or may not send the body

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    # The application.

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.cycle.disconnected:
            self._has_begun = True
            if self._in_body:
                receive, send = self._wrap_receive(receive), self._wrap_send(send)
            await self._application(scope, receive, send)

    @property
    def _is_rest_too_long(self) -> bool:
        """Whether more of the body is missing than is worth reading, so that the connection ends with the response."""
        return self._in_body and (self._chunks is not None or self._remaining > MAX_DISCARDED)

    def _wrap_send(self, send: Send) -> Send:
        """Returns a send that announces the end of the connection (RFC 9112 section 9.6): a client that does not know
        of it sends its next request in vain."""

        async def send_and_announce(message: Message) -> None:
            if self._is_rest_too_long and message["type"] == "http.response.start":
                self.cycle.keep_alive = False
            await send(message)

        return send_and_announce

    def _wrap_receive(self, receive: Receive) -> Receive:
        """Returns a receive that reports a disconnection once the body is malformed."""

        async def receive_or_disconnect() -> Message:
            message = await receive()
            return {"type": "http.disconnect"} if self._is_body_malformed else message

        return receive_or_disconnect

    def on_response_complete(self) -> None:
        if not self._is_lingering and not self.flow.write_paused:
            self._continue_reading()

    def _continue_reading(self) -> None:
        """Continues after a response: discards the rest of the request's body where it is short, and reads the next
        request."""
        self.flow.resume_reading()
        if self._is_rest_too_long:
            self.transport.close()
        elif self._in_body:
            self._wait_for_rest()
        else:
            self._become_idle()
            if self._unread:
                self._read(self._unread)
            if self._has_ended and not self._is_answering:
                self.transport.close()

    def _refuse(self, malformed: MalformedRequest) -> None:
        """Answers a malformed request and closes the connection, since it is unknown where the next request begins.

        Where the application has begun, it answers itself and sees a disconnection in the body.
        """
        self._unread = b""
        if self._is_answering and self._has_begun:
            self._is_body_malformed, self.cycle.keep_alive = True, False
            self.cycle.message_event.set()
            return
        if self._is_answering:
            self.cycle.disconnected = True
        if not self._in_body or self._is_answering:
            self.transport.write(self._owner.refuse(malformed))
        self.transport.close()


_ILL_FORMED_HEAD = "A field is a name, a colon and a value on one line, without a space before the colon; lines end in CRLF."
_ILL_FORMED_BODY = "The body is not as long as it says, or its chunks are not well formed."
