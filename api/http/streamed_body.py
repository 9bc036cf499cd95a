"""Reads a body that may be larger than memory: whole where it is small, else piece by piece."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from api.http.body import CHARGED_PER_VALUE, MAX_BODY_VALUES, MEMORY_PER_VALUE, UNRESERVED, BodyMemory, count_structural, reserve
from api.http.content_coding import read_coding, stream_decoded
from api.http.context import get_context
from api.http.problems import HttpProblem

IDLE_SECONDS = 60
"""Seconds between two pieces of a stream."""


class StreamedBody:
    """The body of one request, without its content coding. It takes as long as it arrives: the time limit of the request begins anew with each piece."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pieces = stream_decoded(request, read_coding(request))
        self._read: list[bytes] = []

    async def read(self, most: int) -> bytes | None:
        """The body, if it has at most so many bytes and as many values as a batch; else None, and `iterate` goes on. Raises HttpProblem and BadRequest."""
        memory: BodyMemory = self._request.app.state.bodies
        size, values, reserved = 0, 1, UNRESERVED
        try:
            while (piece := await self._next()) is not None:
                self._read.append(piece)
                size += len(piece)
                values += count_structural(piece)
                if size > most or values > MAX_BODY_VALUES:
                    return None
                while size > reserved:
                    await reserve(self._request, memory.arriving, reserved, 2 * reserved)
                    reserved *= 2
        finally:
            charged = max(size, min(values, MAX_BODY_VALUES) * CHARGED_PER_VALUE)
            get_context(self._request.scope).charge(body=charged)
        if size > UNRESERVED:
            await reserve(self._request, memory.processed, max(size, values * MEMORY_PER_VALUE))
        return b"".join(self._read)

    async def iterate(self) -> AsyncIterator[bytes]:
        """The pieces of the body from its beginning on, each once. What `read` has read is dropped as it goes."""
        self._read.reverse()
        while self._read:
            yield self._read.pop()
        get_context(self._request.scope).release_body()
        while (piece := await self._next()) is not None:
            get_context(self._request.scope).charge(body=len(piece))
            yield piece

    async def _next(self) -> bytes | None:
        """The next piece, None at the end."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                piece = await anext(self._pieces, None)
        except TimeoutError as problem:
            detail = f"The pieces of a stream arrive within {IDLE_SECONDS} seconds of each other."
            raise HttpProblem(408, "body-too-slow", detail, {"Connection": "close"}) from problem
        except (ClientDisconnect, OSError, RuntimeError) as problem:
            raise HttpProblem(400, "body-cut-short", "The body ended before it was whole.", {"Connection": "close"}) from problem
        get_context(self._request.scope).extend()
        return piece
