"""Parses a JSON body strictly, and lists every fault of an invalid one with its location.

RFC 8259 leaves duplicate keys, large numbers, lone surrogates and depth to the parser, and parsers differ; PostgreSQL stores neither U+0000 nor a lone
surrogate. A body with any of these is rejected here.

There are two passes. `parse_valid` parses with the C scanner of the standard library, and checks the limits. Only where it rejects a body does `_Scan`
read the text again, token by token and without recursion, to find every fault.

`parse_valid` blocks the event loop, so it is for bodies that are not large, or for parts of them (long_json.py). `find_faults` works in steps.
"""

import codecs
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from math import isinf
from typing import NamedTuple, NoReturn, TypeAlias

from api.http.json_numbers import read_fraction
from domain.support.slices import Steps, run_at_once

MAX_DEPTH = 64
"""Levels of nested arrays and objects, the outermost included."""
MAX_ISSUES = 100
"""Issues listed for one body, before one that says that there are more."""
MAX_TOKENS = 100_000
"""Tokens read in search of faults, so that a hostile body takes little time. Those inside a valid entry of a batch do not count."""

STRIDE = 256
"""Tokens read before the event loop may do other work."""

Value: TypeAlias = "dict[str, Value] | list[Value] | str | int | float | Decimal | bool | None"

REPEATED_KEY = "This key appears in its object more than once."
INTEGER_RANGE = "This integer does not fit into 64 bits."
NO_NUMBER = "JSON has neither NaN nor Infinity; send null or leave the member out."
HOLDS_NUL = "holds the character U+0000, which cannot be stored."
HOLDS_HALF = "holds one half of a surrogate pair, which is not a character."
INTEGERS = range(-(2**63), 2**63)
MAX_INTEGER_LENGTH = len(str(-(2**63)))
_MAX_KEY_IN_POINTER = 100
_MAX_ENTRY_DEPTH = 4
"""The depth of the entries of a batch: in REST 2 (an object's array), in GraphQL 4 (variables, input, its array)."""


class JsonIssue(NamedTuple):
    """One fault. `pointer` is a JSON Pointer (RFC 6901), "" for the whole document; `message` quotes nothing of the document.

    In a pointer, U+0000 and lone surrogates are replaced by U+FFFD, and a key of more than 100 characters is cut, so that it can always be sent.
    """

    pointer: str
    code: str
    message: str


class MalformedJson(Exception):
    """A body that is not acceptable JSON. `issues` lists at least one fault, in the order of the document.

    Codes: `json-malformed`, `json-encoding`, `json-too-deep`, `json-duplicate-key`, `json-nul`, `json-surrogate`,
    `json-number-range`, `json-not-a-number`; and `json-more`, last, where `MAX_ISSUES` or `MAX_TOKENS` cut the search short.
    `body` is the whole body, if it is small.
    """

    def __init__(self, issues: list[JsonIssue], body: bytes | None = None) -> None:
        super().__init__(f"the JSON body has {len(issues)} issues")
        self.issues = issues
        self.body = body


def parse(body: bytes) -> Value:
    """The value of a JSON document in UTF-8: dict, list, str, int, float, Decimal, bool or None. Raises MalformedJson."""
    try:
        return parse_valid(body)
    except (ValueError, RecursionError):
        pass
    raise MalformedJson(run_at_once(find_faults(body)))


def parse_valid(body: bytes, depth: int = MAX_DEPTH) -> Value:
    """The value of a valid document. Raises ValueError or RecursionError without details; `find_faults` finds them."""
    text = body.decode()
    value: Value = _DECODER.decode(text)
    if _has_unstorable_escape(text) or not _is_within_limits(value, depth):
        raise ValueError("cannot be stored")
    return value


def _reject_duplicates(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def _reject_constant(word: str) -> NoReturn:
    raise ValueError("not a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant, parse_float=read_fraction)

_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_UNKNOWN_ESCAPE = re.compile(r"""\\(?!["/bfnrt]|u[0-9a-fA-F]{4})""")


def _blank_valid_escapes(text: str) -> str:
    """The text with blanks in place of escaped backslashes and surrogate pairs, so that each backslash left begins an escape."""
    return _PAIR.sub(" ", text.replace("\\\\", " "))


def _has_unstorable_escape(text: str) -> bool:
    """Whether a well-formed document escapes U+0000 or half a surrogate pair."""
    if not ("\\u0000" in text or "\\ud" in text or "\\uD" in text):
        return False
    rest = _blank_valid_escapes(text)
    return "\\u0000" in rest or _LONE_SURROGATE.search(rest) is not None


def _is_within_limits(value: Value, depth: int) -> bool:
    """Whether depth and numbers are within their limits. Works level by level, without recursion."""
    level: list[dict[str, Value] | list[Value]] = [[value]]
    for _ in range(depth + 1):
        deeper: list[dict[str, Value] | list[Value]] = []
        for container in level:
            for child in container.values() if isinstance(container, dict) else container:
                if isinstance(child, str):
                    continue
                if isinstance(child, int):
                    if child not in INTEGERS:
                        return False
                elif isinstance(child, float):
                    if isinf(child):
                        return False
                elif child is not None and not isinstance(child, Decimal):
                    deeper.append(child)
        if not deeper:
            return True
        level = deeper
    return False


_TOKEN = re.compile(
    r"""[ \t\n\r]*+(?:
        (?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*")
      | (?P<word>[^ \t\n\r,:\[\]{}"]++)
      | (?P<array>\[)
      | (?P<array_end>\])
      | (?P<object>\{)
      | (?P<object_end>\})
      | (?P<comma>,)
      | (?P<colon>:)
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_BRACKETS = re.compile(r'(?P<open>[\[{]++)|(?P<close>[\]}]++)|"[^"\\]*+(?:\\.[^"\\]*+)*"|(?P<unclosed>")', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?P<fraction>(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?)")
_CONTROL = re.compile(r"[\x01-\x1f]")
# A byte that is not UTF-8 is read as a code point from U+DC80 to U+DCFF; three of them can be a surrogate sent as if it were UTF-8.
_SUSPECT = re.compile("[\\\\\0-\x1f\udc80-\udcff]")
_STRAY_BYTE = re.compile("[\udc80-\udcff]")
_SURROGATE_AS_BYTES = re.compile("\udced[\udca0-\udcbf][\udc80-\udcbf]")
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")

_LENIENT = json.JSONDecoder(strict=False)
_BLANKS = " \t\n\r"
_BYTE_ORDER_MARK = "\ufeff"
OTHER_BYTE_ORDER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # UTF-32-LE's begins as UTF-16-LE's does


class _Expected(Enum):
    """What may come next: the kinds of token allowed, and their name in messages."""

    VALUE = ("string", "word", "array", "object"), "a value"
    FIRST_ITEM = ("string", "word", "array", "object", "array_end"), "a value or ]"
    FIRST_KEY = ("string", "object_end"), "a key in double quotes or }"
    KEY = ("string",), "a key in double quotes"
    COLON = ("colon",), "a colon"
    NEXT_ITEM = ("comma", "array_end"), "a comma or ]"
    NEXT_MEMBER = ("comma", "object_end"), "a comma or }"
    END = ("end",), "the end of the document"

    def __init__(self, kinds: tuple[str, ...], wording: str) -> None:
        self.kinds = kinds
        self.wording = wording


class _ScanEnd(Exception):
    """The scan stops: the rest of the structure is ambiguous, or enough issues are listed."""


Locator: TypeAlias = Callable[[int], tuple[int, int]]
"""Returns the line and column in the body of the character at an index of the text."""


def find_faults(body: bytes, inside: Sequence[int | str] = (), locate: Locator | None = None) -> Steps[list[JsonIssue]]:
    """Every fault of an invalid body, in steps, up to the first that makes the structure of the rest ambiguous.

    For a part of a body, some elements of an array, `inside` is the path of the first one, and `locate` finds a character's line and column.
    """
    if body.startswith(OTHER_BYTE_ORDER_MARKS):
        return [JsonIssue("", "json-encoding", "The body is in UTF-16 or UTF-32; send UTF-8 without a byte order mark.")]
    ends = "".join("]" if isinstance(step, int) else "}" for step in reversed(inside))
    scan = _Scan(body.decode(errors="surrogateescape") + ends, inside, locate)
    with suppress(_ScanEnd):
        yield from scan.run()
    return scan.issues


class _Scan:
    """One scan of a text, in which undecodable bytes are U+DC80 to U+DCFF (surrogateescape)."""

    def __init__(self, text: str, inside: Sequence[int | str], locate: Locator | None) -> None:
        self.text = text
        self.locate = locate or self.locate_in_text
        self.start = 0  # of the current token
        self.end = 0
        self.issues: list[JsonIssue] = []
        self.budget = iter(range(MAX_TOKENS))
        # For each open container: the current index of an array or key of an object (None before it), and the keys so far.
        self.path: list[int | str | None] = [*inside]
        self.keys: list[set[str]] = [set() for _ in inside]

    def run(self) -> Steps[None]:
        """Scans the text in steps and adds to `issues`. Raises _ScanEnd where it has to stop."""
        if self.text.startswith(_BYTE_ORDER_MARK):
            self.add("json-encoding", "The body starts with a byte order mark; send UTF-8 without one.")
            self.end = 1
        if not self.text[self.end :].strip(_BLANKS):
            self.add("json-malformed", "The body is empty; a JSON document is needed.")
            return
        expected = _Expected.VALUE
        for read in self.budget:
            if read % STRIDE == 0:
                yield
            token = _TOKEN.match(self.text, self.end)
            kind = token.lastgroup if token else None  # no token: a string that is never closed
            if token is None or kind not in expected.kinds:
                self.stop_at_unexpected(expected)
            if kind == "end":
                return
            self.start, self.end = token.span(kind)
            expected = self.take_token(expected, kind, token[kind])
        self.issues.append(
            JsonIssue(self.make_pointer(), "json-more", "The search for issues stopped here: the body is too long for it.")
        )

    def take_token(self, expected: _Expected, kind: str, raw: str) -> _Expected:
        """Takes a token that is expected, and returns what is expected after it."""
        if kind == "colon":
            return _Expected.VALUE
        if kind == "comma":
            step = self.path[-1]
            self.path[-1] = step + 1 if isinstance(step, int) else None
            return _Expected.VALUE if isinstance(step, int) else _Expected.KEY
        if expected in (_Expected.KEY, _Expected.FIRST_KEY) and kind == "string":
            self.check_key(raw)
            return _Expected.COLON
        if kind in ("array", "object") and not self.skip_valid_value():
            if len(self.path) < MAX_DEPTH:
                self.path.append(0 if kind == "array" else None)
                self.keys.append(set())
                return _Expected.FIRST_ITEM if kind == "array" else _Expected.FIRST_KEY
            self.add("json-too-deep", f"Arrays and objects are nested more than {MAX_DEPTH} deep here.")
            self.skip_deep_value()
        elif kind == "string":
            self.check_string(raw, "This string")
        elif kind == "word":
            self.check_word(raw)
        elif kind in ("array_end", "object_end"):
            self.path.pop()
            self.keys.pop()
        if not self.path:
            return _Expected.END
        return _Expected.NEXT_ITEM if isinstance(self.path[-1], int) else _Expected.NEXT_MEMBER

    def check_key(self, raw: str) -> None:
        """Adds an issue for a key that its object already has, and those of its string. `raw` is the key as sent, with its quotes."""
        try:
            key = _LENIENT.decode(raw)
        except ValueError:  # an escape that JSON does not have
            key = raw[1:-1]
        self.path[-1] = key
        if key in self.keys[-1]:
            self.add("json-duplicate-key", REPEATED_KEY)
        self.keys[-1].add(key)
        self.check_string(raw, "This key")

    def check_string(self, raw: str, subject: str) -> None:
        """Adds one issue for each kind of fault of a string. `raw` is the string as sent, with its quotes."""
        if not _SUSPECT.search(raw):
            return
        escapes = _blank_valid_escapes(raw)
        without_surrogates = _SURROGATE_AS_BYTES.sub("", raw)
        if "\\u0000" in escapes or "\0" in raw:
            self.add("json-nul", f"{subject} {HOLDS_NUL}")
        if _LONE_SURROGATE.search(escapes) or len(without_surrogates) < len(raw):
            self.add("json-surrogate", f"{subject} {HOLDS_HALF}")
        if _UNKNOWN_ESCAPE.search(escapes):
            self.add("json-malformed", f"{self.describe_position()}: a backslash in this string starts no JSON escape.")
        if _CONTROL.search(raw):
            self.add("json-malformed", f"{self.describe_position()}: a control character in this string is not escaped.")
        if _STRAY_BYTE.search(without_surrogates):
            self.add("json-encoding", f"{subject} holds bytes that are not UTF-8.")

    def check_word(self, word: str) -> None:
        """Adds the issues of a number, true, false or null, or of a word that is none of these."""
        if word in ("true", "false", "null"):
            return
        number = _NUMBER.fullmatch(word)
        if number and not number["fraction"]:
            if len(word) > MAX_INTEGER_LENGTH or int(word) not in INTEGERS:
                self.add("json-number-range", INTEGER_RANGE)
        elif number:
            if isinf(read_fraction(word)):
                self.add("json-number-range", "This number is too large or too small for double precision.")
        elif word.lstrip("+-").lower() in ("nan", "inf", "infinity"):
            self.add("json-not-a-number", NO_NUMBER)
        elif _STRAY_BYTE.search(word):
            self.add("json-encoding", f"{self.describe_position()}: there are bytes that are not UTF-8 outside any string.")
        else:
            self.add("json-malformed", f"{self.describe_position()}: this is not a JSON value; strings are in double quotes.")

    def skip_valid_value(self) -> bool:
        """Skips the array or object just opened with the C scanner, if it is valid and as deep as an entry of a batch. Returns whether it did."""
        if not 0 < len(self.path) <= _MAX_ENTRY_DEPTH:
            return False
        try:
            value, end = _DECODER.raw_decode(self.text, self.start)
        except (ValueError, RecursionError):
            return False
        if _STRAY_BYTE.search(self.text, self.start, end) or _has_unstorable_escape(self.text[self.start : end]):
            return False
        if not _is_within_limits(value, MAX_DEPTH - len(self.path)):
            return False
        self.end = end
        return True

    def skip_deep_value(self) -> None:
        """Skips the array or object just opened by counting brackets, so that its depth needs no memory."""
        depth = 1
        for match, _ in zip(_BRACKETS.finditer(self.text, self.end), self.budget, strict=False):
            run = len(match[0])
            if match.lastgroup == "unclosed":
                break
            if match.lastgroup == "open":
                depth += run
            elif match.lastgroup == "close" and run < depth:
                depth -= run
            elif match.lastgroup == "close":
                self.end = match.start() + depth
                return
        raise _ScanEnd

    def stop_at_unexpected(self, expected: _Expected) -> NoReturn:
        """Adds an issue that says what was expected after the last token, and raises _ScanEnd: the structure of the rest is ambiguous."""
        rest = self.text[self.end :].lstrip(_BLANKS)
        self.start = len(self.text) - len(rest)
        if _STRAY_BYTE.match(rest):
            self.add("json-encoding", f"{self.describe_position()}: there are bytes that are not UTF-8 outside any string.")
        elif not rest:
            self.add("json-malformed", f"{self.describe_position()}: the document ends where {expected.wording} is expected.")
        elif rest[0] == '"' and "string" in expected.kinds:
            self.add("json-malformed", f"{self.describe_position()}: this string is never closed.")
        else:
            self.add("json-malformed", f"{self.describe_position()}: {expected.wording} is expected here.")
        raise _ScanEnd

    def add(self, code: str, message: str) -> None:
        """Adds an issue at the current token. Raises _ScanEnd when the list is full."""
        if len(self.issues) == MAX_ISSUES:
            self.issues.append(JsonIssue("", "json-more", f"There are more issues; the first {MAX_ISSUES} are listed."))
            raise _ScanEnd
        self.issues.append(JsonIssue(self.make_pointer(), code, message))

    def make_pointer(self) -> str:
        """The JSON Pointer of the current token: of an object until a key is read, then of the member."""
        pointer = ""
        for step in self.path:
            if isinstance(step, int):
                pointer += f"/{step}"
            elif step is not None:
                key = step if len(step) <= _MAX_KEY_IN_POINTER else f"{step[:_MAX_KEY_IN_POINTER]}…"
                pointer += "/" + _UNPRINTABLE.sub("\ufffd", key).replace("~", "~0").replace("/", "~1")
        return pointer

    def locate_in_text(self, at: int) -> tuple[int, int]:
        """The line and column of a character of the text."""
        return self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)

    def describe_position(self) -> str:
        """The line and column of the current token, counted from 1, columns in characters."""
        line, column = self.locate(self.start)
        return f"Line {line}, column {column}"
