"""What `api.http.strict_json` accepts, what it refuses, and where it says the faults are."""

import json
import re
from decimal import Decimal
from math import isinf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.strict_json import MAX_DEPTH, MAX_ISSUES, MAX_TOKENS, MalformedJson, parse

CODES = {
    "json-malformed",
    "json-encoding",
    "json-too-deep",
    "json-duplicate-key",
    "json-nul",
    "json-surrogate",
    "json-number-range",
    "json-not-a-number",
    "json-more",
}


def faults(body: bytes) -> list[tuple[str, str]]:
    """The (pointer, code) of every issue of a body that must be refused."""
    with pytest.raises(MalformedJson) as refused:
        parse(body)
    return [(pointer, code) for pointer, code, _ in refused.value.issues]


def messages(body: bytes) -> list[str]:
    with pytest.raises(MalformedJson) as refused:
        parse(body)
    return [message for _, _, message in refused.value.issues]


# What is accepted

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@settings(deadline=None)
@given(value=VALUES, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 2]))
def test_every_fit_value_reads_as_the_standard_library_reads_it(value: object, ensure_ascii: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent).encode()
    # Compared as text, because 1 == 1.0 == True, and a dict does not compare the order of its keys.
    assert json.dumps(parse(body)) == json.dumps(json.loads(body)) == json.dumps(value)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (rb'"\\u0000"', "\\u0000"),
        (rb'"\\\\u0000"', "\\\\u0000"),
        (rb'"\\ud800"', "\\ud800"),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\uD83D\uDE00 \ud83d\ude00"', "😀 😀"),
        (rb'"\ud55c\uad6d"', "한국"),
        (rb'{"a\\u0000": 1}', {"a\\u0000": 1}),
        (b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}', {"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}),
        (b"[9223372036854775807, -9223372036854775808, -0]", [2**63 - 1, -(2**63), 0]),
        (b"[1e308, 1e-999, 9223372036854775808.0]", [1e308, Decimal("1e-999"), Decimal(2**63)]),
        (b"[1.25, 1e2, 0.1234567890123456789, 1.50000000000000000]", [1.25, 100.0, Decimal("0.1234567890123456789"), 1.5]),
        (b'"NaN [Infinity] {{"', "NaN [Infinity] {{"),
        (b" \r\n\t null \n", None),
        ("\u2028".encode().join([b'"', b'"']), "\u2028"),
    ],
)
def test_what_only_looks_like_a_fault_is_accepted(body: bytes, value: object) -> None:
    assert parse(body) == value


def nested(depth: int, inside: bytes = b"") -> bytes:
    """Arrays and objects by turns, `depth` in all."""
    opening = b"".join(b"[" if level % 2 else b'{"a":' for level in range(1, depth + 1))
    closing = b"".join(b"]" if level % 2 else b"}" for level in range(depth, 0, -1))
    return opening + (inside or (b"" if depth % 2 else b"0")) + closing


def test_nesting_is_accepted_to_the_limit_and_refused_beyond() -> None:
    assert parse(nested(MAX_DEPTH)) is not None
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None
    assert faults(nested(MAX_DEPTH + 1)) == [("/0/a" * (MAX_DEPTH // 2), "json-too-deep")]
    assert faults(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)) == [("/0" * MAX_DEPTH, "json-too-deep")]


# What is refused, and the place


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1, "a": 2}', [("/a", "json-duplicate-key")]),
        (b'{"a": 1, "a": 1, "a": 1}', [("/a", "json-duplicate-key"), ("/a", "json-duplicate-key")]),
        (rb'{"a": 1, "\u0061": 2}', [("/a", "json-duplicate-key")]),
        (b'{"": 1, "": 2}', [("/", "json-duplicate-key")]),
        (b'{"a/b": {"m~n": 1, "m~n": 2}}', [("/a~1b/m~0n", "json-duplicate-key")]),
        (b'[{"x": 1}, {"x": 1, "y": [{"z": 1, "z": 2}]}]', [("/1/y/0/z", "json-duplicate-key")]),
        (rb'{"entries": [{"upn": "a\u0000b"}]}', [("/entries/0/upn", "json-nul")]),
        (rb'"\\\u0000"', [("", "json-nul")]),
        (b'["a\0b"]', [("/0", "json-nul")]),
        (rb'{"a\u0000": 1}', [("/a\ufffd", "json-nul")]),
        (rb'"\ud800"', [("", "json-surrogate")]),
        (rb'"\udc00"', [("", "json-surrogate")]),
        (rb'"\ude00\ud83d"', [("", "json-surrogate")]),
        (rb'"\ud83d\ud83d\ude00"', [("", "json-surrogate")]),
        (rb'"\\ud83d\ude00"', [("", "json-surrogate")]),
        (rb'"\ud83d \ude00"', [("", "json-surrogate")]),
        (rb'{"\uDFFF": 1}', [("/\ufffd", "json-surrogate")]),
        (b'{"a": "\xed\xa0\x80"}', [("/a", "json-surrogate")]),
        (b'{"a": "\xed\xa0\xbd\xed\xb8\x80"}', [("/a", "json-surrogate")]),
        (b'{"a": NaN, "b": [Infinity, -Infinity]}', [(f"/{at}", "json-not-a-number") for at in ("a", "b/0", "b/1")]),
        (b"[9223372036854775808]", [("/0", "json-number-range")]),
        (b"[-9223372036854775809]", [("/0", "json-number-range")]),
        (b"1" * 5000, [("", "json-number-range")]),
        (b'{"a": 1e309, "b": -1e309, "c": 1e0309}', [(f"/{at}", "json-number-range") for at in "abc"]),
        (b"1" * 400 + b".0", [("", "json-number-range")]),
        (b'\xef\xbb\xbf{"a": 1}', [("", "json-encoding")]),
        (b'\xef\xbb\xbf{"a": NaN}', [("", "json-encoding"), ("/a", "json-not-a-number")]),
        ('{"a": 1}'.encode("utf-16"), [("", "json-encoding")]),
        ('{"a": 1}'.encode("utf-32"), [("", "json-encoding")]),
        (b'{"a": "Zo\xeb", "b": ["\xff"]}', [("/a", "json-encoding"), ("/b/0", "json-encoding")]),
        (b'{"a": "\xc0\x80"}', [("/a", "json-encoding")]),
        (b'["\xf4\x90\x80\x80"]', [("/0", "json-encoding")]),
        (b"[1, \xa3]", [("/1", "json-encoding")]),
        (b"[1 \xa3]", [("/0", "json-encoding")]),
        (b"", [("", "json-malformed")]),
        (b" \n", [("", "json-malformed")]),
        (b"\xef\xbb\xbf", [("", "json-encoding"), ("", "json-malformed")]),
        (b"{} {}", [("", "json-malformed")]),
        (b"1]", [("", "json-malformed")]),
        (b'{"a": [1, 2}', [("/a/1", "json-malformed")]),
        (b'{"a": 1]', [("/a", "json-malformed")]),
        (b'{"a": 1,}', [("", "json-malformed")]),
        (b"[1,]", [("/1", "json-malformed")]),
        (b"[,1]", [("/0", "json-malformed")]),
        (b'{"a" 1}', [("/a", "json-malformed")]),
        (b"{a: 1}", [("", "json-malformed")]),
        (b'{"a": {"b": "c', [("/a/b", "json-malformed")]),
        (rb'["\x41", "\u12"]', [("/0", "json-malformed"), ("/1", "json-malformed")]),
        (rb'"\ud83d\u"', [("", "json-surrogate"), ("", "json-malformed")]),
        (b'["a\nb", "a\tb"]', [("/0", "json-malformed"), ("/1", "json-malformed")]),
        (b'{"a": True, "b": 01, "c": +1, "d": .5, "e": 1., "f": 0x1}', [(f"/{at}", "json-malformed") for at in "abcdef"]),
        ("[1,\u00a02]".encode(), [("/1", "json-malformed")]),
        ("[\u0661]".encode(), [("/0", "json-malformed")]),
    ],
)
def test_a_fault_is_refused_at_its_place(body: bytes, expected: list[tuple[str, str]]) -> None:
    assert faults(body) == expected


def test_all_faults_are_listed_at_once_in_their_order() -> None:
    body = rb"""{
      "school": {"urn": 99999999999999999999, "urn": 1},
      "entries": [
        {"upn": "\u0000", "grade": "EXS"},
        {"upn": "A", "grade": "EXS"},
        {"upn": "\ud800", "mark": NaN, "deep": %s},
        {"upn": "caf\xe9", "mark": 1e999},
        {"upn": "D" "grade": "GDS", "grade": "WTS"}
      ]
    }""" % nested(MAX_DEPTH)
    assert faults(body.replace(rb"\xe9", b"\xe9")) == [
        ("/school/urn", "json-number-range"),
        ("/school/urn", "json-duplicate-key"),
        ("/entries/0/upn", "json-nul"),
        ("/entries/2/upn", "json-surrogate"),
        ("/entries/2/mark", "json-not-a-number"),
        ("/entries/2/deep" + "/0/a" * ((MAX_DEPTH - 4) // 2) + "/0", "json-too-deep"),
        ("/entries/3/upn", "json-encoding"),
        ("/entries/3/mark", "json-number-range"),
        ("/entries/4/upn", "json-malformed"),
    ]


@pytest.mark.parametrize(
    ("body", "place", "what"),
    [
        (b'{\n  "a": 1\n  "b": 2\n}', "Line 3, column 3", "a comma or }"),
        (b"[1,\n 2", "Line 2, column 3", "the document ends where a comma or ]"),
        (b'{"a": 1} x', "Line 1, column 10", "the end of the document"),
        ('["éé", ‘b’]'.encode(), "Line 1, column 8", "not a JSON value"),
        (b'\n["abc', "Line 2, column 2", "never closed"),
        (b'["a", "\\q"]', "Line 1, column 7", "no JSON escape"),
        (b'["a\x01"]', "Line 1, column 2", "control character"),
        (b"\n [\xff]", "Line 2, column 3", "not UTF-8"),
        (b"{'a': 1}", "Line 1, column 2", "a key in double quotes"),
    ],
)
def test_a_message_names_line_and_column(body: bytes, place: str, what: str) -> None:
    (message,) = messages(body)
    assert message.startswith(f"{place}: ")
    assert what in message


SECRET = "P207000016049"


@pytest.mark.parametrize(
    "body",
    [
        rf'["{SECRET}\u0000"]',
        rf'["{SECRET}\ud800"]',
        rf'["{SECRET}\x"]',
        f'["{SECRET}\n"]',
        f'["{SECRET}]',
        f"[{SECRET}]",
        f"['{SECRET}']",
        f'["" "{SECRET}"]',
        f'{{"upn": "{SECRET}", "upn": "{SECRET}"}}',
        f'{{"upn" "{SECRET}"}}',
        f'"{SECRET}" "{SECRET}"',
    ],
)
def test_no_value_is_repeated(body: str) -> None:
    with pytest.raises(MalformedJson) as refused:
        parse(body.encode())
    assert SECRET not in str(refused.value) + repr(refused.value.issues)


def test_a_pointer_can_always_be_sent_back() -> None:
    key = "k" * 5000
    ((pointer, _),) = faults(f'{{"\\ud800{key}": 0}}'.encode())
    assert pointer.encode()
    assert len(pointer) < 200
    assert pointer.startswith("/\ufffdkkk")
    assert pointer.endswith("…")


def test_a_long_list_of_issues_is_cut_and_says_so() -> None:
    exactly = b"[" + b",".join([b"NaN"] * MAX_ISSUES) + b"]"
    assert len(faults(exactly)) == MAX_ISSUES
    assert faults(exactly)[-1] == (f"/{MAX_ISSUES - 1}", "json-not-a-number")
    more = faults(b"[" + b",".join([b"NaN"] * (MAX_ISSUES + 1)) + b"]")
    assert len(more) == MAX_ISSUES + 1
    assert more[-1] == ("", "json-more")
    assert more[:-1] == faults(exactly)


# Hostile bodies


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"":' * 200_000,
        b"[1," * 200_000,
        b"[" * 200_000 + b'"' + b'\\"' * 200_000,
    ],
)
def test_any_depth_is_refused_without_recursion(body: bytes) -> None:
    ((pointer, code),) = faults(body)
    assert code == "json-too-deep"
    assert pointer.count("/") == MAX_DEPTH


def test_what_follows_a_value_nested_too_deep_is_still_searched() -> None:
    deep = b'{"a": "]}\\"", "b": ' * 500 + b"[[[0]], [[0]], 0]" + b"}" * 500
    codes = [("/0" + "/b" * (MAX_DEPTH - 1), "json-too-deep"), ("/1", "json-not-a-number")]
    assert faults(b"[" + deep + b", NaN]") == codes


def test_the_search_stops_after_a_limit_and_says_where() -> None:
    long = b"[" + b"1," * MAX_TOKENS + b"NaN]"
    assert faults(long) == [(f"/{MAX_TOKENS // 2 - 1}", "json-more")]


def test_sound_entries_do_not_count_against_that_limit() -> None:
    entry = json.dumps({"marks": list(range(100))}).encode()
    entries = MAX_TOKENS // 100
    assert faults(b'{"entries": [' + (entry + b", ") * entries + b"NaN]}") == [(f"/entries/{entries}", "json-not-a-number")]


# Against the standard library, which says what is JSON, and a plain reading of the other rules


def acceptable(body: bytes) -> bool:
    """The rules once more, in the shortest words that say them."""

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError
        return dict(pairs)

    def constant(word: str) -> object:
        raise ValueError

    def fit(value: object, depth: int) -> bool:
        match value:
            case str():
                return not re.search("[\0\ud800-\udfff]", value)
            case bool() | None:
                return True
            case int():
                return -(2**63) <= value < 2**63
            case float():
                return not isinf(value)
            case list():
                return depth < MAX_DEPTH and all(fit(item, depth + 1) for item in value)
            case dict():
                return depth < MAX_DEPTH and all(fit(key, depth) and fit(item, depth + 1) for key, item in value.items())
            case _:
                return False

    try:
        return fit(json.loads(body.decode(), object_pairs_hook=members, parse_constant=constant), 0)
    except ValueError:
        return False


TEXT_FRAGMENTS = rb"""{ } [ ] [[] {"a":[ ]} , : " "a" "b" "a": 1 - .5 e999 99999999999999999999 NaN -Infinity true '
    \ \u \u0000 \ud83d \ude00""".split()
BYTE_FRAGMENTS = [b" ", b"\n", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc3\xa9", b"[" * 40, b"]" * 40]
FRAGMENTS = st.lists(st.sampled_from([*TEXT_FRAGMENTS, *BYTE_FRAGMENTS]), max_size=12).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound document with a piece cut out of it and another put in."""
    body = json.dumps(draw(VALUES), ensure_ascii=draw(st.booleans())).encode()
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(FRAGMENTS) + body[at + draw(st.integers(0, 3)) :]


@settings(deadline=None)
@given(body=FRAGMENTS | damaged() | damaged().map(lambda inside: b'{"entries": [{"a": 1}, ' + inside + b"]}"))
def test_decision_and_search_agree_on_any_body(body: bytes) -> None:
    if acceptable(body):
        assert json.dumps(parse(body)) == json.dumps(json.loads(body))
        return
    with pytest.raises(MalformedJson) as refused:
        parse(body)
    assert refused.value.issues
    for pointer, code, message in refused.value.issues:
        assert code in CODES
        assert pointer == "" or pointer.startswith("/")
        assert (pointer + message).encode()
