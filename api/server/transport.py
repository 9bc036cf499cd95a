"""A transport that lets the client read the last response before the connection is closed (RFC 9112 section 9.6)."""

import asyncio
from collections.abc import Callable


class LingeringTransport(asyncio.Transport):
    """Calls `linger` in place of closing the connection. If it were closed at once, bytes that arrive later would reset
    it before the client has read the response."""

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], None]) -> None:
        self._transport, self._linger = transport, linger
        self._is_closing = False
        self.write = transport.write  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def is_closing(self) -> bool:
        return self._is_closing or self._transport.is_closing()

    def close(self) -> None:
        if not self.is_closing():
            self._is_closing = True
            self._linger()
