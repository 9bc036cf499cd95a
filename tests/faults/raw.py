"""Bytes on a socket, as no client library sends them."""

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

PATIENCE = 60.0
"""Seconds for an answer; the machine may be busy."""


@dataclass(frozen=True)
class Reply:
    """What came back before the server closed the connection, or before it had been quiet for a while."""

    data: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        """Of each response, in order."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.data)]

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode("latin-1").lower()

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


def connect(base_url: str) -> socket.socket:
    place = urlsplit(base_url)
    return socket.create_connection((place.hostname, place.port), timeout=PATIENCE)


def request(line: str = "GET /health/live HTTP/1.1", *fields: str, body: bytes = b"", host: str | None = "x") -> bytes:
    """A request of these lines."""
    lines = [line, *([] if host is None else [f"Host: {host}"]), *fields]
    return "".join(f"{each}\r\n" for each in lines).encode("latin-1") + b"\r\n" + body


LAST = request("GET /health/live HTTP/1.1", "Connection: close")


def exchange(base_url: str, data: bytes) -> Reply:
    """Sends the data, and reads until the server closes the connection: what leaves it open is followed by a request that does not."""
    with connect(base_url) as sock:
        with suppress(OSError):  # the server had read enough
            sock.sendall(data)
        return read_to_end(sock)


def read_to_end(sock: socket.socket) -> Reply:
    received = bytearray()
    try:
        while piece := sock.recv(65_536):
            received += piece
    except ConnectionError:
        pass
    except TimeoutError:
        return Reply(bytes(received), is_closed=False)
    return Reply(bytes(received), is_closed=True)
