"""Parses a large JSON body strictly, in pieces, so that none of them blocks the event loop for long.

What makes a body large are the rows of a batch: elements of arrays that are in no other array. The body is split between such elements, by its
brackets alone. Its *frame*, which is the document with these arrays empty, and each piece of an array are small; strict_json parses them one by one.
The frame can be checked before any row is parsed.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from api.http.strict_json import (
    MAX_DEPTH,
    OTHER_BYTE_ORDER_MARKS,
    JsonIssue,
    Locator,
    MalformedJson,
    Value,
    find_faults,
    parse_valid,
)
from domain.support.slices import Steps

MIN_PIECE = 64 * 1024
"""Bytes of elements that are parsed together."""
MAX_ELEMENT = 256 * 1024
"""Bytes of one element of an array, and of everything outside of arrays."""
WINDOW = 1024 * 1024
"""Bytes whose strings are unescaped at once."""
STRIDE = 256
"""Brackets read before the event loop may do other work."""

_UP_TO_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:"[^"]*+"[^"\[\]{}]*+){0,200}')
_COMMA = re.compile(rb"[ \t\n\r]*+,")
_BACKSLASHES = re.compile(rb"\\*+")
_BLANK = re.compile(rb"[ \t\n\r]*+")

Segments = list[tuple[int, int]]


class Array(NamedTuple):
    """An array that is in no other array: `depth` counts the containers around its elements, and `pieces` are its parts of the body."""

    depth: int
    pieces: Segments


def parse_in_steps(body: bytes, check: Callable[[Value], None] | None = None) -> Steps[Value]:
    """The value of a JSON document in UTF-8, in steps. `check` is called with the frame first and may raise.

    Raises MalformedJson with every fault of the first part that has any. The code of a part that is too large is `json-too-large`.
    """
    if body.startswith(OTHER_BYTE_ORDER_MARKS):
        raise MalformedJson((yield from find_faults(body)))
    arrays, segments = yield from _Splitter(body).run()
    value = yield from _parse_part(body, segments, MAX_DEPTH)
    if check is not None:
        check(value)
    for array, (path, elements) in zip(arrays, _find_arrays(value, ()), strict=True):
        if len(array.pieces) == 1 and _BLANK.fullmatch(body, *array.pieces[0]):
            continue
        for piece in array.pieces:
            yield
            if piece[1] - piece[0] > MIN_PIECE + MAX_ELEMENT:
                message = f"objects in the arrays of a large body have at most {MAX_ELEMENT // 1024} kB, and values of other kinds together."
                _refuse(body, piece[0], "json-too-large", message)
            piece_elements = yield from _parse_part(body, [piece], MAX_DEPTH - array.depth + 1, (*path, len(elements)))
            assert isinstance(piece_elements, list)
            elements += piece_elements
    return value


def _parse_part(body: bytes, segments: Segments, depth: int, inside: tuple[int | str, ...] = ()) -> Steps[Value]:
    """The value of a part of the body; where it is `inside` an array, the list of its elements."""
    part = b"".join([body[start:end] for start, end in segments])
    try:
        if inside and _BLANK.fullmatch(part):
            raise ValueError("there is no element after a comma")
        return parse_valid(b"[%b]" % part if inside else part, depth)
    except (ValueError, RecursionError):
        pass
    raise MalformedJson((yield from find_faults(part, inside, _make_locator(body, part, segments))))


def _find_arrays(value: Value, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Value]]]:
    """The arrays of a frame, in the order of the document, each with its path."""
    if isinstance(value, list):
        yield path, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _find_arrays(member, (*path, name))


def _make_locator(body: bytes, part: bytes, segments: Segments) -> Locator:
    """The function that returns the line and column in the body of a character of the part."""
    text = part.decode(errors="surrogateescape")
    starts = [0]
    for start, end in segments:
        starts.append(starts[-1] + end - start)

    def locate(character: int) -> tuple[int, int]:
        at = len(text[:character].encode(errors="surrogateescape"))
        nth = min(bisect_right(starts, at), len(segments)) - 1
        return _find_line_and_column(body, segments[nth][0] + at - starts[nth])

    return locate


def _find_line_and_column(body: bytes, at: int) -> tuple[int, int]:
    line = body[body.rfind(b"\n", 0, at) + 1 : at]
    return body.count(b"\n", 0, at) + 1, len(line.decode(errors="surrogateescape")) + 1


def _refuse(body: bytes, at: int, code: str, message: str) -> NoReturn:
    line, column = _find_line_and_column(body, at)
    raise MalformedJson([JsonIssue("", code, f"Line {line}, column {column}: {message}")])


class _Splitter:
    """Splits a body into the segments of its frame and the pieces of its arrays."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.text = b""
        self.arrays: list[Array] = []
        self.frame: Segments = []
        self.size = 0  # of the frame
        self.start = 0  # of the current segment or piece
        self.depth = 0

    def run(self) -> Steps[tuple[list[Array], Segments]]:
        """The arrays, and the segments of the frame, in steps."""
        windows = []
        for window in self._unescape_windows():
            windows.append(window)
            yield
        self.text = b"".join(windows)
        array: Array | None = None
        at, seen = self._find_bracket(0), 0
        while at < len(self.text):
            seen += 1
            if seen % STRIDE == 0:
                yield
            array = self._open(at, array) if self.text[at] in b"[{" else self._close(at, array)
            at = self._find_bracket(at + 1)
        if self.depth:
            _refuse(self.body, at, "json-malformed", "the document ends where a bracket should be closed.")
        self._end_segment(at)
        return self.arrays, self.frame

    def _unescape_windows(self) -> Iterator[bytes]:
        """The body with blanks in place of escaped quotes and backslashes, in windows. No byte moves, and no window ends in an escape."""
        start = 0
        while start < len(self.body):
            end = min(start + WINDOW, len(self.body))
            if self.body[end - 1] == ord("\\"):
                run = _BACKSLASHES.match(self.body, end)
                assert run is not None
                end = run.end() + 1
            if end - start > 2 * WINDOW:
                _refuse(self.body, start, "json-too-large", "a string with so many backslashes is too large.")
            yield self.body[start:end].replace(rb"\\", b"  ").replace(rb"\"", b"  ")
            start = end

    def _find_bracket(self, at: int) -> int:
        """The index of the next bracket outside of strings, or of the end."""
        while True:
            found = _UP_TO_BRACKET.match(self.text, at)
            assert found is not None
            at = found.end()
            if self.text[at : at + 1] != b'"':
                return at
            if self.text.find(b'"', at + 1) < 0:
                _refuse(self.body, at, "json-malformed", "this string is never closed.")

    def _open(self, at: int, array: Array | None) -> Array | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            _refuse(self.body, at, "json-too-deep", f"arrays and objects are nested more than {MAX_DEPTH} deep here.")
        if array is not None or self.text[at] != ord("["):
            return array
        self._end_segment(at + 1)
        self.arrays.append(Array(self.depth, []))
        return self.arrays[-1]

    def _close(self, at: int, array: Array | None) -> Array | None:
        self.depth -= 1
        if self.depth < 0:
            _refuse(self.body, at, "json-malformed", "the end of the document is expected here.")
        if array is None or self.depth > array.depth:
            return array
        if self.depth < array.depth:
            self._end_piece(array, at, at)
            return None
        if at + 1 - self.start >= MIN_PIECE and (comma := _COMMA.match(self.text, at + 1)):
            self._end_piece(array, at + 1, comma.end())
        return array

    def _end_segment(self, at: int) -> None:
        self.frame.append((self.start, at))
        self.size += at - self.start
        if self.size > MAX_ELEMENT:
            _refuse(
                self.body, self.start, "json-too-large", f"outside of its arrays a large body has at most {MAX_ELEMENT // 1024} kB."
            )
        self.start = at

    def _end_piece(self, array: Array, end: int, start: int) -> None:
        """Ends the current piece. The next one, or the frame, begins at `start`."""
        array.pieces.append((self.start, end))
        self.start = start
