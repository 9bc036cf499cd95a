"""Request bodies: bounded in bytes, in values and in how many of them are in memory at once, and JSON that means one thing only."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.http import long_json
from api.http.body_memory import Budget
from api.http.problems import HttpProblem
from api.http.strict_json import MalformedJson, Value, decide, find_faults
from domain.support.slices import Steps, run_in_slices

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a batch."""
MAX_OTHER_BODY = 1024 * 1024
"""Bytes of any other body."""
MAX_VALUES = 1_000_000
"""Values in a body: objects, arrays, texts, numbers, true, false and null. An empty object or array counts twice."""
ONE_PIECE = 50_000
"""Values of a body that is read in one piece of work, if it has no more bytes than any other body may have."""
MAX_FILES = 64 * 1024 * 1024
DEADLINE = 60
"""Seconds for a body to arrive. The server closes slow headers itself, but not slow bodies."""
UNCOUNTED, ARRIVING = 2_000, 64 * 1024
"""Bytes of a body whose values are not counted and which takes no part of what may be in memory; and of one that takes none before it is there."""
IN_MEMORY = 2 * MAX_BODY
"""Bytes of all small bodies in memory, and of all large ones."""
CHARGED, BUILT = 16, 64
"""Bytes that a value counts for, if it is smaller: for the client's quota, as in a usual batch; and in memory, with what is said of a wrong one."""

Handler = Callable[[Request], Awaitable[Response]]


class Body(NamedTuple):
    """A body, and how many values it can have at most."""

    bytes: bytes
    values: int


class Budgets:
    """What bodies may take of the memory. Small ones do not wait for large ones, which take long to arrive and to be answered. A client has a
    quarter of the one and half of the other."""

    def __init__(self) -> None:
        self._small, self._large = Budget(IN_MEMORY, IN_MEMORY // 4), Budget(IN_MEMORY, IN_MEMORY // 2)

    def choose(self, size: int) -> Budget:
        return self._small if size <= MAX_OTHER_BODY else self._large


@dataclass
class Bodies:
    """The bodies of all requests that are being answered: as they arrive, and as they are worked on."""

    arriving: Budgets = field(default_factory=Budgets)
    worked_on: Budgets = field(default_factory=Budgets)


class FullCollections:
    """Puts off full garbage collections while large bodies are worked on. Each would hold the event loop for 100 ms to look at all the objects of
    a batch, none of which is garbage: they are freed when nobody refers to them any more. Young objects are collected as ever."""

    EVERY = 60
    """Seconds for which they are put off at most."""

    def __init__(self) -> None:
        self._bodies = 0
        self._usual = gc.get_threshold()
        self._last = time.monotonic()

    def put_off(self) -> None:
        self._bodies += 1
        if self._bodies == 1:
            self._usual, self._last = gc.get_threshold(), time.monotonic()
            gc.set_threshold(*self._usual[:2], 2**31 - 1)

    def resume(self) -> None:
        self._bodies -= 1
        if self._bodies == 0:
            gc.set_threshold(*self._usual)
        elif time.monotonic() - self._last > self.EVERY:
            self._last = time.monotonic()
            gc.collect()


_full_collections = FullCollections()


def release_body_after(handler: Handler) -> Handler:
    """The handler of requests that have a body: what is taken for it is given back when the request ends."""

    @wraps(handler)
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        finally:
            for give_back in request.scope.pop("taken", ()):
                give_back()

    return handle


def _release_later(request: Request, give_back: Callable[[], None]) -> None:
    request.scope.setdefault("taken", []).append(give_back)


async def _take(request: Request, budgets: Budgets, size: int, of: int | None = None) -> None:
    """Waits until so much of the memory is free, and takes it until the request ends; `of` is the size of the body of which it is a part."""
    budget = budgets.choose(of or size)
    bucket = request.scope.get("bucket")
    client = bucket.key if bucket else None
    taken = await budget.take(client, size)
    _release_later(request, lambda: budget.give_back(client, taken))


async def read_body(request: Request) -> bytes:
    """The body of a request whose media type says nothing; 413 where it is too large, without reading the rest, and 408 when it does not
    arrive in time."""
    return (await _read(request, MAX_OTHER_BODY)).bytes


async def _read(request: Request, most: int) -> Body:
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdigit() else None
    if size is not None and size > most:
        raise too_large(most)
    bodies: Bodies = request.app.state.bodies
    chunks: list[bytes] = []
    counter: ValueCount | None = None
    read, taken = 0, ARRIVING
    try:
        async with asyncio.timeout(DEADLINE):
            async for chunk in request.stream():
                read += len(chunk)
                if read > most:
                    raise too_large(most)
                if read <= UNCOUNTED:
                    chunks.append(chunk)
                    continue
                while read > taken:  # a size that nobody declares is taken as it grows
                    more = size or taken
                    await _take(request, bodies.arriving, more, taken + more)
                    taken += more
                counter = counter or ValueCount(chunks)
                counter.add(chunk)
                if counter.most > MAX_VALUES:
                    await run_in_slices(counter.leave_texts_out())
    except TimeoutError as problem:
        raise _too_slow() from problem
    except (ClientDisconnect, OSError, RuntimeError) as problem:  # the client hung up, or its chunks are no chunks
        raise HttpProblem(
            400, "body-cut-short", "The request cannot be read", "The body ended before it was whole.", {"Connection": "close"}
        ) from problem
    finally:
        if bucket := request.scope.get("bucket"):
            bucket.weigh(max(read, min(counter.most, MAX_VALUES) * CHARGED) if counter else read)
    if counter is None:
        return Body(b"".join(chunks), read)
    if counter.is_over:
        raise _too_many_values()
    await _take(request, bodies.worked_on, max(read, counter.most * BUILT))
    return Body(b"".join(counter.chunks), counter.most)


def _structural(part: bytes) -> int:
    """The commas and opening brackets: with one more, there are no more values than these."""
    return len(part) - len(part.translate(None, b",[{"))


class ValueCount:
    """Counts the values of a body while it arrives, without building one: `most` is what they can be at most. Commas in texts are counted with
    them until that is too many, and the texts are left out then. Of a body with too many values nothing is kept, but it is read to its end,
    since a client that is sending does not see an answer."""

    WINDOW = 64 * 1024

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks
        self.most = 1 + sum(map(_structural, chunks))
        self._counted = 0
        self._values = 1
        self._in_text = False
        self._escape = b""

    @property
    def is_over(self) -> bool:
        return self._values > MAX_VALUES

    def add(self, chunk: bytes) -> None:
        """Keeps and counts what has arrived."""
        if not self.is_over:
            self.chunks.append(chunk)
            self.most += _structural(chunk)

    def leave_texts_out(self) -> Steps[None]:
        """Counts exactly what has arrived."""
        for uncounted in self.chunks[self._counted :]:
            for start in range(0, len(uncounted), self.WINDOW):
                yield
                self._count(uncounted[start : start + self.WINDOW])
        self._counted = len(self.chunks)
        self.most = self._values
        if self.is_over:
            self.chunks.clear()

    def _count(self, part: bytes) -> None:
        part = self._escape + part
        self._escape = b"\\" if (len(part) - len(part.rstrip(b"\\"))) % 2 else b""
        part = part.removesuffix(self._escape).replace(rb"\\", b"").replace(rb"\"", b"")
        texts = part.split(b'"')
        self._values += sum(map(_structural, texts[self._in_text :: 2]))
        self._in_text ^= len(texts) % 2 == 0


def _too_slow() -> HttpProblem:
    detail = f"A body arrives within {DEADLINE} seconds."
    return HttpProblem(408, "body-too-slow", "The body did not arrive in time", detail, {"Connection": "close"})


def too_large(most: int) -> HttpProblem:
    subject, advice = ("A batch", " Send it in parts.") if most == MAX_BODY else ("A body that is no batch", "")
    detail = f"{subject} has at most {most // 1024**2} MiB.{advice}"
    return HttpProblem(413, "body-too-large", "The body is too large", detail, {"Connection": "close"})


def _too_many_values() -> HttpProblem:
    detail = f"A body has at most {MAX_VALUES:,} values (objects, arrays, texts, numbers, true, false and null). Send it in parts."
    return HttpProblem(413, "body-too-many-values", "The body has too many values", detail)


async def read_files(request: Request) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
    """The text fields and the files of multipart/form-data, at most 64 MiB: a register is larger than a batch."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "multipart/form-data":
        raise HttpProblem(
            415,
            "media-type",
            "The media type is not supported",
            "Send multipart/form-data.",
            {"Accept-Post": "multipart/form-data"},
        )
    declared = request.headers.get("content-length", "")
    if not declared.isdigit() or int(declared) > MAX_FILES:
        raise HttpProblem(
            413,
            "body-too-large",
            "The body is too large",
            "The files have at most 64 MiB, and a Content-Length says so.",
            {"Connection": "close"},
        )
    await _take(request, request.app.state.bodies.arriving, int(declared))
    fields: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    try:
        async with asyncio.timeout(DEADLINE), request.form(max_files=10, max_fields=10) as form:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    fields[name] = value
                else:
                    files.append((value.filename or name, await value.read()))
    except TimeoutError as problem:
        raise _too_slow() from problem
    except (HTTPException, ClientDisconnect, ValueError) as problem:
        raise HttpProblem(
            400, "form-malformed", "The request cannot be read", "The multipart body is not well formed."
        ) from problem
    return fields, files


async def read_json(
    request: Request,
    kinds: tuple[str, ...] = ("application/json",),
    most: int = MAX_OTHER_BODY,
    check: Callable[[Value], None] | None = None,
) -> tuple[object, bytes]:
    """The strict JSON of a body of one of these media types, and its bytes.

    A large body is read in pieces; `check` is shown what remains of it when its arrays are emptied, before they are read, and may raise.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in kinds:
        header, send = f"Accept-{request.method.title()}", f"Send {' or '.join(kinds)}."
        raise HttpProblem(415, "media-type", "The media type is not supported", send, {header: ", ".join(kinds)})
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpProblem(
            415,
            "content-encoding",
            "The content coding is not supported",
            "Send the body uncompressed.",
            {"Accept-Encoding": "identity"},
        )
    body, values = await _read(request, most)
    if len(body) <= MAX_OTHER_BODY and values <= ONE_PIECE:
        try:
            return decide(body), body
        except (ValueError, RecursionError):
            await asyncio.sleep(0)  # others go on: the search begins with as much work again
        raise MalformedJson(await run_in_slices(find_faults(body)))
    _full_collections.put_off()
    _release_later(request, _full_collections.resume)
    return await run_in_slices(long_json.parse_in_steps(body, check)), body
