"""The content of a request as it arrives: so many bytes, or chunks (RFC 9112 section 7.1)."""

import re

from api.server.head import MalformedRequest, check_line_ends, read_fields

MAX_LINE = 1_024
"""Bytes of a chunk's size with its extensions."""
MAX_TRAILERS = 8_192
MAX_OVERHEAD = 16_384
"""Bytes that are not content, beyond half of those that are: tiny chunks cost much more to read than they bring."""

_EXTENSION = rb"""[ \t]*;[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?"""
_FIRST = re.compile(rb"([0-9A-Fa-f]{1,12})(?:" + _EXTENSION + rb")*\r\n")
_NEXT = re.compile(rb"\r\n" + _FIRST.pattern)
_UNFINISHED = re.compile(rb"(?:\r\n)?[0-9A-Fa-f]{0,12}(?:[ \t]*(?:;[\t -~\x80-\xff]*)?)?\r?")
_FRAMING = {b"content-length", b"transfer-encoding", b"host", b"content-encoding", b"content-type", b"authorization"}
"""What a trailer may not say, since it is needed before the content (RFC 9110 section 6.5.1)."""


class Sized:
    """Content of a known length."""

    def __init__(self, length: int) -> None:
        self.remaining = length

    @property
    def is_complete(self) -> bool:
        return self.remaining == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What of the data is content, and what follows it."""
        piece = data[: self.remaining]
        self.remaining -= len(piece)
        return piece, data[len(piece) :]


class Chunked:
    """Content in chunks. Extensions and trailers are checked and dropped."""

    remaining = None

    def __init__(self) -> None:
        self.is_complete = False
        self._line = _FIRST
        self._of_chunk = 0
        self._in_trailers = False
        self._unread = b""
        self._content = self._overhead = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What of the data is content, and what follows it. Raises MalformedRequest."""
        data, self._unread = self._unread + data, b""
        pieces: list[bytes] = []
        at = 0
        while not self._in_trailers:
            piece = data[at : at + self._of_chunk]
            pieces.append(piece)
            at += len(piece)
            self._of_chunk -= len(piece)
            self._content += len(piece)
            if self._of_chunk:
                return b"".join(pieces), b""
            line = self._line.match(data, at, at + MAX_LINE)
            if line is None:
                self._unread = data[at:]
                if len(self._unread) >= MAX_LINE or _UNFINISHED.fullmatch(self._unread) is None:
                    raise MalformedRequest("A chunk is its size in hexadecimal digits, CRLF, so many bytes and CRLF.")
                return b"".join(pieces), b""
            self._line, self._of_chunk = _NEXT, int(line[1], 16)
            self._overhead += line.end() - at
            if self._overhead > MAX_OVERHEAD + self._content // 2:
                raise MalformedRequest("The chunks are too small.")
            at = line.end()
            self._in_trailers = self._of_chunk == 0
        return b"".join(pieces), self._end(data[at:])

    def _end(self, data: bytes) -> bytes:
        """Reads the trailer section and the empty line after it; what follows."""
        if data.startswith(b"\r\n"):
            self.is_complete = True
            return data[2:]
        end = data.find(b"\r\n\r\n", 0, MAX_TRAILERS)
        if end < 0:
            check_line_ends(data)
            if len(data) >= MAX_TRAILERS or (data[:1] not in (b"", b"\r") and not data[:1].isalnum()):
                raise MalformedRequest("The trailer section is not well formed, or too long.")
            self._unread = data
            return b""
        if not _FRAMING.isdisjoint(name for name, _ in read_fields(data[: end + 2])):
            raise MalformedRequest("A trailer field says what must be known before the content.")
        self.is_complete = True
        return data[end + 4 :]
