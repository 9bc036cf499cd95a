"""Decodes the content coding of request bodies: gzip (RFC 9110, section 8.4.1.3; RFC 1952), piece by piece, so that no body needs more memory than its
pieces."""

import zlib
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

from starlette.requests import Request

from api.http.field_values import join_lines, split_elements
from api.http.problems import HttpProblem
from domain.declare.errors import BadRequest, Issue

CODINGS = ("gzip", "identity")
"""The content codings of bodies."""
MAX_INFLATION = 50
"""How many times larger a body may be than its compressed form."""
ALLOWANCE = 64 * 1024
"""Bytes by which the beginning of a body may exceed MAX_INFLATION, until more has arrived."""
PIECE = 64 * 1024
"""Bytes of a piece of a body."""
_NAMES = {"gzip": "gzip", "x-gzip": "gzip", "identity": "identity"}
_WITH_HEADER = 16 + zlib.MAX_WBITS
"""Says zlib that its input has the header and the trailer of gzip."""


def read_coding(request: Request, codings: tuple[str, ...] = CODINGS) -> str:
    """The content coding of a body: gzip or identity. Raises HttpProblem 415 for one that is not among `codings`, and for several at once."""
    names = [name.lower() for name in split_elements(join_lines(request.scope, b"content-encoding") or "")]
    applied = [name for name in names if name != "identity"] or ["identity"]
    coding = _NAMES.get(applied[0]) if len(applied) == 1 else None
    if coding in codings:
        return coding
    send = "Send the body uncompressed or with gzip." if "gzip" in codings else "Send this body uncompressed."
    raise HttpProblem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-encoding", send, {"Accept-Encoding": ", ".join(codings)})


async def stream_decoded(request: Request, coding: str) -> AsyncIterator[bytes]:
    """The body without its content coding, in pieces. Raises BadRequest where it is not well formed, HttpProblem 413 where it inflates too much, and what
    `request.stream` raises."""
    if coding == "identity":
        async for chunk in request.stream():
            yield chunk
        return
    inflater = Inflater()
    async for chunk in request.stream():
        for start in range(0, len(chunk), PIECE):
            for piece in inflater.inflate(chunk[start : start + PIECE]):
                yield piece
    inflater.finish()


class Inflater:
    """Inflates gzip: one member, or several in a row (RFC 1952, section 2.2). It holds one piece at a time."""

    def __init__(self) -> None:
        self.read, self.written = 0, 0
        self._member = zlib.decompressobj(_WITH_HEADER)

    def inflate(self, part: bytes) -> Iterator[bytes]:
        """The pieces that a part of the compressed body holds. Raises BadRequest and HttpProblem 413."""
        begun, before = self.read, self._member.copy()
        self.read += len(part)
        rest = part
        while rest:
            if self._member.eof:
                self._member, before = zlib.decompressobj(_WITH_HEADER), zlib.decompressobj(_WITH_HEADER)
                begun, part = self.read - len(rest), rest
            try:
                piece = self._member.decompress(rest, PIECE)
            except zlib.error:
                raise _make_malformed(begun + _find_fault(before, part), "the gzip data are broken here") from None
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            self.written += len(piece)
            if self.written > MAX_INFLATION * self.read + ALLOWANCE:
                raise _make_too_compressed()
            if piece:
                yield piece
            elif not self._member.eof and not self._member.unconsumed_tail:
                break

    def finish(self) -> None:
        """Raises BadRequest where the end of the body is missing, and HttpProblem 413 where it inflated too much."""
        if not self._member.eof:
            raise _make_malformed(self.read, "the gzip data end before they are whole")
        if self.written > MAX_INFLATION * self.read:
            raise _make_too_compressed()


def _find_fault(before: "zlib._Decompress", part: bytes) -> int:
    """How many bytes of a part are well formed. `before` is the state before it."""
    for at in range(len(part)):
        try:
            before.decompress(part[at : at + 1])
        except zlib.error:
            return at
    return len(part)


def _make_malformed(at: int, fault: str) -> BadRequest:
    message = f"Byte {at + 1:,} of the compressed body: {fault}."
    return BadRequest("The body is not well-formed gzip.", code="gzip-malformed", issues=(Issue("", "gzip-malformed", message),))


def _make_too_compressed() -> HttpProblem:
    detail = f"A compressed body inflates to at most {MAX_INFLATION} times its size. Send it uncompressed, or in parts."
    return HttpProblem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-inflates", detail, {"Connection": "close"})
