"""Finds the end of a chunked body (RFC 9112 section 7.1), and refuses framing that its parser, llhttp, accepts."""

import re

from api.server.head import MalformedRequest

MAX_LINE = 1_024
"""Bytes of a chunk's size line with its extensions."""
MAX_TRAILERS = 8_192
MAX_OVERHEAD = 16_384
"""Bytes of framing that are allowed in addition to half the bytes of content. Tiny chunks take much time to read."""

_EXTENSION = rb"""[ \t]*;[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?"""
_FIRST = re.compile(rb"([0-9A-Fa-f]{1,12})(?:" + _EXTENSION + rb")*\r\n")
_NEXT = re.compile(rb"\r\n" + _FIRST.pattern)
_UNFINISHED = re.compile(rb"(?:\r\n)?[0-9A-Fa-f]{0,12}(?:[ \t]*(?:;[\t -~\x80-\xff]*)?)?\r?")


class Chunks:
    """The chunks of one body. They are measured so that no byte of the next request is parsed with it. llhttp has no
    limits and accepts any extension."""

    def __init__(self) -> None:
        self._line = _FIRST
        self._left_of_chunk = 0
        self._in_trailers = False
        self._unread = b""
        self._content = self._overhead = 0

    def measure(self, data: bytes) -> int:
        """Returns how many of the bytes belong to the body. Raises MalformedRequest."""
        unread_before = len(self._unread)
        data, self._unread = self._unread + data, b""
        offset = 0
        while not self._in_trailers:
            size = min(self._left_of_chunk, len(data) - offset)
            offset += size
            self._left_of_chunk -= size
            self._content += size
            if self._left_of_chunk:
                return offset - unread_before
            line = self._line.match(data, offset, offset + MAX_LINE)
            if line is None:
                self._unread = data[offset:]
                if len(self._unread) >= MAX_LINE or _UNFINISHED.fullmatch(self._unread) is None:
                    raise MalformedRequest("A chunk is its size in hexadecimal digits, CRLF, so many bytes and CRLF.")
                return len(data) - unread_before
            self._line, self._left_of_chunk = _NEXT, int(line[1], 16)
            self._overhead += line.end() - offset
            if self._overhead > MAX_OVERHEAD + self._content // 2:
                raise MalformedRequest("The chunks are too small.")
            offset = line.end()
            self._in_trailers = self._left_of_chunk == 0
        if data.startswith(b"\r\n", offset):
            return offset + 2 - unread_before
        end = data.find(b"\r\n\r\n", offset, offset + MAX_TRAILERS)
        if end < 0:
            self._unread = data[offset:]
            if len(self._unread) >= MAX_TRAILERS:
                raise MalformedRequest("The trailer section is too long.")
            return len(data) - unread_before
        return end + 4 - unread_before
