"""Reads a JSON body strictly, and says of a bad one where all its faults are.

RFC 8259 leaves duplicate keys, large numbers, lone surrogates and depth to the reader, and readers differ; PostgreSQL stores neither
U+0000 nor a lone surrogate. So a body holding any of these is refused here, before anything decodes it into types.

Two passes with one duty each. `parse` *decides*, with the C scanner of the standard library and one shallow walk. Only when it has
decided against a body does `_Faults` read the text again, token by token and without recursion, to *find* every place.
"""

import codecs
import json
import re
from contextlib import suppress
from enum import Enum
from math import isinf
from typing import NamedTuple, NoReturn

MAX_DEPTH = 64
"""Arrays and objects that may stand inside one another, the outermost included."""
MAX_ISSUES = 100
"""Issues listed for one body; one more entry then says that there are others."""

_INTEGERS = range(-(2**63), 2**63)
_LONGEST_INTEGER = len(str(-(2**63)))
_LONGEST_KEY_SHOWN = 100


class Issue(NamedTuple):
    """One fault. `pointer` is a JSON Pointer (RFC 6901), "" for the whole document; `message` never repeats a value of the document.

    A place nested deeper than `MAX_DEPTH` is named by its ancestor at that depth. In a pointer, a key's U+0000 and lone surrogates
    are shown as U+FFFD and a key of more than 100 characters is cut, so that a pointer can always be sent back.
    """

    pointer: str
    code: str
    message: str


class MalformedJson(Exception):
    """A body that is not acceptable JSON. `issues` lists at least one fault, in the order in which they stand.

    Codes: `json-malformed`, `json-encoding`, `json-too-deep`, `json-duplicate-key`, `json-nul`, `json-surrogate`,
    `json-number-range`, `json-not-a-number`; and `json-more`, last, when there are more than `MAX_ISSUES`.
    """

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__(f"the JSON body has {len(issues)} issues")
        self.issues = issues


def parse(body: bytes) -> object:
    """The value of a JSON document in UTF-8: dict, list, str, int, float, bool or None. Raises MalformedJson."""
    try:
        text = body.decode()
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise MalformedJson(_faults(body)) from None
    if _unstorable_escape(text) or not _within_limits(value):
        raise MalformedJson(_faults(body))
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key")
    return members


def _not_a_number(word: str) -> NoReturn:
    raise ValueError("not a number")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_not_a_number)

# Every alternative takes a whole escape, so that what follows an escaped backslash is never taken for one.
_ESCAPE = re.compile(
    r"""\\(?:
        (?P<pair>u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})
      | (?P<nul>u0000)
      | (?P<surrogate>u[dD][89a-fA-F][0-9a-fA-F]{2})
      | (?P<plain>["\\/bfnrt]|u[0-9a-fA-F]{4})
      | (?P<unknown>.)
    )""",
    re.VERBOSE | re.DOTALL,
)


def _unstorable_escape(text: str) -> bool:
    """Whether a well-formed document escapes U+0000 or half a surrogate pair."""
    if not ("\\u0000" in text or "\\ud" in text or "\\uD" in text):
        return False
    return any(escape.lastgroup in ("nul", "surrogate") for escape in _ESCAPE.finditer(text))


def _within_limits(value: object) -> bool:
    """Whether depth and numbers keep to their limits. Goes level by level, so that it needs no stack."""
    level: list[dict[str, object] | list[object]] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        deeper: list[dict[str, object] | list[object]] = []
        for container in level:
            for child in container.values() if isinstance(container, dict) else container:
                kind = type(child)
                if kind is str:
                    continue
                if isinstance(child, dict | list):
                    deeper.append(child)
                elif (kind is int and child not in _INTEGERS) or (isinstance(child, float) and isinf(child)):
                    return False
        if not deeper:
            return True
        level = deeper
    return False


_TOKEN = re.compile(
    r"""[ \t\n\r]*+(?:
        (?P<string>"[^"\\]*+(?:\\.[^"\\]*+)*+")
      | (?P<word>[^ \t\n\r,:\[\]{}"]++)
      | (?P<array>\[)
      | (?P<array_end>\])
      | (?P<object>\{)
      | (?P<object_end>\})
      | (?P<comma>,)
      | (?P<colon>:)
      | (?P<unclosed>")
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_BRACKETS = re.compile(r'(?P<open>[\[{]++)|(?P<close>[\]}]++)|"[^"\\]*+(?:\\.[^"\\]*+)*+"|(?P<unclosed>")', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?P<fraction>(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?)")
_CONTROL = re.compile(r"[\x01-\x1f]")
_STRAY_BYTE = re.compile("[\udc80-\udcff]")
_SURROGATE_AS_BYTES = re.compile("\udced[\udca0-\udcbf][\udc80-\udcbf]")
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")

_LENIENT = json.JSONDecoder(strict=False)
_BYTE_ORDER_MARK = "\ufeff"
_FOREIGN_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # UTF-32-LE's begins as UTF-16-LE's does


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


def _faults(body: bytes) -> list[Issue]:
    """Every fault of a body that `parse` has decided against, up to the first that hides the structure of the rest."""
    if body.startswith(_FOREIGN_MARKS):
        return [Issue("", "json-encoding", "The body is in UTF-16 or UTF-32; send UTF-8 without a byte order mark.")]
    scan = _Scan(body.decode(errors="surrogateescape"))
    with suppress(_Lost):
        scan.run()
    return scan.issues


class _Scan:
    """One reading of a text, whose undecodable bytes stand in it as U+DC80 to U+DCFF."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.issues: list[Issue] = []
        # One entry for each open container: where we are in it (None before a key), and an object's keys so far (None in an array).
        self.path: list[str | int | None] = []
        self.keys: list[set[str] | None] = []

    def run(self) -> None:
        """Reads the text to its end, filling `issues`. Raises _Lost where it has to stop."""
        if self.text.startswith(_BYTE_ORDER_MARK):
            self.note("json-encoding", "The body starts with a byte order mark; send UTF-8 without one.")
            self.position = 1
        if not self.text[self.position :].strip(" \t\n\r"):
            self.note("json-malformed", "The body is empty; a JSON document is needed.")
            return
        state = _State.VALUE
        while True:
            token = _TOKEN.match(self.text, self.position)
            kind = token.lastgroup if token else None
            if token is None or kind not in state.kinds:
                self.lose_the_way(state)
            if kind == "end":
                return
            self.position = token.end()
            state = self.step(state, token)

    def step(self, state: _State, token: re.Match[str]) -> _State:
        """Takes a token that the state allows, and returns the state after it."""
        kind = token.lastgroup
        if kind == "colon":
            return _State.VALUE
        if kind == "comma":
            place = self.path[-1]
            if isinstance(place, int):
                self.path[-1] = place + 1
                return _State.VALUE
            self.path[-1] = None
            return _State.KEY
        if kind == "string":
            if state in (_State.KEY, _State.FIRST_KEY):
                self.key(token["string"])
                return _State.COLON
            self.string(token["string"], "This string")
        elif kind == "word":
            self.word(token["word"])
        elif kind in ("array_end", "object_end"):
            self.path.pop()
            self.keys.pop()
        elif len(self.path) == MAX_DEPTH:
            self.note("json-too-deep", f"Arrays and objects are nested more than {MAX_DEPTH} deep here.")
            self.skip_container()
        elif kind == "array":
            self.path.append(0)
            self.keys.append(None)
            return _State.FIRST_ITEM
        else:
            self.path.append(None)
            self.keys.append(set())
            return _State.FIRST_KEY
        if not self.path:
            return _State.END
        return _State.NEXT_ITEM if self.keys[-1] is None else _State.NEXT_MEMBER

    def key(self, raw: str) -> None:
        try:
            key = _LENIENT.decode(raw)
        except ValueError:  # an escape that JSON does not have, noted below
            key = raw[1:-1]
        self.path[-1] = key
        keys = self.keys[-1]
        assert keys is not None
        if key in keys:
            self.note("json-duplicate-key", "This key stands in its object more than once.")
        keys.add(key)
        self.string(raw, "This key")

    def string(self, raw: str, subject: str) -> None:
        """Notes each kind of fault of a string once. `raw` is the string as sent, quotes included."""
        escapes = {escape.lastgroup for escape in _ESCAPE.finditer(raw)}
        without_surrogates = _SURROGATE_AS_BYTES.sub("", raw)
        if "nul" in escapes or "\0" in raw:
            self.note("json-nul", f"{subject} holds the character U+0000, which cannot be stored.")
        if "surrogate" in escapes or len(without_surrogates) < len(raw):
            self.note("json-surrogate", f"{subject} holds one half of a surrogate pair, which is no character.")
        if "unknown" in escapes:
            self.note("json-malformed", f"{subject} holds a backslash that starts no JSON escape.", locate=True)
        if _CONTROL.search(raw):
            self.note("json-malformed", f"{subject} holds a control character that is not escaped.", locate=True)
        if _STRAY_BYTE.search(without_surrogates):
            self.note("json-encoding", f"{subject} holds bytes that are not UTF-8.")

    def word(self, word: str) -> None:
        """Notes what is wrong with a number, true, false or null, or with what stands in its place."""
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
            self.note("json-encoding", "Bytes that are not UTF-8 stand here.", locate=True)
        else:
            self.note("json-malformed", "This is no JSON value. Strings stand in double quotes.", locate=True)

    def skip_container(self) -> None:
        """Moves behind the container just opened, counting its brackets only: its depth may be anything."""
        depth = 1
        for match in _BRACKETS.finditer(self.text, self.position):
            ...

    def lose_the_way(self, state: _State) -> NoReturn:
        """Notes what should have stood here, and stops."""

    def note(self, code: str, message: str, *, locate: bool = False) -> None:
        ...
