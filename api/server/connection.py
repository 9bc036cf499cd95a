"""One connection: requests in, one after another, and responses out."""

import asyncio
import secrets
import time
from math import inf
from typing import TYPE_CHECKING, cast

import structlog
from starlette.types import Scope

from api.problems import HttpProblem, as_domain_error
from api.server.exchange import CLOSE, Exchange, write_head
from api.server.head import Head, MalformedRequest, check_incomplete, read_head
from domain.engine.errors import DomainError

if TYPE_CHECKING:
    from api.server.connections import Connections

HEAD_SECONDS = 5.0
"""For a head to arrive: since the connection was opened, or since the first byte of a later request."""
IDLE_SECONDS = 75.0
"""Between two requests; a proxy reuses a connection for up to a minute."""
DISCARD_SECONDS = 5.0
"""For the rest of a body that nobody wants, or for the client to see that the connection is closed (RFC 9112 section 9.6)."""
STALL_SECONDS = 20.0
STALL_BYTES = 65_536
"""A client takes at least so many bytes of a response in so many seconds."""
MAX_WAITING = 65_536
"""Bytes of further requests that wait for the one before; no more is read before its end."""
MAX_DISCARDED = 262_144
"""Bytes of a body that nobody wants, beyond which the connection is closed instead."""
_JOINED = 16_384
"""Bytes below which a head and a body are copied into one."""

log = structlog.get_logger()


class Connection(asyncio.Protocol):
    """Reads heads and bodies within their time limits, and runs the application for one request at a time.

    `_exchange` is the present request, from its head to the last byte of its body and of its response; `_task` is the application that answers it.
    """

    __slots__ = (
        "_connections",
        "_drained",
        "_exchange",
        "_is_full",
        "_is_idle",
        "_is_lingering",
        "_is_paused",
        "_local",
        "_mark",
        "_peer",
        "_scanned",
        "_since",
        "_transport",
        "_unread",
        "deadline",
        "is_lost",
        "task",
        "unsent",
    )

    def __init__(self, connections: "Connections") -> None:
        self._connections = connections
        self._transport = cast(asyncio.Transport, None)
        self._exchange: Exchange | None = None
        self.task: asyncio.Task[None] | None = None
        self._unread = bytearray()
        self._scanned = 0
        self._is_full = self._is_idle = self._is_lingering = self._is_paused = self.is_lost = False
        self._drained: asyncio.Future[None] | None = None
        self._mark = self.unsent = 0
        self._since, self.deadline = 0.0, inf

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1, low=0)  # so that all that a client has not read is counted
        self._peer = (transport.get_extra_info("peername") or ("", 0))[:2]  # of one that is gone already there is none
        self._local = (transport.get_extra_info("sockname") or ("", 0))[:2]
        self._wait(HEAD_SECONDS)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        self._since = time.monotonic()
        exchange = self._exchange
        if exchange is not None and exchange.is_receiving:
            data = exchange.feed(data)
        if data:
            self._unread += data
        if exchange is None:
            self._begin()
        elif self.task is None:  # the response was sent before the body was whole
            self._finish(exchange)
        elif len(self._unread) > MAX_WAITING:
            self.pause_reading()

    def eof_received(self) -> bool:
        """The client sends nothing more; it may still read the response to what it has sent."""
        if self._exchange is not None and self.task is not None:
            self._exchange.cut()
            return True
        if self._is_full:
            self._close()
        return self._is_full

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost, self.deadline = True, inf
        self.resume_writing()
        if self._exchange is not None:
            self._exchange.wake()
        if self.task is None:
            self._connections.remove(self)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        """All that was written is sent."""
        self._is_full = False
        self._connections.unsent -= self.unsent
        self.unsent = 0
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self._is_lingering:
            self._wait(DISCARD_SECONDS)
        elif self.task is not None:
            self.deadline = inf
        elif self._exchange is None and not self.is_lost:
            self._go_on()

    # What an exchange calls.

    @property
    def is_stopping(self) -> bool:
        return self._connections.is_stopping

    def write(self, head: bytes, body: bytes = b"") -> None:
        if self.is_lost:
            return
        if len(body) < _JOINED:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        if self._is_full:
            self._wait(STALL_SECONDS)
            self._mark = self._transport.get_write_buffer_size()
            self.unsent += len(head) + len(body)
            self._connections.count_unsent(len(head) + len(body))

    async def drain(self) -> None:
        """Waits until the client has taken what was written."""
        while self._is_full and not self.is_lost:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def pause_reading(self) -> None:
        if not self._is_paused and not self.is_lost:
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self.is_lost:
            self._is_paused = False
            self._transport.resume_reading()

    # What all connections have in common.

    @property
    def waits_since(self) -> float | None:
        """Since when the server has waited for the client; None while it is the client that waits."""
        waits = self._is_full or self.task is None or self._exchange is None or self._exchange.waits_for_client
        return self._since if waits else None

    def expire(self, now: float) -> None:
        """Ends what has waited too long for the client."""
        if self._is_full:
            size = self._transport.get_write_buffer_size()
            if self._mark - size < STALL_BYTES:
                self.abort()
            else:
                self._mark, self.deadline = size, now + STALL_SECONDS
        elif self._unread and not self._is_lingering and self._exchange is None:
            self._refuse(_too_slow())
        else:
            self.abort()

    def stop(self) -> None:
        """Ends the connection, after the response if one is to come."""
        if self.task is None and not self._is_full and not self._is_lingering:
            self._transport.close()

    def abort(self) -> None:
        self.deadline = inf
        self._transport.abort()

    def _wait(self, seconds: float) -> None:
        self._since = time.monotonic()
        self.deadline = self._since + seconds

    # From one request to the next.

    def _begin(self) -> None:
        """Reads the next request, as far as it is there. An empty line before it is skipped (RFC 9112 section 2.2)."""
        unread = self._unread
        start = 2 if unread.startswith(b"\r\n") else 0
        end = unread.find(b"\r\n\r\n", max(start, self._scanned - 3))
        try:
            if end < 0:
                check_incomplete(unread[start:], max(self._scanned - start, 0))
                self._scanned = len(unread)
                if self._is_idle:
                    self._is_idle = False
                    self._wait(HEAD_SECONDS)
                self.resume_reading()
                return
            exchange = Exchange(self, read_head(bytes(unread[start : end + 2])))
            del unread[: end + 4]
            self._scanned, self._is_idle = 0, False
            if exchange.is_receiving:
                self.resume_reading()
                self._unread = bytearray(exchange.feed(bytes(unread)))
            if exchange.is_broken:
                raise MalformedRequest("The body is not well formed.")
        except MalformedRequest as malformed:
            self._refuse(malformed)
            return
        self._exchange, self.deadline = exchange, inf
        self.task = asyncio.get_running_loop().create_task(self._run(exchange))

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self._connections.application(self._scope(exchange.head), exchange.receive, exchange.send)
        except asyncio.CancelledError:
            pass  # the server ends, or time was up after the response had begun; the task ends here
        except Exception as error:
            if not self.is_lost:
                problem = as_domain_error(error)
                if not exchange.has_begun:
                    exchange.give_up()
                    self._answer(problem)
        finally:
            self.task = None
            self._finish(exchange)

    def _finish(self, exchange: Exchange) -> None:
        """The application is done. What is left of the request's body is read past, where it is short."""
        if self.is_lost:
            self._connections.remove(self)
        elif not exchange.is_done:
            self.abort()
        elif not exchange.keeps_alive or exchange.is_longer_than(MAX_DISCARDED):
            self._close()
        elif exchange.is_receiving:
            self.resume_reading()
            self._wait(DISCARD_SECONDS)
        else:
            self._exchange = None
            if not self._is_full:
                self._go_on()

    def _go_on(self) -> None:
        """The next request may have begun to arrive, even be there."""
        self._is_idle = True
        self._wait(IDLE_SECONDS)
        if self.is_stopping:
            self._transport.close()
        elif self._unread:
            self._begin()
        else:
            self.resume_reading()

    def _refuse(self, malformed: MalformedRequest) -> None:
        """Answers a request that does not reach the application, and ends the connection: nobody can say where the next request begins."""
        log.info("request", path="(malformed)", status=malformed.status)
        self._answer(HttpProblem(malformed.status, malformed.code, _TITLE, malformed.detail))

    def _answer(self, problem: DomainError) -> None:
        """Answers in place of the application, and ends the connection."""
        response = self._connections.respond(problem)
        headers = [*response.raw_headers, (b"x-request-id", secrets.token_hex(16).encode()), CLOSE]
        self.write(write_head(response.status_code, headers), bytes(response.body))
        self._close()

    def _close(self) -> None:
        """Ends the connection once the client has had time to read the response: what still arrives would reset it before (RFC 9112 section 9.6)."""
        if self._is_lingering:
            return
        self._is_lingering = True
        self._exchange = None
        self._unread.clear()
        self.resume_reading()
        if self.is_stopping:
            self._transport.close()
            return
        if not self._is_full:
            self._wait(DISCARD_SECONDS)
        self._transport.write_eof()

    def _scope(self, head: Head) -> Scope:
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": head.version,
            "server": self._local,
            "client": self._peer,
            "scheme": "http",
            "method": head.method,
            "root_path": "",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "headers": list(head.section.fields),
        }


_ASGI = {"version": "3.0", "spec_version": "2.3"}
_TITLE = "The request cannot be read"


def _too_slow() -> MalformedRequest:
    return MalformedRequest(f"A head arrives within {HEAD_SECONDS:g} seconds.", 408, "request-too-slow")
