"""Time limits of one connection, which uvicorn leaves to a proxy."""

import asyncio
import time
from abc import abstractmethod
from math import inf
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.server.head import MalformedRequest
from api.server.transport import LingeringTransport

if TYPE_CHECKING:
    from api.server.serving import Server

HEAD_SECONDS = 5.0
"""Time for a head to arrive, from the start of the connection or from the first byte of a later request."""
DISCARD_SECONDS = 5.0
"""Time to discard the rest of a body, or for the client to see that the connection is closed (RFC 9112 section 9.6)."""
STALL_SECONDS = 20.0
STALL_BYTES = 65_536
"""A client must read at least STALL_BYTES of a response in STALL_SECONDS."""
MAX_BUFFERED = 16_384
"""Bytes of a response that are buffered for the client before the application has to wait."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline, which the server checks twice a second. A timer for each request would cost
    more."""

    def __init__(self, owner: "Server", config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self._owner = owner
        self._unread = b""
        self._in_body = self._is_idle = self._is_lingering = self._has_ended = False
        self._mark = self.unsent = 0
        self._since, self.deadline = 0.0, inf

    @abstractmethod
    def _refuse(self, malformed: MalformedRequest) -> None: ...

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._wire = transport
        transport.set_write_buffer_limits(MAX_BUFFERED)
        super().connection_made(LingeringTransport(transport, self._linger))
        self._wait_for_head()
        self._owner.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline, self._is_lingering = inf, True
        self._clear_unsent()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait(STALL_SECONDS)
        self._mark = self.unsent = self._wire.get_write_buffer_size()
        self._owner.count_unsent(self.unsent)

    def shutdown(self) -> None:
        if self._is_lingering:
            self._wire.close()
        else:
            super().shutdown()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def waits_since(self) -> float | None:
        """The time since which the server waits for the client, or None while the client waits for the server."""
        waits = self.flow.write_paused or not self._is_answering or (self._in_body and not self.flow.read_paused)
        return self._since if waits else None

    def expire(self, now: float) -> None:
        """Refuses or aborts the connection whose deadline has passed."""
        if self.flow.write_paused:
            size = self._wire.get_write_buffer_size()
            if self._mark - size < STALL_BYTES:
                self.abort()
            else:
                self._mark, self.deadline = size, now + STALL_SECONDS
        elif self._unread and not self._is_lingering:
            self._refuse(MalformedRequest(f"A head arrives within {HEAD_SECONDS:g} seconds.", 408, "request-too-slow"))
        else:
            self.abort()

    def _linger(self) -> None:
        """Ends the sending side, and reads on until the client has read the response (RFC 9112 section 9.6)."""
        self._is_lingering = True
        self._unread = b""
        if self._owner.should_exit or self._has_ended:
            self._wire.close()
            return
        self.flow.resume_reading()
        if not self.flow.write_paused:
            self._wait_for_rest()
        self._wire.write_eof()

    def abort(self) -> None:
        self.deadline = inf
        self._wire.abort()

    def _wait(self, seconds: float) -> None:
        self._since = time.monotonic()
        self.deadline = self._since + seconds

    def _clear_unsent(self) -> None:
        self._owner.unsent -= self.unsent
        self.unsent = 0

    def _wait_for_head(self) -> None:
        self._wait(HEAD_SECONDS)

    def _wait_for_rest(self) -> None:
        self._wait(DISCARD_SECONDS)

    def _become_idle(self) -> None:
        self._is_idle = True
        self._wait(self.timeout_keep_alive)
