"""Where a body in chunks ends (RFC 9112 section 7.1), and what of its framing is refused besides what its parser, llhttp, refuses."""

import re

from api.server.head import MalformedRequest

MAX_LINE = 1_024
"""Bytes of a chunk's size with its extensions."""
MAX_TRAILERS = 8_192
MAX_OVERHEAD = 16_384
"""Bytes that are not content, beyond half of those that are: tiny chunks cost much more to read than they bring."""

_EXTENSION = rb"""[ \t]*;[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?"""
_FIRST = re.compile(rb"([0-9A-Fa-f]{1,12})(?:" + _EXTENSION + rb")*\r\n")
_NEXT = re.compile(rb"\r\n" + _FIRST.pattern)
_UNFINISHED = re.compile(rb"(?:\r\n)?[0-9A-Fa-f]{0,12}(?:[ \t]*(?:;[\t -~\x80-\xff]*)?)?\r?")


class Chunks:
    """Follows the chunks of one body, so that not a byte of the next request is parsed with it. llhttp has no limits, and takes any extension."""

    def __init__(self) -> None:
        self._line = _FIRST
        self._of_chunk = 0
        self._in_trailers = False
        self._unread = b""
        self._content = self._overhead = 0

    def measure(self, data: bytes) -> int:
        """How many of the bytes belong to the body. Raises MalformedRequest."""
        before = len(self._unread)
        data, self._unread = self._unread + data, b""
        at = 0
        while not self._in_trailers:
            size = min(self._of_chunk, len(data) - at)
            at += size
            self._of_chunk -= size
            self._content += size
            if self._of_chunk:
                return at - before
            line = self._line.match(data, at, at + MAX_LINE)
            if line is None:
                self._unread = data[at:]
                if len(self._unread) >= MAX_LINE or _UNFINISHED.fullmatch(self._unread) is None:
                    raise MalformedRequest("A chunk is its size in hexadecimal digits, CRLF, so many bytes and CRLF.")
                return len(data) - before
            self._line, self._of_chunk = _NEXT, int(line[1], 16)
            self._overhead += line.end() - at
            if self._overhead > MAX_OVERHEAD + self._content // 2:
                raise MalformedRequest("The chunks are too small.")
            at = line.end()
            self._in_trailers = self._of_chunk == 0
        if data.startswith(b"\r\n", at):
            return at + 2 - before
        end = data.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
        if end < 0:
            self._unread = data[at:]
            if len(self._unread) >= MAX_TRAILERS:
                raise MalformedRequest("The trailer section is too long.")
            return len(data) - before
        return end + 4 - before
