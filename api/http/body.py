"""Reads request bodies, with limits on their bytes, their values, the time they take to arrive and the memory that all of them use."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.http import long_json
from api.http.body_memory import Budget
from api.http.content_coding import read_coding, stream_decoded
from api.http.context import get_context
from api.http.field_values import split_parameters
from api.http.problems import HttpProblem
from api.http.strict_json import MalformedJson, Value, find_faults, parse_valid
from domain.support.slices import Steps, run_in_slices

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a batch."""
MAX_OTHER_BODY = 1024 * 1024
"""Bytes of any other body."""
MAX_BODY_VALUES = 1_000_000
"""Values in a body: objects, arrays, texts, numbers, true, false and null. An empty object or array counts twice."""
MAX_VALUES_AT_ONCE = 50_000
"""Values of a body that is parsed in one step, if it also has at most MAX_OTHER_BODY bytes."""
MAX_FILES = 64 * 1024 * 1024
"""Bytes of a multipart body."""
MAX_BODY_SECONDS = 60
"""Seconds for a body to arrive. The server closes slow headers itself, but not slow bodies."""
SMALL_BODY, UNRESERVED = 2_000, 64 * 1024
"""Bytes of a body that needs no limits of values and memory, and of one for which no memory is reserved while it arrives."""
MAX_IN_MEMORY = 2 * MAX_BODY
"""Bytes of all small bodies in memory, and of all large ones."""
CHARGED_PER_VALUE, MEMORY_PER_VALUE = 16, 64
"""The least bytes that a value counts for: in the rate limit, as in an average batch; and in memory, with its issues."""

UTF_8 = frozenset(("utf-8", "utf8", "us-ascii"))
"""Names of the one character set of bodies, and of its beginning."""

Handler = Callable[[Request], Awaitable[Response]]


class Body(NamedTuple):
    """A body, and an upper bound of the number of its values."""

    bytes: bytes
    values: int


class Budgets:
    """The memory of bodies. Small ones have a budget of their own, so that they do not wait for large ones. A client may use a quarter of that
    of small bodies and half of that of large ones."""

    def __init__(self) -> None:
        self._small, self._large = Budget(MAX_IN_MEMORY, MAX_IN_MEMORY // 4), Budget(MAX_IN_MEMORY, MAX_IN_MEMORY // 2)

    @property
    def by_size(self) -> dict[str, Budget]:
        """The budgets of small and of large bodies."""
        return {"small": self._small, "large": self._large}

    def choose(self, size: int) -> Budget:
        """The budget of a body of this size."""
        return self._small if size <= MAX_OTHER_BODY else self._large


@dataclass
class BodyMemory:
    """The memory of the bodies of all requests in progress: while they arrive, and while they are processed."""

    arriving: Budgets = field(default_factory=Budgets)
    processed: Budgets = field(default_factory=Budgets)


class FullCollections:
    """Postpones full garbage collections while large bodies are processed. Each would block the event loop for 100 ms to visit all the objects of a
    batch, none of which is garbage. Younger generations are collected as usual."""

    MAX_SECONDS = 60
    """Seconds for which they are postponed at most."""

    def __init__(self) -> None:
        self._count = 0
        self._thresholds = gc.get_threshold()
        self._last = time.monotonic()

    def postpone(self) -> None:
        """Postpones full collections until as many calls of `resume`."""
        self._count += 1
        if self._count == 1:
            self._thresholds, self._last = gc.get_threshold(), time.monotonic()
            gc.set_threshold(*self._thresholds[:2], 2**31 - 1)

    def resume(self) -> None:
        """Ends one postponement. Collects where the last full collection was more than MAX_SECONDS ago."""
        self._count -= 1
        if self._count == 0:
            gc.set_threshold(*self._thresholds)
        elif time.monotonic() - self._last > self.MAX_SECONDS:
            self._last = time.monotonic()
            gc.collect()


_full_collections = FullCollections()


async def reserve(request: Request, budgets: Budgets, size: int, body_size: int | None = None) -> None:
    """Waits until so many bytes of memory are free, and reserves them until the response begins. They may be a part of a body of `body_size`."""
    budget = budgets.choose(body_size or size)
    context = get_context(request.scope)
    client = context.quota.key if context.quota else None
    reserved = await budget.acquire(client, size)
    context.releases.append(lambda: budget.release(client, reserved))


async def read_body(request: Request) -> bytes:
    """The body of a request of any media type. Raises HttpProblem 413 where it is too large, without reading the rest, and 408 where it does not arrive
    in time, and 415 for another coding than gzip."""
    return (await read_limited(request, MAX_OTHER_BODY)).bytes


async def read_limited(request: Request, most: int) -> Body:
    """The body without its content coding, at most `most` bytes. Raises HttpProblem 413 where it is too large, without reading the rest, 408 where it
    does not arrive in time and 415 for another coding than gzip; BadRequest where its gzip is not well formed."""
    coding, declared = read_coding(request), request.headers.get("content-length", "")
    size = int(declared) if declared.isdigit() else None
    if size is not None and size > most:
        raise make_too_large(most)
    if coding != "identity":
        size = None  # how large it is decoded, nobody knows
    bodies: BodyMemory = request.app.state.bodies
    chunks: list[bytes] = []
    counter: ValueCount | None = None
    read, reserved = 0, UNRESERVED
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            async for chunk in stream_decoded(request, coding):
                read += len(chunk)
                if read > most:
                    raise make_too_large(most)
                if read <= SMALL_BODY:
                    chunks.append(chunk)
                    continue
                while read > reserved:  # where its size is not known, memory is reserved as the body grows
                    missing = size or reserved
                    await reserve(request, bodies.arriving, missing, reserved + missing)
                    reserved += missing
                counter = counter or ValueCount(chunks)
                counter.add(chunk)
                if counter.most > MAX_BODY_VALUES:
                    await run_in_slices(counter.recount())
    except TimeoutError as problem:
        raise _make_too_slow() from problem
    except (ClientDisconnect, OSError, RuntimeError) as problem:  # the client disconnected, or its chunked coding is malformed
        raise HttpProblem(400, "body-cut-short", "The body ended before it was whole.", {"Connection": "close"}) from problem
    finally:
        charged = max(read, min(counter.most, MAX_BODY_VALUES) * CHARGED_PER_VALUE) if counter else read
        get_context(request.scope).charge(body=charged)
    if counter is None:
        return Body(b"".join(chunks), read)
    if counter.is_over:
        raise _make_too_many_values()
    await reserve(request, bodies.processed, max(read, counter.most * MEMORY_PER_VALUE))
    return Body(b"".join(counter.chunks), counter.most)


def count_structural(part: bytes) -> int:
    """The number of commas and opening brackets. A JSON text has at most one value more."""
    return len(part) - len(part.translate(None, b",[{"))


class ValueCount:
    """Counts the values of a body while it arrives, without parsing it. `most` is an upper bound.

    Commas in strings are counted too, until the bound is too high; then `recount` leaves strings out. The chunks of a body with too many values are
    dropped, but it is read to its end, since a client that is sending does not read a response.
    """

    WINDOW = 64 * 1024

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks
        self.most = 1 + sum(map(count_structural, chunks))
        self._counted = 0
        self._values = 1
        self._in_string = False
        self._escape = b""

    @property
    def is_over(self) -> bool:
        return self._values > MAX_BODY_VALUES

    def add(self, chunk: bytes) -> None:
        """Stores and counts a chunk."""
        if not self.is_over:
            self.chunks.append(chunk)
            self.most += count_structural(chunk)

    def recount(self) -> Steps[None]:
        """Counts the values exactly, in steps, without the commas in strings."""
        for chunk in self.chunks[self._counted :]:
            for start in range(0, len(chunk), self.WINDOW):
                yield
                self._count_window(chunk[start : start + self.WINDOW])
        self._counted = len(self.chunks)
        self.most = self._values
        if self.is_over:
            self.chunks.clear()

    def _count_window(self, part: bytes) -> None:
        part = self._escape + part
        self._escape = b"\\" if (len(part) - len(part.rstrip(b"\\"))) % 2 else b""
        part = part.removesuffix(self._escape).replace(rb"\\", b"").replace(rb"\"", b"")
        texts = part.split(b'"')
        self._values += sum(map(count_structural, texts[self._in_string :: 2]))
        self._in_string ^= len(texts) % 2 == 0


def _make_too_slow() -> HttpProblem:
    detail = f"A body arrives within {MAX_BODY_SECONDS} seconds."
    return HttpProblem(408, "body-too-slow", detail, {"Connection": "close"})


def make_too_large(most: int) -> HttpProblem:
    """The problem of a body with more than `most` bytes."""
    subject, advice = ("A batch", " Send it in parts.") if most == MAX_BODY else ("A body that is no batch", "")
    detail = f"{subject} has at most {most // 1024**2} MiB.{advice}"
    return HttpProblem(413, "body-too-large", detail, {"Connection": "close"})


def _make_too_many_values() -> HttpProblem:
    detail = (
        f"A body has at most {MAX_BODY_VALUES:,} values (objects, arrays, texts, numbers, true, false and null). Send it in parts."
    )
    return HttpProblem(413, "body-too-many-values", detail)


async def read_files(request: Request) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
    """The text fields and the files of multipart/form-data, at most MAX_FILES bytes: the register is larger than a batch.

    Raises HttpProblem.
    """
    if read_media_type(request)[0] != "multipart/form-data":
        raise HttpProblem(
            415,
            "media-type",
            "Send multipart/form-data.",
            {"Accept-Post": "multipart/form-data"},
        )
    read_coding(request, ("identity",))
    declared = request.headers.get("content-length", "")
    if not declared.isdigit() or int(declared) > MAX_FILES:
        raise HttpProblem(
            413,
            "body-too-large",
            "The files have at most 64 MiB, and Content-Length is required.",
            {"Connection": "close"},
        )
    get_context(request.scope).charge(body=int(declared))
    await reserve(request, request.app.state.bodies.arriving, int(declared))
    fields: dict[str, str] = {}
    files: list[tuple[str, bytes]] = []
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS), request.form(max_files=10, max_fields=10) as form:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    fields[name] = value
                else:
                    files.append((value.filename or name, await value.read()))
    except TimeoutError as problem:
        raise _make_too_slow() from problem
    except (HTTPException, ClientDisconnect, ValueError) as problem:
        raise HttpProblem(400, "form-malformed", "The multipart body is not well formed.") from problem
    return fields, files


def split_media_type(request: Request) -> tuple[str, list[tuple[str, str]]]:
    """The media type of a body, in lower case, and its parameters."""
    kind, parameters = split_parameters(request.headers.get("content-type", ""))
    return kind.strip().lower(), parameters


def read_media_type(request: Request) -> tuple[str, set[str]]:
    """The media type of a body, in lower case, and the character sets that its parameters name."""
    kind, parameters = split_media_type(request)
    return kind, {value.lower() for name, value in parameters if name == "charset"}


def postpone_collections(request: Request) -> None:
    """Postpones full garbage collections until the response to a large body begins."""
    _full_collections.postpone()
    get_context(request.scope).releases.append(_full_collections.resume)


async def read_json(
    request: Request,
    kinds: tuple[str, ...] = ("application/json",),
    most: int = MAX_OTHER_BODY,
    check: Callable[[Value], None] | None = None,
    also: tuple[str, ...] = (),
) -> tuple[object, bytes]:
    """The JSON value of a body of one of these media types (strict_json), and its bytes. Raises HttpProblem and MalformedJson.

    A large body is parsed in pieces. `check` is called with the value without the elements of its arrays, before these are parsed, and may raise.
    `also` are media types that the operation takes beside JSON, and that are read elsewhere.
    """
    kind, charsets = read_media_type(request)
    if kind not in kinds or not charsets <= UTF_8:
        every = (*kinds, *also)
        send = f"Send {' or '.join(every)}." if kind not in kinds else "JSON is UTF-8 (RFC 8259, section 8.1): leave charset out."
        accepted = {f"Accept-{request.method.title()}": ", ".join(every)}
        raise HttpProblem(415, "media-type", send, accepted)
    body, values = await read_limited(request, most)
    if len(body) <= MAX_OTHER_BODY and values <= MAX_VALUES_AT_ONCE:
        try:
            return parse_valid(body), body
        except (ValueError, RecursionError):
            await asyncio.sleep(0)  # let other requests run: finding the faults begins with as much work again
        raise MalformedJson(await run_in_slices(find_faults(body)), body)
    postpone_collections(request)
    return await run_in_slices(long_json.parse_in_steps(body, check)), body
