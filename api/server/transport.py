"""The transport of a connection as uvicorn sees it."""

import asyncio
from collections.abc import Callable


class LingeringTransport(asyncio.Transport):
    """Leaves it to `linger` to end the connection. What arrived after its end would reset it before the client has read the response, so it is
    ended on this side alone at first (RFC 9112 section 9.6)."""

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
