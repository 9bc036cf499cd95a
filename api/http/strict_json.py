"""Reads a JSON body strictly, and says of a bad one where all its faults are.

RFC 8259 leaves duplicate keys, large numbers, lone surrogates and depth to the reader, and readers differ; PostgreSQL stores
neither U+0000 nor a lone surrogate. So a body holding any of these is refused here, before anything decodes it into types.

Two passes with one duty each. `parse` *decides*, with the C scanner of the standard library and one shallow walk. Only when it
has decided against a body does `_Scan` read the text again, token by token and without recursion, to *find* every place.

Deciding takes one piece of work, so that it is for bodies, or parts of them, which are not large (long_json.py). Finding is done in steps.
"""

import codecs
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from math import isinf
from typing import NamedTuple, NoReturn, TypeAlias

from domain.support.slices import Steps, run_at_once

MAX_DEPTH = 64
"""Arrays and objects that may stand inside one another, the outermost included."""
MAX_ISSUES = 100
"""Issues listed for one body; one more entry then says that there are others."""
MAX_TOKENS = 100_000
"""Tokens read in search of issues, so that a hostile body holds nobody up; those inside a sound entry of a batch do not count."""

STRIDE = 256
"""Tokens read in search of issues before others may go on."""

Value: TypeAlias = "dict[str, Value] | list[Value] | str | int | float | bool | None"

_INTEGERS = range(-(2**63), 2**63)
_LONGEST_INTEGER = len(str(-(2**63)))
_LONGEST_KEY_SHOWN = 100
_BATCH_DEPTH = 4
"""How deep the entries of a batch may stand: in REST 2 (an object's array), in GraphQL 4 (variables, input, its array)."""


class JsonIssue(NamedTuple):
    """One fault. `pointer` is a JSON Pointer (RFC 6901), "" for the whole document; `message` repeats nothing of the document.

    So that a pointer can always be sent back, a key's U+0000 and lone surrogates stand in it as U+FFFD, and a key of more than 100
    characters is cut.
    """

    pointer: str
    code: str
    message: str


class MalformedJson(Exception):
    """A body that is not acceptable JSON. `issues` lists at least one fault, in the order in which they stand.

    Codes: `json-malformed`, `json-encoding`, `json-too-deep`, `json-duplicate-key`, `json-nul`, `json-surrogate`,
    `json-number-range`, `json-not-a-number`; and `json-more`, last, where `MAX_ISSUES` or `MAX_TOKENS` cut the search short.
    """

    def __init__(self, issues: list[JsonIssue]) -> None:
        super().__init__(f"the JSON body has {len(issues)} issues")
        self.issues = issues


def parse(body: bytes) -> Value:
    """The value of a JSON document in UTF-8: dict, list, str, int, float, bool or None. Raises MalformedJson."""
    try:
        return decide(body)
    except (ValueError, RecursionError):
        pass
    raise MalformedJson(run_at_once(find_faults(body)))


def decide(body: bytes, depth: int = MAX_DEPTH) -> Value:
    """The value of an acceptable document, in one piece of work. Raises ValueError or RecursionError, which say nothing more."""
    text = body.decode()
    value: Value = _DECODER.decode(text)
    if _find_unstorable_escape(text) or not _check_limits(value, depth):
        raise ValueError("cannot be stored")
    return value


def _reject_duplicates(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def _reject_constant(word: str) -> NoReturn:
    raise ValueError("not a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant)

_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_UNKNOWN_ESCAPE = re.compile(r"""\\(?!["/bfnrt]|u[0-9a-fA-F]{4})""")


def _without_sound_escapes(text: str) -> str:
    """The text in which each backslash begins an escape: escaped backslashes and surrogate pairs stand in it as blanks."""
    return _PAIR.sub(" ", text.replace("\\\\", " "))


def _find_unstorable_escape(text: str) -> bool:
    """Whether a well-formed document escapes U+0000 or half a surrogate pair."""
    if not ("\\u0000" in text or "\\ud" in text or "\\uD" in text):
        return False
    rest = _without_sound_escapes(text)
    return "\\u0000" in rest or _HALF_A_PAIR.search(rest) is not None


def _check_limits(value: Value, depth: int) -> bool:
    """Whether depth and numbers keep to their limits. Goes level by level, so that it needs no stack."""
    level: list[dict[str, Value] | list[Value]] = [[value]]
    for _ in range(depth + 1):
        deeper: list[dict[str, Value] | list[Value]] = []
        for container in level:
            for child in container.values() if isinstance(container, dict) else container:
                if isinstance(child, str):
                    continue
                if isinstance(child, int):
                    if child not in _INTEGERS:
                        return False
                elif isinstance(child, float):
                    if isinf(child):
                        return False
                elif child is not None:
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
_DOUBTFUL = re.compile("[\\\\\0-\x1f\udc80-\udcff]")
_STRAY_BYTE = re.compile("[\udc80-\udcff]")
_SURROGATE_AS_BYTES = re.compile("\udced[\udca0-\udcbf][\udc80-\udcbf]")
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")

_LENIENT = json.JSONDecoder(strict=False)
_BLANKS = " \t\n\r"
_BYTE_ORDER_MARK = "\ufeff"
FOREIGN_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # UTF-32-LE's begins as UTF-16-LE's does


class _State(Enum):
    """What may stand next: the kinds of token allowed, and how a message calls them."""

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


class _Lost(Exception):
    """The scan stops: the structure cannot be followed any further, or enough issues are listed."""


Locator: TypeAlias = Callable[[int], tuple[int, int]]
"""From the index of a character in a text to the line and column where it stands in the body."""


def find_faults(body: bytes, inside: Sequence[int | str] = (), locate: Locator | None = None) -> Steps[list[JsonIssue]]:
    """Every fault of a body that was decided against, up to the first that hides the structure of the rest.

    Of a part of a body, some elements of an array, `inside` leads to the first of them, and `locate` tells where a character stands.
    """
    if body.startswith(FOREIGN_MARKS):
        return [JsonIssue("", "json-encoding", "The body is in UTF-16 or UTF-32; send UTF-8 without a byte order mark.")]
    ends = "".join("]" if isinstance(step, int) else "}" for step in reversed(inside))
    scan = _Scan(body.decode(errors="surrogateescape") + ends, inside, locate)
    with suppress(_Lost):
        yield from scan.run()
    return scan.issues


class _Scan:
    """One reading of a text, whose undecodable bytes stand in it as U+DC80 to U+DCFF."""

    def __init__(self, text: str, inside: Sequence[int | str], locate: Locator | None) -> None:
        self.text = text
        self.locate = locate or self.locate_in_text
        self.start = 0  # of the token in hand
        self.end = 0
        self.issues: list[JsonIssue] = []
        self.budget = iter(range(MAX_TOKENS))
        # For each open container: where in it we are (an array's index; an object's key, None before it), and its keys so far.
        self.path: list[int | str | None] = [*inside]
        self.keys: list[set[str]] = [set() for _ in inside]

    def run(self) -> Steps[None]:
        """Reads the text to its end, filling `issues`. Raises _Lost where it has to stop."""
        if self.text.startswith(_BYTE_ORDER_MARK):
            self.note("json-encoding", "The body starts with a byte order mark; send UTF-8 without one.")
            self.end = 1
        if not self.text[self.end :].strip(_BLANKS):
            self.note("json-malformed", "The body is empty; a JSON document is needed.")
            return
        state = _State.VALUE
        for read in self.budget:
            if read % STRIDE == 0:
                yield
            token = _TOKEN.match(self.text, self.end)
            kind = token.lastgroup if token else None  # no token: a string that is never closed
            if token is None or kind not in state.kinds:
                self.lose_the_way(state)
            if kind == "end":
                return
            self.start, self.end = token.span(kind)
            state = self.step(state, kind, token[kind])
        self.issues.append(
            JsonIssue(self.pointer(), "json-more", "The search for issues stopped here: the body is too long for it.")
        )

    def step(self, state: _State, kind: str, raw: str) -> _State:
        """Takes a token that the state allows, and returns the state after it."""
        if kind == "colon":
            return _State.VALUE
        if kind == "comma":
            place = self.path[-1]
            self.path[-1] = place + 1 if isinstance(place, int) else None
            return _State.VALUE if isinstance(place, int) else _State.KEY
        if state in (_State.KEY, _State.FIRST_KEY) and kind == "string":
            self.key(raw)
            return _State.COLON
        if kind in ("array", "object") and not self.skip_sound_value():
            if len(self.path) < MAX_DEPTH:
                self.path.append(0 if kind == "array" else None)
                self.keys.append(set())
                return _State.FIRST_ITEM if kind == "array" else _State.FIRST_KEY
            self.note("json-too-deep", f"Arrays and objects are nested more than {MAX_DEPTH} deep here.")
            self.skip_deep_value()
        elif kind == "string":
            self.string(raw, "This string")
        elif kind == "word":
            self.word(raw)
        elif kind in ("array_end", "object_end"):
            self.path.pop()
            self.keys.pop()
        if not self.path:
            return _State.END
        return _State.NEXT_ITEM if isinstance(self.path[-1], int) else _State.NEXT_MEMBER

    def key(self, raw: str) -> None:
        """Notes a key that its object already has, and the faults of its spelling. `raw` is the key as sent, quotes included."""
        try:
            key = _LENIENT.decode(raw)
        except ValueError:  # an escape that JSON does not have
            key = raw[1:-1]
        self.path[-1] = key
        if key in self.keys[-1]:
            self.note("json-duplicate-key", "This key stands in its object more than once.")
        self.keys[-1].add(key)
        self.string(raw, "This key")

    def string(self, raw: str, subject: str) -> None:
        """Notes each kind of fault of a string once. `raw` is the string as sent, quotes included."""
        if not _DOUBTFUL.search(raw):
            return
        escapes = _without_sound_escapes(raw)
        without_surrogates = _SURROGATE_AS_BYTES.sub("", raw)
        if "\\u0000" in escapes or "\0" in raw:
            self.note("json-nul", f"{subject} holds the character U+0000, which cannot be stored.")
        if _HALF_A_PAIR.search(escapes) or len(without_surrogates) < len(raw):
            self.note("json-surrogate", f"{subject} holds one half of a surrogate pair, which is not a character.")
        if _UNKNOWN_ESCAPE.search(escapes):
            self.note("json-malformed", f"{self.line()}: a backslash in this string starts no JSON escape.")
        if _CONTROL.search(raw):
            self.note("json-malformed", f"{self.line()}: a control character in this string is not escaped.")
        if _STRAY_BYTE.search(without_surrogates):
            self.note("json-encoding", f"{subject} holds bytes that are not UTF-8.")

    def word(self, word: str) -> None:
        """Notes what is wrong with a number, true, false or null, or with what stands where one should."""
        if word in ("true", "false", "null"):
            return
        number = _NUMBER.fullmatch(word)
        if number and not number["fraction"]:
            if len(word) > _LONGEST_INTEGER or int(word) not in _INTEGERS:
                self.note("json-number-range", "This integer does not fit into 64 bits.")
        elif number:
            if isinf(float(word)):
                self.note("json-number-range", "This number is too large for double precision.")
        elif word.lstrip("+-").lower() in ("nan", "inf", "infinity"):
            self.note("json-not-a-number", "JSON has neither NaN nor Infinity; send null or leave the member out.")
        elif _STRAY_BYTE.search(word):
            self.note("json-encoding", f"{self.line()}: bytes that are not UTF-8 stand outside any string.")
        else:
            self.note("json-malformed", f"{self.line()}: this is not a JSON value; strings stand in double quotes.")

    def skip_sound_value(self) -> bool:
        """Moves behind the array or object just opened if it is sound and an entry of a batch may stand here: at the speed of C."""
        if not 0 < len(self.path) <= _BATCH_DEPTH:
            return False
        try:
            value, end = _DECODER.raw_decode(self.text, self.start)
        except (ValueError, RecursionError):
            return False
        if _STRAY_BYTE.search(self.text, self.start, end) or _find_unstorable_escape(self.text[self.start : end]):
            return False
        if not _check_limits(value, MAX_DEPTH - len(self.path)):
            return False
        self.end = end
        return True

    def skip_deep_value(self) -> None:
        """Moves behind the array or object just opened by counting brackets alone, so that its depth costs no memory."""
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
        raise _Lost

    def lose_the_way(self, state: _State) -> NoReturn:
        """Notes what should have stood after the last token, and stops: what follows cannot be told apart any more."""
        rest = self.text[self.end :].lstrip(_BLANKS)
        self.start = len(self.text) - len(rest)
        if _STRAY_BYTE.match(rest):
            self.note("json-encoding", f"{self.line()}: bytes that are not UTF-8 stand outside any string.")
        elif not rest:
            self.note("json-malformed", f"{self.line()}: the document ends where {state.wording} should stand.")
        elif rest[0] == '"' and "string" in state.kinds:
            self.note("json-malformed", f"{self.line()}: this string is never closed.")
        else:
            self.note("json-malformed", f"{self.line()}: {state.wording} should stand here.")
        raise _Lost

    def note(self, code: str, message: str) -> None:
        """Adds an issue at the place in hand. Raises _Lost when the list is full."""
        if len(self.issues) == MAX_ISSUES:
            self.issues.append(JsonIssue("", "json-more", f"There are more issues; the first {MAX_ISSUES} are listed."))
            raise _Lost
        self.issues.append(JsonIssue(self.pointer(), code, message))

    def pointer(self) -> str:
        """The place in hand. An object is named until its key is read, then the member."""
        shown = ""
        for place in self.path:
            if isinstance(place, int):
                shown += f"/{place}"
            elif place is not None:
                key = place if len(place) <= _LONGEST_KEY_SHOWN else f"{place[:_LONGEST_KEY_SHOWN]}…"
                shown += "/" + _UNPRINTABLE.sub("\ufffd", key).replace("~", "~0").replace("/", "~1")
        return shown

    def locate_in_text(self, at: int) -> tuple[int, int]:
        return self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)

    def line(self) -> str:
        """Where the token in hand starts; lines and columns count from 1, columns in characters."""
        line, column = self.locate(self.start)
        return f"Line {line}, column {column}"
